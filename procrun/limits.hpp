#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "procrun/deadline.hpp"
#include "vmcow/mapped_image.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/units.hpp"

namespace procrun {

/// What one call may use. nullopt: as much as it likes.
struct CallLimits {
    /// Of all threads of the call together.
    std::optional<std::chrono::nanoseconds> processor_time = std::nullopt;
    /// Pages of images that the kernel copies because the call writes to them.
    std::optional<vmcow::PageCount> copied_pages = std::nullopt;
    /// Descriptors that the function may have open beyond those that were open when it began.
    std::optional<std::uint32_t> open_files = std::nullopt;
    /// Anonymous memory beyond what the process had before the call; copied pages of images are part of it.
    std::optional<std::uint64_t> memory_bytes = std::nullopt;

    [[nodiscard]] bool any() const noexcept { return polled() || open_files; }
    /// Whether the caller has to look from time to time: `LimitWatch`.
    [[nodiscard]] bool polled() const noexcept { return processor_time || copied_pages || memory_bytes; }
};

/// Who sees to it that a call keeps its memory limit.
enum class MemoryLimitBy {
    cgroup,   ///< the kernel, at the first page too many: `MemoryCgroup`
    polling,  ///< the caller, who looks every few milliseconds: `LimitWatch`
};

/// "cgroup" or "polling".
[[nodiscard]] const char* name_of(MemoryLimitBy by) noexcept;

/// What an outcome says of a call that a cgroup has ended: "memory: more than 64.0 MiB (cgroup)".
[[nodiscard]] std::string cgroup_limit_reason(std::uint64_t memory_bytes);

/// "80.3 MiB of at most 64.0 MiB", with as many digits as it takes to tell the two apart. Pre: `used` is more.
[[nodiscard]] std::string bytes_of_at_most(std::uint64_t used, std::uint64_t limit);

/// How a process came to its call, which tells what of its use is the call's own.
enum class CallStart {
    forked,    ///< it was forked for this call: all its processor time and page copies are the call's
    remapped,  ///< a warm process that maps its images anew: their pages are, what it used before is not
    resident,  ///< a warm process that keeps the pages which earlier calls copied: they are not
};

/// The counters of one process, as others see them. Keeps its descriptors, so that a warm process is opened once.
///
/// Pre:     the process has not been reaped while this is in use: its number could be another's.
/// Threads: one at a time.
/// Source:  clock_getcpuclockid(3); proc(5) /proc/PID/status and /proc/PID/stat.
class ProcessCounters {
public:
    /// Opens nothing yet.
    explicit ProcessCounters(pid_t pid) noexcept;

    /// Processor time of all threads, those that ended included; also of a zombie. Runs behind by up to a tick of the
    /// scheduler for threads that run right now. Takes no descriptor.
    /// Throws: std::system_error -- ESRCH: reaped.
    [[nodiscard]] std::chrono::nanoseconds processor_time() const;
    /// Anonymous memory, resident or swapped. The kernel counts per processor and may be behind by some hundred KiB
    /// for each, before Linux 6.17.
    /// Throws: std::system_error -- EMFILE, EACCES; ESRCH: ended; ENODATA: its first thread has ended and others run
    /// on, which the kernel does not tell of.
    [[nodiscard]] std::uint64_t anonymous_bytes();
    /// Page faults of all threads: no page of an image is copied without one.
    /// Throws: std::system_error -- EMFILE, EACCES; ESRCH: ended.
    [[nodiscard]] std::uint64_t faults();
    /// The private pages in each of `ranges`, in their order. Cost: a page scan each.
    /// Throws: std::system_error -- EMFILE, EACCES; ESRCH: ended, or runs another program now.
    [[nodiscard]] std::vector<vmcow::PageCount> private_pages(const std::vector<vmcow::WritableRange>& ranges);

private:
    void open(vmcow::sys::UniqueFd& fd, const char* name) const;

