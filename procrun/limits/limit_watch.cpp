#include "procrun/limits/limit_watch.hpp"

#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "procrun/limits/limit_reasons.hpp"

namespace procrun {
namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds kSoonestLook = std::chrono::milliseconds{1};
constexpr nanoseconds kLatestLook = std::chrono::milliseconds{10};

std::optional<std::uint64_t> count_of(const std::optional<nanoseconds>& limit) {
    if (!limit) return std::nullopt;
    return static_cast<std::uint64_t>(std::max(limit->count(), nanoseconds::rep{0}));
}

std::optional<std::uint64_t> count_of(const std::optional<vmcow::PageCount>& limit) {
    if (!limit) return std::nullopt;
    return limit->value;
}

std::uint64_t difference(std::uint64_t now, std::uint64_t before) noexcept { return now < before ? 0 : now - before; }

}  // namespace

/// Returns the number that `look` reads. When it cannot be read, `watched` keeps the error as the reason (I8), unless
/// the process has ended.
template <class Look>
std::optional<std::uint64_t> LimitWatch::look_at(Watched& watched, Look&& look) {
    try {
        const std::uint64_t found = look();
        watched.unknown.clear();
        return found;
    } catch (const std::system_error& error) {
        if (error.code() != std::errc::no_such_process) watched.unknown = error.what();
        return std::nullopt;
    }
}

LimitWatch::LimitWatch(ProcessCounters& counters, const CallLimits& limits, std::vector<vmcow::WritableRange> images,
                       CallStart start)
    : counters_(&counters),
      images_(std::move(images)),
      processor_{"processor time", count_of(limits.processor_time), {}, 0, {}},
      memory_{"memory", limits.memory_bytes, {}, 0, {}},
      copied_{"copied pages", count_of(limits.copied_pages), {}, 0, {}},
      last_look_(Clock::now()),
      widest_(memory_.limit || copied_.limit ? kSoonestLook : kLatestLook),
      interval_(widest_) {
    const auto time_so_far = [&] { return static_cast<std::uint64_t>(counters.processor_time().count()); };
    processor_.before = start == CallStart::forked ? 0 : look_at(processor_, time_so_far);
    if (memory_.limit) memory_.before = look_at(memory_, [&] { return counters.anonymous_bytes(); });
    if (copied_.limit) begin_counting_copies(start);
    if (processor_.limit) pace_processor_time();
}

/// For a process that keeps pages, the faults are read before the pages: otherwise the fault of a page that is copied
/// in between would be missed.
void LimitWatch::begin_counting_copies(CallStart start) {
    if (start == CallStart::forked) {
        copied_.before = 0;
        return;
    }
    const auto faults = look_at(copied_, [&] { return counters_->faults(); });
    if (!faults) return;
    faults_at_scan_ = *faults;
    copied_.before = 0;
    if (start == CallStart::remapped) return;
    copied_.before = look_at(copied_, [&] {
        const std::vector<vmcow::PageCount> now = counters_->private_pages(images_);
        for (std::size_t i = 0; i < images_.size(); ++i) images_[i].placed = now[i];
        return std::uint64_t{0};
    });
}

/// Scans pages only when needed. Each page is copied in a fault, so the result of the last scan stands while there were
/// too few faults since then to break the limit. (A count of the process's memory would not do instead: it also falls.)
std::uint64_t LimitWatch::count_copies() {
    const std::uint64_t faults = counters_->faults();
    if (copied_.used + difference(faults, faults_at_scan_) <= *copied_.limit) return copied_.used;
    const std::vector<vmcow::PageCount> now = counters_->private_pages(images_);
    std::uint64_t copied = 0;
    for (std::size_t i = 0; i < images_.size(); ++i) copied += difference(now[i].value, images_[i].placed.value);
    faults_at_scan_ = faults;
    return copied;
}

Deadline LimitWatch::next_look() const {
    if (!processor_.limit && !memory_.limit && !copied_.limit) return Deadline::never();
    return Deadline::at(last_look_ + interval_);
}

void LimitWatch::look_not_after(nanoseconds interval) {
    interval_ = std::min(interval_, std::max(interval, kSoonestLook));
}

/// Looks again when the limit would be reached if all processors worked for this call.
void LimitWatch::pace_processor_time() {
    const auto left = static_cast<nanoseconds::rep>(difference(*processor_.limit, processor_.used));
    look_not_after(nanoseconds{left / std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L)});
}

/// Reads a counter, and looks again when it would reach the limit if it went on growing as fast as since the last look.
template <class Look>
void LimitWatch::look_at_paced(Watched& watched, nanoseconds elapsed, Look&& look) {
    if (!watched.limit || !watched.before) return;
    const std::optional<std::uint64_t> now = look_at(watched, look);
    if (!now) return;
    const std::uint64_t used = difference(*now, *watched.before);
    const auto grown = static_cast<double>(difference(used, std::exchange(watched.used, used)));
    const auto left = static_cast<double>(difference(*watched.limit, used));
    const double reached_after = left / std::max(grown, 1.0) * static_cast<double>(elapsed.count());
    look_not_after(
        nanoseconds{static_cast<nanoseconds::rep>(std::min(reached_after, static_cast<double>(kLatestLook.count())))});
}

std::optional<std::string> LimitWatch::exceeded() {
    const nanoseconds elapsed = Clock::now() - std::exchange(last_look_, Clock::now());
    widest_ = std::min(widest_ * 2, kLatestLook);
    interval_ = widest_;
    if (processor_.limit) {
        if (const auto used = processor_time()) processor_.used = count_of(used).value();
        pace_processor_time();
        if (processor_.is_over()) return processor_limit_reason(processor_.used, *processor_.limit);
    }
    look_at_paced(memory_, elapsed, [&] { return counters_->anonymous_bytes(); });
    if (memory_.is_over()) return memory_limit_reason(memory_.used, *memory_.limit);
    look_at_paced(copied_, elapsed, [&] { return count_copies(); });
    if (copied_.is_over()) return copied_limit_reason(copied_.used, *copied_.limit);
    return std::nullopt;
}

std::optional<std::string> LimitWatch::exceeded_at_end(std::optional<nanoseconds> processor_time,
                                                       std::optional<vmcow::PageCount> copied) const {
    const auto time = count_of(processor_time);
    if (time && processor_.limit && *time > *processor_.limit) return processor_limit_reason(*time, *processor_.limit);
    if (copied && copied_.limit && copied->value > *copied_.limit)
        return copied_limit_reason(copied->value, *copied_.limit);
    return std::nullopt;
}

std::optional<nanoseconds> LimitWatch::processor_time() const {
    if (!processor_.before) return std::nullopt;
    try {
        return counters_->processor_time() - nanoseconds{static_cast<nanoseconds::rep>(*processor_.before)};
    } catch (const std::system_error&) {
        return std::nullopt;  // the process has been reaped
    }
}

std::vector<std::string> LimitWatch::unknown() const {
    std::vector<std::string> reasons;
    for (const Watched* watched : {&processor_, &memory_, &copied_}) {
        if (watched->limit && !watched->unknown.empty()) {
            reasons.push_back(fmt::format("{}: {}", watched->name, watched->unknown));
        }
    }
    return reasons;
}

}  // namespace procrun
