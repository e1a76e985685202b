#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/limits.hpp"
#include "procrun/limits/process_counters.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/units.hpp"

namespace procrun {

/// How a process began a call. It decides how much of what the process has used is the call's own.
enum class CallStart {
    forked,    ///< forked for this call: all its processor time and page copies are the call's
    remapped,  ///< a warm process that maps its images anew: all their page copies are the call's, earlier use is not
    resident,  ///< a warm process that keeps the pages which earlier calls copied: those are not the call's
};

/// Watches the polled limits of one call from the caller's process. The caller waits for the end of the call until
/// `next_look()`, then asks `exceeded()`, and kills the process when that returns a reason:
///
///     LimitWatch watch(counters, limits, images, CallStart::forked);
///     while (!wait_for_reply(earlier_of(deadline, watch.next_look()))) {
///         if (const auto reason = watch.exceeded()) …
///     }
///     … watch.exceeded_at_end(…) …
///
/// It is made before the call begins, or right after the fork: memory that a call has taken by then does not count as
/// the call's. Counted is what the process itself uses, not what children use that the function forks. Two uses of
/// memory are not seen: a forked process that writes to its copy of the caller's heap only replaces memory that is
/// counted already, and a warm process that remaps may take again the pages that it gave back.
///
/// Throws:  nothing but std::bad_alloc. `unknown()` names what cannot be read, as when the caller is out of descriptors
///          (I8).
/// Cost:    a look takes 12 µs at most, and a page scan only after as many page faults as could break the limit.
/// Threads: one at a time.
class LimitWatch {
public:
    /// `images` are the ranges of images that the call can write to. Their `placed` pages were there from the start;
    /// for CallStart::resident the constructor counts these pages itself. Pre: `counters` lives longer.
    LimitWatch(ProcessCounters& counters, const CallLimits& limits, std::vector<vmcow::WritableRange> images,
               CallStart start);
    LimitWatch(const LimitWatch&) = delete;
    LimitWatch& operator=(const LimitWatch&) = delete;

    /// When to look next: as soon as a limit could be reached, but 1 ms after the last look at the earliest and 10 ms
    /// at the latest. Never, when no limit is polled.
    [[nodiscard]] Deadline next_look() const;

    /// Looks now, and says for people which limit is exceeded: "processor time: 112 ms of at most 100 ms", "memory:
    /// 80.3 MiB of at most 64.0 MiB (polled)", "copied pages: 5210 of at most 4096". nullopt when none is. Of a process
    /// that has ended only the processor time is known, and only while it is a zombie.
    [[nodiscard]] std::optional<std::string> exceeded();

    /// Which limit the call has exceeded by the totals that are known: it may have ended between two looks.
    [[nodiscard]] std::optional<std::string> exceeded_at_end(std::optional<std::chrono::nanoseconds> processor_time,
                                                             std::optional<vmcow::PageCount> copied) const;

    /// Processor time since the call began; nullopt when it is unknown.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> processor_time() const;

    /// The limits that could not be watched, each with the reason: "memory: open '/proc/7/status': Too many open
    /// files". Empty when all are watched.
    [[nodiscard]] std::vector<std::string> unknown() const;

private:
    using Clock = Deadline::Clock;

    /// One limit: what the process had used before, what the call has used since, and why that is unknown.
    struct Watched {
        const char* name;
        std::optional<std::uint64_t> limit;
        std::optional<std::uint64_t> before;
        std::uint64_t used = 0;
        std::string unknown;

        [[nodiscard]] bool is_over() const noexcept { return limit && used > *limit; }
    };

    template <class Look>
    static std::optional<std::uint64_t> look_at(Watched& watched, Look&& look);
    template <class Look>
    void look_at_paced(Watched& watched, std::chrono::nanoseconds elapsed, Look&& look);
    void begin_counting_copies(CallStart start);
    [[nodiscard]] std::uint64_t count_copies();
    void pace_processor_time();
    void look_not_after(std::chrono::nanoseconds interval);

    ProcessCounters* counters_;
    std::vector<vmcow::WritableRange> images_;
    Watched processor_;
    Watched memory_;
    Watched copied_;
    std::uint64_t faults_at_scan_ = 0;  // the count of faults at the scan that found copied_.used
    Clock::time_point last_look_;
    std::chrono::nanoseconds widest_;    // the interval while nothing comes near its limit; doubles with each look
    std::chrono::nanoseconds interval_;  // from the last look to the next
};

}  // namespace procrun
