#include "vmcow/image/page_compare.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace vmcow {

std::uint64_t differing_bytes(const std::byte* a, const std::byte* b) noexcept {
    if (std::memcmp(a, b, kPageBytes) == 0) return 0;
    constexpr std::uint64_t kLow7 = 0x7f7f7f7f7f7f7f7f;
    std::uint64_t differing = 0;
    for (std::size_t i = 0; i < kPageBytes; i += sizeof(std::uint64_t)) {
        std::uint64_t x = 0;
        std::uint64_t y = 0;
        std::memcpy(&x, a + i, sizeof(x));
        std::memcpy(&y, b + i, sizeof(y));
        const std::uint64_t mixed = x ^ y;
        // The top bit of each byte of the sum says whether the byte is not zero: no carry leaves a byte.
        const std::uint64_t flags = (((mixed & kLow7) + kLow7) | mixed) & ~kLow7;
        differing += static_cast<std::uint64_t>(std::popcount(flags));
    }
    return differing;
}

std::vector<PageRun> subtract(const std::vector<PageRun>& runs, const std::vector<PageRun>& without) {
    std::vector<PageRun> left;
    auto hole = without.begin();
    for (const PageRun& run : runs) {
        PageIndex at = run.first;
        while (hole != without.end() && hole->end() <= at) ++hole;
        for (auto inside = hole; inside != without.end() && inside->first < run.end(); ++inside) {
            if (at < inside->first) left.push_back({at, inside->first - at});
            at = std::max(at, inside->end());
        }
        if (at < run.end()) left.push_back({at, run.end() - at});
    }
    return left;
}

}  // namespace vmcow