    pid_t pid_;
    clockid_t clock_{};
    int clock_error_;  // after the clock, which it is the errno of
    vmcow::sys::UniqueFd status_;
    vmcow::sys::UniqueFd stat_;
    std::optional<vmcow::sys::PageScanner> scanner_;
};

/// Watches one call's polled limits from the caller's process. The caller waits for the call's end until `next_look()`,
/// then asks `exceeded()`, and ends the process when there is an answer:
///
///     LimitWatch watch(counters, limits, images, CallStart::forked);
///     while (!wait_for_reply(earlier_of(deadline, watch.next_look()))) {
///         if (const auto reason = watch.exceeded()) …
///     }
///     … watch.exceeded_at_end(…) …
///
/// Made before the call begins, or right after the fork: memory that a call has taken by then is not seen as its own.
/// What is counted is what the process itself uses, not what children use that the function forks. A forked process
/// that writes to its copy of the caller's heap replaces memory that is counted already, so that it seems to take none;
/// pages that a remapping warm process gives back may be taken again.
///
/// Throws:  nothing but std::bad_alloc. What cannot be looked at, say because the caller is out of descriptors, is told
///          by `unknown()` (I8).
/// Cost:    a look takes 12 µs at most, and a page scan only after as many page faults as could break the limit.
/// Threads: one at a time.
class LimitWatch {
public:
    /// `images` is where the call can write to images; `placed` pages of each are there from the start (they are
    /// counted here for CallStart::resident). Pre: `counters` lives longer.
    LimitWatch(ProcessCounters& counters, const CallLimits& limits, std::vector<vmcow::WritableRange> images,
               CallStart start);
    LimitWatch(const LimitWatch&) = delete;
    LimitWatch& operator=(const LimitWatch&) = delete;

    /// When to look next: 10 ms after the last look at the latest and 1 ms at the earliest; in between, as soon as a
    /// limit could be reached. Never, when no limit is polled.
    [[nodiscard]] Deadline next_look() const;

    /// Looks now. What has been exceeded, for people: "processor time: 112 ms of at most 100 ms", "memory: 80.3 MiB of
    /// at most 64.0 MiB (polled)", "copied pages: 5210 of at most 4096". nullopt also for a process that has ended,
    /// except that the processor time of a zombie is still known.
    [[nodiscard]] std::optional<std::string> exceeded();

    /// The same for what the call used in all, where that is known: it may have ended between two looks.
    [[nodiscard]] std::optional<std::string> exceeded_at_end(std::optional<std::chrono::nanoseconds> processor_time,
                                                             std::optional<vmcow::PageCount> copied) const;

    /// Processor time since the call began; nullopt when it is not known.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> processor_time() const;

    /// The limits that are not being watched, each with the reason: "memory: open '/proc/7/status': Too many open
    /// files". Empty when all is well.
    [[nodiscard]] std::vector<std::string> unknown() const;

private:
    using Clock = Deadline::Clock;

    /// One limit: what the process had before, what the call has used since, and why that is not known.
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
    std::uint64_t faults_at_scan_ = 0;  // of which copied_.used is the result
    Clock::time_point last_look_;
    std::chrono::nanoseconds widest_;    // the interval when nothing comes near its limit; grows with the call
    std::chrono::nanoseconds interval_;  // until the next look
};

/// While it lives, this process can open `more` descriptors beyond those that are open now: lowers the soft
/// RLIMIT_NOFILE, and puts it back at the end. That limit is a bound of the descriptor's number and not of their count;
/// as the kernel hands out the lowest free number, it is set to the one below which just so many are free. A guard
/// against mistakes: a process can raise its own soft limit again.
///
///     OpenFilesLimit files(limits.open_files);
///     try {
///         function();
///     } catch (const std::system_error& error) {
///         if (files.is_reason_of(error)) …  // limit exceeded: OpenFilesLimit::reason(…)
///     }
///
/// Cost:    two system calls and an fcntl(2) for each number below the new limit. poll(2) of many at once would be
///          faster, but it takes descriptors of O_PATH for closed ones; /proc/self/fd takes a descriptor itself.
/// Threads: the limit is one of the whole process. Pre: no other thread opens or closes descriptors meanwhile.
/// After fork: async-signal-safe, no allocation (I7); a child forked meanwhile inherits the limit.
/// Source:  getrlimit(2), which glibc makes plain system calls.
class OpenFilesLimit {
public:
    /// nullopt: no limit, nothing is done.
    explicit OpenFilesLimit(std::optional<std::uint32_t> more) noexcept;
    ~OpenFilesLimit();
    OpenFilesLimit(const OpenFilesLimit&) = delete;
    OpenFilesLimit& operator=(const OpenFilesLimit&) = delete;

    /// 0, or the errno with which the kernel refused the limit.
    [[nodiscard]] int error() const noexcept { return error_; }
    /// False also when the process's own soft limit allows no more than `more` anyway.
    [[nodiscard]] bool in_force() const noexcept { return in_force_; }
    /// Whether an error of the function comes from this limit.
    [[nodiscard]] bool is_reason_of(const std::system_error& error) const noexcept;

    /// What an outcome says then: "open files: at most 16".
    [[nodiscard]] static std::string reason(std::uint32_t more);

private:
    rlim_t previous_ = 0;
    int error_ = 0;
    bool in_force_ = false;
};

}  // namespace procrun
