#include "vmcow/meter/compare/peer_workload.hpp"

#include <bit>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/meter/compare/compared_value.hpp"
#include "vmcow/sys/memfd.hpp"

namespace vmcow::meter {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "vmcowcmp";
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kHeaderWords = 6;

/// A mask of `count` bytes of a word, from byte `first` on.
std::uint64_t mask_of(std::size_t first, std::size_t count) noexcept {
    const std::uint64_t bits = count == kWordBytes ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * count) - 1;
    return bits << 8 * first;
}

}  // namespace

std::optional<sys::UniqueFd> peer_workload(const Workload& workload, std::uint64_t children, std::uint64_t most) {
    if (workload.writes > most) return std::nullopt;
    std::vector<std::uint64_t> content(kHeaderWords);
    std::uint64_t writes = 0;
    WriteSequence sequence(workload);
    for (std::uint64_t i = 0; i < workload.writes; ++i) {
        const Write write = sequence.next();
        if (write.bytes / kWordBytes > most) return std::nullopt;
        for_each_word(write, [&](std::uint64_t index, std::size_t first, std::size_t count) {
            const std::uint64_t mask = mask_of(first, count);
            content.insert(content.end(), {index, mask, stored(write, index) & mask});
            ++writes;
        });
        if (writes > most) return std::nullopt;
    }
    WriteSequence again(workload);
    for (std::uint64_t i = 0; i < workload.writes; ++i) content.push_back(again.next().offset / kWordBytes);
    std::memcpy(content.data(), kMagic.data(), kMagic.size());
    content[1] = kVersion;
    content[2] = word_count(workload);
    content[3] = children;
    content[4] = writes;
    content[5] = workload.writes;

    const std::string name = "compare";
    sys::UniqueFd file = sys::create_memfd(name);
    sys::write_all(file.get(), std::as_bytes(std::span(content)), name);
    sys::seal_memfd(file.get(), name);
    return file;
}

}  // namespace vmcow::meter
