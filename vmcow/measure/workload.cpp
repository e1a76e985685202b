#include "vmcow/measure/workload.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "vmcow/units.hpp"

namespace vmcow::measure {
namespace {

/// No address space that this runs in holds more, and no sum of sizes below overflows.
constexpr std::uint64_t kLargestImage = std::uint64_t{1} << 46;

}  // namespace

const char* name_of(Pattern pattern) noexcept {
    switch (pattern) {
        case Pattern::uniform:
            return "uniform";
        case Pattern::sequential:
            return "sequential";
        case Pattern::stride:
            return "stride";
        case Pattern::zipf:
            return "zipf";
        case Pattern::hot:
            return "hot";
    }
    return "unknown";
}

void Workload::validate() const {
    const auto reject = [](const std::string& why) { throw std::invalid_argument(why); };
    if (size_bytes == 0) reject("an image of 0 bytes has nothing to write to");
    if (size_bytes > kLargestImage) {
        reject("an image of " + std::to_string(size_bytes) + " bytes is larger than an address space");
    }
    if (writes == 0) reject("0 writes leave nothing to measure");
    if (write_bytes == 0) reject("a write of 0 bytes writes nothing");
    if (write_bytes > size_bytes) {
        reject("a write of " + std::to_string(write_bytes) + " bytes is larger than the image of " +
               std::to_string(size_bytes));
    }
    if (writes > std::numeric_limits<std::uint64_t>::max() / write_bytes) {
        reject(std::to_string(writes) + " writes of " + std::to_string(write_bytes) +
               " bytes are more than 64 bits can count");
    }
    if (!(rewrite_same >= 0 && rewrite_same <= 1)) {
        reject("the share of writes that change nothing is between 0 and 1, not " + std::to_string(rewrite_same));
    }
}

Starts::Starts(const Workload& workload) noexcept
    : step_bytes(workload.aligned ? workload.write_bytes : 1),
      count((workload.size_bytes - workload.write_bytes) / step_bytes + 1),
      hot(std::max<std::uint64_t>(count / 10, 1)),
      per_unit(std::max<std::uint64_t>(kPageBytes / step_bytes, 1)),
      units((count + per_unit - 1) / per_unit) {}

Stride::Stride(const Workload& workload) noexcept {
    const std::uint64_t length = workload.write_bytes;
    stride_bytes = std::max<std::uint64_t>(kPageBytes, length);
    if (workload.aligned) stride_bytes = (stride_bytes + length - 1) / length * length;
    stride_bytes = std::min(stride_bytes, workload.size_bytes / length * length);
    slots = workload.size_bytes / stride_bytes;
    laps = stride_bytes / length;
}

WriteSequence::WriteSequence(const Workload& workload) noexcept
    : workload_(workload),
      starts_(workload),
      stride_(workload),
      ranks_(starts_.units),
      scatter_(starts_.units),
      places_(workload.seed),
      sames_(~workload.seed) {}

Write WriteSequence::next() noexcept {
    const std::uint64_t offset = next_offset();
    ++done_;
    return {offset, workload_.rewrite_same > 0 && unit_real(sames_) < workload_.rewrite_same};
}

std::uint64_t WriteSequence::next_offset() noexcept {
    switch (workload_.pattern) {
        case Pattern::sequential:
            return done_ % (workload_.size_bytes / workload_.write_bytes) * workload_.write_bytes;
        case Pattern::stride:
            return done_ % stride_.slots * stride_.stride_bytes +
                   done_ / stride_.slots % stride_.laps * workload_.write_bytes;
        case Pattern::uniform:
        case Pattern::zipf:
        case Pattern::hot:
            break;
    }
    return next_index() * starts_.step_bytes;
}

std::uint64_t WriteSequence::next_index() noexcept {
    if (workload_.pattern == Pattern::hot && starts_.hot < starts_.count) {
        if (bounded(places_, 10) < Starts::kHotWritesOfTen) return bounded(places_, starts_.hot);
        return starts_.hot + bounded(places_, starts_.count - starts_.hot);
    }
    if (workload_.pattern == Pattern::zipf) {
        const std::uint64_t first = scatter_(ranks_.draw(places_) - 1) * starts_.per_unit;
        return first + bounded(places_, std::min(starts_.per_unit, starts_.count - first));
    }
    return bounded(places_, starts_.count);
}

}  // namespace vmcow::measure
