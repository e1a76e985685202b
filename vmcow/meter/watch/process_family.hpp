#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "vmcow/meter/watch/copied_content.hpp"
#include "vmcow/meter/watch/fault_guide.hpp"
#include "vmcow/meter/watch/watch_sample.hpp"
#include "vmcow/meter/watch/watched_process.hpp"

namespace vmcow::meter {

/// A process cannot be watched; `what()` says why.
class NotWatchable : public std::runtime_error {
public:
    enum class Reason : std::uint8_t {
        refused,  ///< it runs, and may not be looked at
        ended,    ///< its memory is gone
    };

    NotWatchable(Reason reason, const std::string& what) : std::runtime_error(what), reason_(reason) {}
    [[nodiscard]] Reason reason() const noexcept { return reason_; }

private:
    Reason reason_;
};

struct FamilyOptions {
    PageScanOptions look = {};
    bool tree = false;               ///< also watch processes that descend from those named
    bool bytes = false;              ///< compare copied pages with the pages that they are copies of
    ChangeRecord* record = nullptr;  ///< takes the bytes that differ in copied pages
    /// The process that adopts orphans of the family, as with prctl(2) PR_SET_CHILD_SUBREAPER. The children of this
    /// process belong to the family.
    std::optional<pid_t> adopter = {};
    /// Look only where page faults were, if the kernel tells where (FaultGuide).
    bool follow_faults = false;
    sys::PerfOpen perf_open = sys::perf_event_open;
};

/// What the looks have cost so far.
struct ScanCost {
    std::uint64_t scans = 0;
    std::uint64_t quiet_scans = 0;   ///< scans that found nothing to look at
    std::uint64_t guided_scans = 0;  ///< scans that looked only where page faults were
    double seconds = 0;              ///< all scans of all processes together
    double longest_seconds = 0;      ///< the longest scan of all processes
    std::uint64_t memory_bytes = 0;  ///< the most memory that the states of pages have taken so far
};

/// Processes that are forked from each other, looked at together.
///
/// The relative of a process is the process that it was forked from, if that process still exists, may be looked at,
/// and neither of the two has executed another program since. The relative of a process that the caller named is looked
/// at too, without being a part of the samples.
///
/// Throws:  std::system_error -- EMFILE, ENOMEM. What happens to the watched processes meanwhile is no error.
class ProcessFamily {
public:
    explicit ProcessFamily(FamilyOptions options) : options_(options) {
        if (options_.follow_faults) guide_.emplace(options_.perf_open);
    }

    /// Adds a process. `all_new`: the process begins to run its program now.
    /// Throws: NotWatchable -- no such process, not ours, a zombie, a kernel thread, a thread.
    void add(pid_t pid, bool all_new = false);

    /// Looks at all processes, including those that were forked since the last look. Nothing is copied without a page
    /// fault. So if no process has had a page fault since the last two looks, none has come or gone, and none has more
    /// or less in memory, then the last result still holds, and no page is looked at. `thorough`: look at the pages all
    /// the same, because writes from outside (ptrace(2), process_vm_writev(2)) are no page faults of the process.
    [[nodiscard]] FamilySample look(bool thorough = false);

    /// How many processes of the samples still exist, as far as the last look has found out.
    [[nodiscard]] std::size_t size() const noexcept;
    /// The processes of the samples that exist now and are no zombies.
    [[nodiscard]] std::vector<pid_t> alive() const;
    [[nodiscard]] const ScanCost& cost() const noexcept { return cost_; }
    /// The processes of the samples, ascending.
    [[nodiscard]] std::vector<pid_t> members() const;
    /// A process as the last look found it; nullptr if it was not looked at.
    [[nodiscard]] const WatchedProcess* find(pid_t pid) const noexcept;
    /// The processes that were looked at and were forked from `pid`.
    [[nodiscard]] std::vector<const WatchedProcess*> children_of(pid_t pid) const;
    /// What could not be looked at, each thing once.
    [[nodiscard]] std::vector<std::string> notes() const;

private:
    struct Member {
        std::unique_ptr<WatchedProcess> process;
        pid_t relative = 0;  ///< the process that it was forked from; 0 if that is not known
        bool shown = true;
        bool looked = false;                     ///< in this look
        std::uint64_t known_children_ended = 0;  ///< whose faults the kernel has not added to it yet
    };

    void take_in_relatives(std::map<pid_t, sys::ProcessStat>& stats);
    void take_in(const sys::ProcessStat& stat, pid_t relative, bool shown, bool all_new);
    void take_in_parent_of(pid_t pid);
    [[nodiscard]] std::map<pid_t, sys::ProcessStat> read_stats() const;
    /// Counts the faults of children that came and went unseen: faults of ended children while no known one has ended.
    void count_unseen_children(const std::map<pid_t, sys::ProcessStat>& stats);
    void forget_the_ended(const std::map<pid_t, sys::ProcessStat>& stats);
    [[nodiscard]] bool is_quiet() const;
    using Chunks = std::set<std::uint64_t>;
    [[nodiscard]] std::optional<Chunks> chunks_to_scan(bool thorough);
    /// `chunks`: the only chunks that may have changed; nullptr if that is not known. False where other chunks have
    /// changed too: the kernel counts other pages than were found.
    bool scan_pages(bool thorough, const Chunks* chunks);
    void look_at(Member& member, bool thorough, const Chunks* chunks);
    /// False where less than all was scanned and the counts do not match, as for `scan_pages`.
    bool judge(bool all_of_it);
    void note_time();
    void count_siblings();
    [[nodiscard]] std::vector<Member*> children_first();
    [[nodiscard]] const WatchedProcess* relative_of(const Member& member) const;
    void note(const std::string& text);

    FamilyOptions options_;
    std::map<pid_t, Member> members_;
    std::optional<FaultGuide> guide_;
    struct Moment {
        double time = 0;
        double elapsed = 0;
    };
    Moment seen_at_;  ///< when the pages were looked at last
    FamilySample last_;
    unsigned guided_in_a_row_ = 0;
    bool last_scan_found_nothing_new_ = false;  ///< nothing had changed before the last look at pages
    std::vector<pid_t> looked_at_;              ///< processes in the last look at pages
    ScanCost cost_;
    std::vector<std::string> notes_;
    std::uint64_t unseen_faults_ = 0;  ///< of children that came and went between two looks
    std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace vmcow::meter
