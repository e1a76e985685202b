#include "vmcow/meter/model/model.hpp"

#include <algorithm>
#include <cmath>

#include "vmcow/meter/model/index_set.hpp"
#include "vmcow/meter/model/occupancy.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::meter {
namespace {

/// Counts the blocks that hold a byte of at least one interval. Pre: the intervals are added in ascending order.
class BlockCounter {
public:
    explicit BlockCounter(std::uint64_t block_bytes) : block_bytes_(block_bytes) {}

    void add(std::uint64_t offset, std::uint64_t bytes) noexcept {
        const std::uint64_t first = std::max(offset / block_bytes_, next_);
        next_ = std::max((offset + bytes - 1) / block_bytes_ + 1, next_);
        count_ += next_ - std::min(first, next_);
    }
    [[nodiscard]] Expectation exactly() const noexcept { return {static_cast<double>(count_), 0.0}; }

private:
    std::uint64_t block_bytes_;
    std::uint64_t next_ = 0;
    std::uint64_t count_ = 0;
};

Expectation count_sequential(const Workload& workload, std::uint64_t block_bytes) {
    const std::uint64_t places = workload.size_bytes / workload.write_bytes;
    BlockCounter counter(block_bytes);
    counter.add(0, std::min(workload.writes, places) * workload.write_bytes);
    return counter.exactly();
}

Expectation count_stride(const Workload& workload, std::uint64_t block_bytes) {
    const Stride stride(workload);
    const std::uint64_t whole_laps = workload.writes / stride.slots;
    const std::uint64_t one_more = workload.writes % stride.slots;
    BlockCounter counter(block_bytes);
    for (std::uint64_t slot = 0; slot < stride.slots; ++slot) {
        const std::uint64_t laps = std::min(whole_laps + (slot < one_more ? 1 : 0), stride.laps);
        if (laps == 0) break;
        counter.add(slot * stride.stride_bytes, laps * workload.write_bytes);
    }
    return counter.exactly();
}

Expectation count_trace(const Workload& workload, std::uint64_t block_bytes) {
    IndexSet touched((workload.size_bytes - 1) / block_bytes + 1);
    std::uint64_t count = 0;
    for (const TracedWrite& write : workload.trace->writes().first(workload.writes)) {
        const std::uint64_t first = write.offset / block_bytes;
        count += touched.add(first, (write.offset + write.bytes - 1) / block_bytes - first + 1);
    }
    return {static_cast<double>(count), 0.0};
}

}  // namespace

Expectation expect_copied(const Workload& workload, std::uint64_t block_bytes) {
    VMCOW_ASSERT(block_bytes > 0);
    VMCOW_ASSERT(workload.size_bytes > 0 && workload.writes > 0 && "an invalid workload");
    switch (workload.pattern) {
        case Pattern::sequential:
            return count_sequential(workload, block_bytes);
        case Pattern::stride:
            return count_stride(workload, block_bytes);
        case Pattern::trace:
            return count_trace(workload, block_bytes);
        case Pattern::uniform:
            if (!workload.aligned) return expect_uniform(workload, block_bytes);
            break;
        case Pattern::zipf:
        case Pattern::hot:
            break;
    }
    return expect_by_block(workload, block_bytes);
}

std::optional<double> residual_sigma(const Expectation& expected, std::uint64_t blocks) noexcept {
    if (!expected.sigma) return std::nullopt;
    const double difference = static_cast<double>(blocks) - expected.blocks;
    if (*expected.sigma > 0) return difference / *expected.sigma;
    // A sum of many probabilities of 1 may be off by rounding.
    if (std::abs(difference) > 1e-9 * (1 + expected.blocks)) return std::nullopt;
    return 0.0;
}

}  // namespace vmcow::meter
