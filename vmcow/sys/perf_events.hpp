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
    std::uint64_t address = 0;  ///< the byte that was accessed
    std::uint64_t weight = 1;   ///< faults that the sample stands for
    /// Where the program was, and behind it the calls that led there, as return addresses. The chain is found by frame
    /// pointers: code without them leaves out callers, and optimised functions that call nothing leave out one.
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

/// Receives the records of PerfFaultEvents::drain, in the order in which things happened.
class PerfRecords {
public:
    PerfRecords() = default;
    PerfRecords(const PerfRecords&) = delete;
    PerfRecords& operator=(const PerfRecords&) = delete;
    virtual ~PerfRecords() = default;

    virtual void on_fault(const FaultSample& sample) = 0;
    virtual void on_mapped_code(const MappedCode& code) = 0;
    /// The thread `thread` of `pid` has begun. If `pid` is not `parent`, a process has begun.
    virtual void on_fork(pid_t pid, pid_t thread, pid_t parent, std::uint64_t time_ns) = 0;
    virtual void on_exec(pid_t pid, std::string_view command) = 0;
    virtual void on_exit(pid_t pid, pid_t thread, std::uint64_t time_ns) = 0;
    /// Records did not fit into a ring, samples or others.
    virtual void on_lost(std::uint64_t records) = 0;
};

/// perf_event_open(2), or the function that a test puts in its place. Returns a descriptor, or -1 with errno.
using PerfOpen = int (*)(perf_event_attr* attributes, pid_t thread, int cpu, int group, unsigned long flags);
[[nodiscard]] int perf_event_open(perf_event_attr* attributes, pid_t thread, int cpu, int group,
                                  unsigned long flags) noexcept;

/// Samples the page faults of threads, and of what the threads start from then on. The event is a software event, which
/// needs no counter of the processor.
///
/// Shape:  one event for each thread and processor, because an inherited event can have a ring only if it is bound to a
///         processor. All events of a processor share a ring.
/// Cost:   a ring of up to 4 MiB for each processor, and a descriptor for each processor and attached thread; nothing
///         more for what is inherited.
/// Source: perf_event_open(2), Linux 4.8.
class PerfFaultEvents {
public:
    struct Options {
        /// One of so many faults is a sample. 0: the kernel chooses, so that at most `samples_per_second` come from a
        /// thread, and each sample says how many faults it stands for.
        std::uint64_t period = 1;
        std::uint64_t samples_per_second = 10'000;
        /// Adds the calls that led to each fault, and records of what is mapped and executed.
        bool with_code = true;
        /// Takes only faults that read nothing from a disk, once each, when the page is there: those that ProcessStat
        /// counts as minor. Without it, all faults as they begin, including those that end in a signal.
        bool only_minor = false;
        std::size_t ring_bytes = std::size_t{4} << 20;  ///< a power of two; less where the kernel grants less
        std::size_t most_descriptors = SIZE_MAX;        ///< beyond this, attach returns EMFILE
        PerfOpen open = perf_event_open;
    };

    explicit PerfFaultEvents(const Options& options) : options_(options) {}

    /// Attaches a thread to all processors or to none. Returns 0 or the errno: EACCES or EPERM
    /// (kernel.perf_event_paranoid, a process of somebody else, seccomp), ENOENT and ENOSYS (a kernel without perf
    /// events), ESRCH (no such thread), EMFILE.
    [[nodiscard]] int attach(pid_t thread);
    /// Attaches the threads of a process that are not in `threads`, and adds them to it. Threads that these start
    /// meanwhile are attached with them. `records` is drained in between, and PerfRecords::on_fork is to add the new
    /// threads to `threads`. Returns the first errno of `attach`, unless the thread has ended; ESRCH when the process
    /// has ended.
    [[nodiscard]] int attach_process(pid_t pid, std::set<pid_t>& threads, PerfRecords& records);
    /// Whether faults within system calls are left out, because the kernel refused them to this user.
    [[nodiscard]] bool leaves_out_system_calls() const noexcept { return exclude_kernel_; }

    /// Hands the records in the rings to `records`.
    void drain(PerfRecords& records);

    /// One descriptor for each ring. It becomes readable when the ring is a quarter full.
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
    std::map<int, RingOwner> rings_;  ///< by processor
    std::vector<UniqueFd> events_;    ///< those that write into the ring of another event
    std::vector<std::byte> bytes_;    ///< of records that were taken out of the rings
    std::vector<Record> records_;
    std::vector<std::uint64_t> chain_;
};

/// 0 if page faults may be sampled here, else the errno.
[[nodiscard]] int perf_faults_error() noexcept;

}  // namespace vmcow::sys
