#include "vmcow/meter/model/workload.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {
namespace {

[[noreturn]] void reject(const std::string& why) { throw std::invalid_argument(why); }

void validate_trace(const Workload& workload) {
    if (!workload.trace) reject("there is no trace to replay");
    const auto writes = workload.trace->writes();
    if (workload.writes > writes.size()) {
        reject(std::to_string(workload.writes) + " writes are more than the " + std::to_string(writes.size()) +
               " of the trace");
    }
    if (workload.trace->end_bytes() <= workload.size_bytes) return;
    for (std::size_t i = 0; i < workload.writes; ++i) {
        const std::uint64_t end = writes[i].offset + writes[i].bytes;
        if (end <= workload.size_bytes) continue;
        reject("write " + std::to_string(i + 1) + " of the trace ends at " + std::to_string(end) +
               ", behind the image of " + std::to_string(workload.size_bytes) + " bytes");
    }
}

void validate_generated(const Workload& workload) {
    if (workload.trace) reject("there is a trace, but the pattern is not 'trace'");
    if (workload.write_bytes == 0) reject("a write of 0 bytes writes nothing");
    if (workload.write_bytes > workload.size_bytes) {
        reject("a write of " + std::to_string(workload.write_bytes) + " bytes is larger than the image of " +
               std::to_string(workload.size_bytes));
    }
    if (workload.writes > std::numeric_limits<std::uint64_t>::max() / workload.write_bytes) {
        reject(std::to_string(workload.writes) + " writes of " + std::to_string(workload.write_bytes) +
               " bytes are more than 64 bits can count");
    }
}

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
        case Pattern::trace:
            return "trace";
    }
    return "unknown";
}

void Workload::validate() const {
    if (size_bytes == 0) reject("an image of 0 bytes has nothing to write to");
    if (size_bytes > kLargestImage) {
        reject("an image of " + std::to_string(size_bytes) + " bytes is larger than an address space");
    }
    if (writes == 0) reject("0 writes leave nothing to measure");
    if (!(rewrite_same >= 0 && rewrite_same <= 1)) {
        reject("the share of writes that change nothing is between 0 and 1, not " + std::to_string(rewrite_same));
    }
    if (pattern == Pattern::trace) {
        validate_trace(*this);
    } else {
        validate_generated(*this);
    }
}

std::uint64_t Workload::logical_bytes() const noexcept {
    if (pattern != Pattern::trace) return writes * write_bytes;
    std::uint64_t bytes = 0;
    for (const TracedWrite& write : trace->writes().first(writes)) bytes += write.bytes;
    return bytes;
}

Workload replay(std::shared_ptr<const Trace> trace) {
    const std::uint64_t size_bytes = round_up(trace->end_bytes(), kPageBytes);
    const std::uint64_t writes = trace->writes().size();
    return {.size_bytes = size_bytes,
            .writes = writes,
            .write_bytes = 0,
            .pattern = Pattern::trace,
            .trace = std::move(trace)};
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

SequentialPlaces::SequentialPlaces(const Workload& workload) noexcept
    : bytes_(workload.write_bytes), places_(workload.size_bytes / workload.write_bytes) {}

Place SequentialPlaces::next() noexcept {
    const std::uint64_t at = at_;
    at_ = at + 1 == places_ ? 0 : at + 1;
    return {at * bytes_, bytes_};
}

Place StridePlaces::next() noexcept {
    const Place place{slot_ * stride_.stride_bytes + lap_ * bytes_, bytes_};
    if (++slot_ == stride_.slots) {
        slot_ = 0;
        lap_ = lap_ + 1 == stride_.laps ? 0 : lap_ + 1;
    }
    return place;
}

RandomPlaces::RandomPlaces(const Workload& workload) noexcept
    : pattern_(workload.pattern),
      bytes_(workload.write_bytes),
      starts_(workload),
      ranks_(starts_.units),
      scatter_(starts_.units),
      engine_(workload.seed) {}

Place RandomPlaces::next() noexcept { return {next_index() * starts_.step_bytes, bytes_}; }

std::uint64_t RandomPlaces::next_index() noexcept {
    if (pattern_ == Pattern::hot && starts_.hot < starts_.count) {
        if (bounded(engine_, 10) < Starts::kHotWritesOfTen) return bounded(engine_, starts_.hot);
        return starts_.hot + bounded(engine_, starts_.count - starts_.hot);
    }
    if (pattern_ == Pattern::zipf) {
        const std::uint64_t first = scatter_(ranks_.draw(engine_) - 1) * starts_.per_unit;
        return first + bounded(engine_, std::min(starts_.per_unit, starts_.count - first));
    }
    return bounded(engine_, starts_.count);
}

Place TracePlaces::next() noexcept {
    const TracedWrite& write = trace_->writes()[at_];
    at_ = at_ + 1 == trace_->writes().size() ? 0 : at_ + 1;
    return {write.offset, write.bytes};
}

WriteSequence::WriteSequence(const Workload& workload) noexcept
    : places_(places_of(workload)), rewrite_same_(workload.rewrite_same), sames_(~workload.seed) {}

WriteSequence::Places WriteSequence::places_of(const Workload& workload) noexcept {
    VMCOW_ASSERT((workload.pattern == Pattern::trace) == (workload.trace != nullptr) && "an invalid workload");
    VMCOW_ASSERT((workload.trace || (workload.write_bytes > 0 && workload.write_bytes <= workload.size_bytes)) &&
                 "an invalid workload: writes of no bytes, or longer than the image");
    switch (workload.pattern) {
        case Pattern::sequential:
            return SequentialPlaces(workload);
        case Pattern::stride:
            return StridePlaces(workload);
        case Pattern::trace:
            return TracePlaces(workload);
        case Pattern::uniform:
        case Pattern::zipf:
        case Pattern::hot:
            break;
    }
    return RandomPlaces(workload);
}

// std::visit is not used, because it may throw.
Place WriteSequence::next_place() noexcept {
    if (auto* const random = std::get_if<RandomPlaces>(&places_)) return random->next();
    if (auto* const sequential = std::get_if<SequentialPlaces>(&places_)) return sequential->next();
    if (auto* const stride = std::get_if<StridePlaces>(&places_)) return stride->next();
    return std::get_if<TracePlaces>(&places_)->next();
}

Write WriteSequence::next() noexcept {
    const Place place = next_place();
    return {place.offset, place.bytes, rewrite_same_ > 0 && unit_real(sames_) < rewrite_same_};
}

}  // namespace vmcow::meter
