#pragma once

#include <linux/perf_event.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// A page fault that was taken as a sample.
struct FaultSample {
    pid_t pid = 0;
    pid_t thread = 0;
    std::uint64_t time_ns = 0;  ///< CLOCK_MONOTONIC
    std::uint64_t address = 0;  ///< that was accessed, to the byte
    std::uint64_t weight = 1;   ///< faults that it stands for
    /// Where the program was, and behind it the calls that led there, as return addresses. Found by frame
    /// pointers: code without them leaves callers out, and optimised functions that call nothing leave out one.
    std::span<const std::uint64_t> chain;
};

/// An executable mapping that a process has made.
struct MappedCode {
    pid_t pid = 0;
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::uint64_t offset = 0;
    std::uint64_t inode = 0;
    std::string_view name;  ///< as in /proc/PID/maps; "//anon" for memory without a file
};

/// What takes the records of PerfFaultEvents::drain, in the order in which things happened.
class PerfRecords {
public:
    PerfRecords() = default;
    PerfRecords(const PerfRecords&) = delete;
    PerfRecords& operator=(const PerfRecords&) = delete;
    virtual ~PerfRecords() = default;

    virtual void on_fault(const FaultSample& sample) = 0;
    virtual void on_mapped_code(const MappedCode& code) = 0;
    /// The thread `thread` of `pid` has begun; a process, if `pid` is not `parent`.
    virtual void on_fork(pid_t pid, pid_t thread, pid_t parent, std::uint64_t time_ns) = 0;
    virtual void on_exec(pid_t pid, std::string_view command) = 0;
    virtual void on_exit(pid_t pid, pid_t thread, std::uint64_t time_ns) = 0;
    /// Records that did not fit into a ring, samples and others.
    virtual void on_lost(std::uint64_t records) = 0;
};

/// perf_event_open(2), or what a test puts in its place: a descriptor, or -1 and errno.
using PerfOpen = int (*)(perf_event_attr* attributes, pid_t thread, int cpu, int group, unsigned long flags);
[[nodiscard]] int perf_event_open(perf_event_attr* attributes, pid_t thread, int cpu, int group,
                                  unsigned long flags) noexcept;

/// The page faults of threads, and of what they start from then on, as samples: a software event, which needs no
/// counter of the processor.
///
/// Shape: an event for each thread and processor, because an event that is inherited can have a ring only if it is
/// bound
///        to a processor; all events of a processor share a ring.
/// Cost:  a ring of up to 4 MiB for each processor, and a descriptor for each thread that was attached and processor;
///        nothing more for what is inherited.
/// Source: perf_event_open(2), Linux 4.8.
class PerfFaultEvents {
public:
    struct Options {
        /// One of so many faults is a sample; 0: the kernel chooses, so that at most `samples_per_second` come from a
        /// thread, and each sample says what it stands for.
        std::uint64_t period = 1;
        std::uint64_t samples_per_second = 10'000;
        /// With the calls that led to each fault, and with records of what is mapped and executed.
        bool with_code = true;
        /// Only faults that read nothing from a disk, once each and when the page is there: those that ProcessStat
        /// counts as minor. Without, all faults as they begin, also those that end in a signal.
        bool only_minor = false;
        std::size_t ring_bytes = std::size_t{4} << 20;  ///< a power of two; less where the kernel grants less
        std::size_t most_descriptors = SIZE_MAX;        ///< beyond which attach is EMFILE
        PerfOpen open = perf_event_open;
    };

    explicit PerfFaultEvents(const Options& options) : options_(options) {}

    /// Attaches a thread. Returns 0 or the errno: EACCES or EPERM (kernel.perf_event_paranoid, a process of somebody
    /// else, seccomp), ENOENT and ENOSYS (a kernel without them), ESRCH (no such thread), EMFILE. A thread is attached
    /// to all processors or to none.
    [[nodiscard]] int attach(pid_t thread);
    /// Attaches the threads of a process that are not in `threads`, and adds them. What these start meanwhile is
    /// attached with them, and PerfRecords::on_fork, to which `records` are drained in between, is to add it to
    /// `threads` too. Returns the first errno of `attach` that does not come from a thread that has ended; ESRCH where
    /// the process has.
    [[nodiscard]] int attach_process(pid_t pid, std::set<pid_t>& threads, PerfRecords& records);
    /// Whether faults that happen within system calls are left out, because the kernel refused them to this user.
    [[nodiscard]] bool leaves_out_system_calls() const noexcept { return exclude_kernel_; }

    /// Hands over the records that there are.
    void drain(PerfRecords& records);

    /// Descriptors of which one becomes readable when a ring is a quarter full.
    [[nodiscard]] std::vector<int> descriptors() const;
    [[nodiscard]] std::size_t memory_bytes() const noexcept;

private:
    class Ring;
    struct Record {
        std::uint64_t time_ns;
        std::size_t offset;  ///< in `bytes_`
        std::size_t bytes;
    };
    struct RingEnd {
        void operator()(Ring* ring) const noexcept;
    };
    using RingOwner = std::unique_ptr<Ring, RingEnd>;

    [[nodiscard]] perf_event_attr attributes() const noexcept;
    [[nodiscard]] int attach_to(pid_t thread, int cpu, std::vector<UniqueFd>& opened);

    Options options_;
    bool exclude_kernel_ = false;
    std::map<int, RingOwner> rings_;  ///< of each processor
    std::vector<UniqueFd> events_;    ///< those that write into another one's ring
    std::vector<std::byte> bytes_;    ///< of the records that were taken out of the rings
    std::vector<Record> records_;
    std::vector<std::uint64_t> chain_;
};

/// Whether page faults may be sampled: 0, or the errno.
[[nodiscard]] int perf_faults_error() noexcept;

}  // namespace vmcow::sys
