#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <optional>
#include <vector>

#include "vmcow/image/mapped_image.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/units.hpp"

namespace procrun {

/// The counters of one process, read from another. Keeps the descriptors, so that the files of a warm process are
/// opened once.
///
/// Pre:     the process has not been reaped while this is in use: another process could have its number.
/// Threads: one at a time.
/// Source:  clock_getcpuclockid(3); proc(5) /proc/PID/status and /proc/PID/stat.
class ProcessCounters {
public:
    /// Opens no file yet.
    explicit ProcessCounters(pid_t pid) noexcept;

    /// Processor time of all threads, including those that have ended; also of a zombie. For threads that run right now
    /// it is late by up to a tick of the scheduler. Takes no descriptor.
    /// Throws: std::system_error -- ESRCH: reaped.
    [[nodiscard]] std::chrono::nanoseconds processor_time() const;
    /// Anonymous memory, resident or swapped. Before Linux 6.17 the kernel counts per processor, and may be behind by
    /// some hundred KiB for each.
    /// Throws: std::system_error -- EMFILE, EACCES; ESRCH: the process has ended; ENODATA: its first thread has ended
    ///         while others run on, and then the kernel does not tell.
    [[nodiscard]] std::uint64_t anonymous_bytes();
    /// Page faults of all threads: no page of an image is copied without one.
    /// Throws: std::system_error -- EMFILE, EACCES; ESRCH: the process has ended.
    [[nodiscard]] std::uint64_t faults();
    /// The number of private pages in each of `ranges`, in the order of `ranges`. Cost: a page scan each.
    /// Throws: std::system_error -- EMFILE, EACCES; ESRCH: the process has ended, or runs another program now.
    [[nodiscard]] std::vector<vmcow::PageCount> private_pages(const std::vector<vmcow::WritableRange>& ranges);

private:
    void open(vmcow::sys::UniqueFd& fd, const char* name) const;

    pid_t pid_;
    clockid_t clock_{};
    int clock_error_;  // 0 or the errno of getting clock_, which must be initialised before
    vmcow::sys::UniqueFd status_;
    vmcow::sys::UniqueFd stat_;
    std::optional<vmcow::sys::PageScanner> scanner_;
};

}  // namespace procrun
