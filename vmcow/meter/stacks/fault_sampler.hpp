#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/meter/stacks/code_map.hpp"
#include "vmcow/meter/stacks/symbols.hpp"
#include "vmcow/sys/perf_events.hpp"

namespace vmcow::meter {

/// The calls that led to a page fault, the innermost first: where the program was, and where each call returns to.
using CallChain = std::vector<CodePlace>;

/// What a look at the pages says about a page that had a fault.
enum class FaultVerdict {
    copied,       ///< the page is a copy that this process has made
    not_copied,   ///< the page was allocated or read in, or is still shared
    not_settled,  ///< the page has not been looked at since
};

/// Tells what has become of the pages of processes, from the last looks at them.
class CopyJudge {
public:
    CopyJudge() = default;
    CopyJudge(const CopyJudge&) = delete;
    CopyJudge& operator=(const CopyJudge&) = delete;
    virtual ~CopyJudge() = default;

    /// What has become of page number `page` of a process. not_settled if the process was not looked at.
    [[nodiscard]] virtual FaultVerdict verdict(pid_t pid, std::uint64_t page) const = 0;
    /// Whether a process was looked at and had a private page at page number `page`, one look ago or now.
    [[nodiscard]] virtual bool has_private_page(pid_t pid, std::uint64_t page) const = 0;
};

/// Numbers of faults, by what has become of them. A sample counts as the number of faults that it stands for.
struct SampledFaults {
    std::uint64_t seen = 0;
    std::uint64_t copied = 0;
    std::uint64_t inferred = 0;  ///< of `copied`: by or beside processes that ended before their pages were looked at
    std::uint64_t not_copied = 0;
    std::uint64_t unsettled = 0;     ///< in processes that ended, on pages about which nothing is known
    std::uint64_t dropped = 0;       ///< there was no room to keep them until the next look
    std::uint64_t shortened = 0;     ///< the chain was cut to its innermost place: there was no room for more chains
    std::uint64_t lost_records = 0;  ///< records of all kinds that were lost, because the kernel's rings were full
};

/// Records page faults of a process and of the processes that it forks, with the calls that led to them. The chains of
/// the faults that copied a page are counted.
///
/// A fault does not tell whether it copied the page or allocated it. A look at the pages tells, so faults are kept
/// until the next look (`settle`). If the process ends before that look, a fault counts as a copy if a living process
/// that it was forked from has memory at that address: the fork shared all that memory, and any fault on it is a write.
///
/// Cost: for each fault 40 bytes until it is settled, at most 40 MiB; for each chain that is not known yet, 16 bytes a
///       call, at most 65 536 chains.
class FaultSampler : private sys::PerfRecords {
public:
    struct Options {
        sys::PerfFaultEvents::Options events;
        bool with_children = true;  ///< processes that a process forks are followed too
        std::size_t most_pending = std::size_t{1} << 20;
        std::size_t most_chains = std::size_t{1} << 16;
    };

    explicit FaultSampler(const Options& options) : options_(options), events_(options.events) {}

    /// Follows the threads of a process from now on, and what these start. A process that is already followed, because
    /// its parent is, stays as it is. Returns 0 or the errno of PerfFaultEvents::attach.
    [[nodiscard]] int follow(pid_t pid);
    /// Reads what the kernel has recorded since the last call.
    void drain();
    /// Decides which of the faults before `before_ns` copied their page. Pre: `judge` has looked at the pages since.
    void settle(const CopyJudge& judge, std::uint64_t before_ns);

    [[nodiscard]] const SampledFaults& counts() const noexcept { return counts_; }
    /// The chains that led to copies, and the number of copies of each.
    [[nodiscard]] const std::map<CallChain, std::uint64_t>& copies() const noexcept { return copies_; }
    [[nodiscard]] Symbols& symbols() noexcept { return symbols_; }
    [[nodiscard]] std::vector<int> descriptors() const { return events_.descriptors(); }
    [[nodiscard]] bool leaves_out_system_calls() const noexcept { return events_.leaves_out_system_calls(); }
    [[nodiscard]] std::size_t memory_bytes() const noexcept;

private:
    struct Process {
        explicit Process(pid_t pid) : code(pid) {}
        explicit Process(CodeMap map) : code(std::move(map)) {}
        CodeMap code;
        std::set<pid_t> threads;
        pid_t parent = 0;       ///< 0 if the process no longer shares memory with it
        bool followed = false;  ///< because `follow` was called, not because its parent is
        std::uint64_t began_ns = 0;
        std::uint64_t ended_ns = UINT64_MAX;
    };
    struct Fault {
        pid_t pid;
        std::uint32_t chain;
        std::uint64_t page;
        std::uint64_t time_ns;
        std::uint32_t weight;
        std::uint32_t looks_missed;
    };

    void on_fault(const sys::FaultSample& sample) override;
    void on_mapped_code(const sys::MappedCode& code) override;
    void on_fork(pid_t pid, pid_t thread, pid_t parent, std::uint64_t time_ns) override;
    void on_exec(pid_t pid, std::string_view command) override;
    void on_exit(pid_t pid, pid_t thread, std::uint64_t time_ns) override;
    void on_lost(std::uint64_t records) override { counts_.lost_records += records; }

    [[nodiscard]] std::uint32_t number_of(std::span<const std::uint64_t> addresses, const CodeMap& code);
    [[nodiscard]] std::uint32_t number_of(const CallChain& chain);
    /// Whether the process that had the fault, and has ended, shared the page with a process that it was forked from.
    [[nodiscard]] bool was_shared_with_parent(const CopyJudge& judge, const Fault& fault) const;
    /// Whether the process that had the fault shared the page with a child that has ended since.
    [[nodiscard]] bool was_shared_with_child(const CopyJudge& judge, const Fault& fault) const;
    void count_copy(const Fault& fault);
    [[nodiscard]] bool has_ended(pid_t pid) const;
    void forget_the_ended(std::uint64_t before_ns);

    Options options_;
    sys::PerfFaultEvents events_;
    Symbols symbols_;
    std::map<pid_t, Process> processes_;
    std::map<CallChain, std::uint32_t> chain_numbers_;
    std::vector<const CallChain*> chains_;
    CallChain scratch_;
    std::vector<Fault> pending_;
    std::map<CallChain, std::uint64_t> copies_;
    SampledFaults counts_;
};

}  // namespace vmcow::meter
