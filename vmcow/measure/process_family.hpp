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

#include "vmcow/measure/copied_content.hpp"
#include "vmcow/measure/fault_guide.hpp"
#include "vmcow/measure/watch_sample.hpp"
#include "vmcow/measure/watched_process.hpp"

namespace vmcow::measure {

/// Why a process cannot be watched, in words.
class NotWatchable : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

struct FamilyOptions {
    LookOptions look = {};
    bool tree = false;               ///< also the processes that descend from those named, and from each other
    bool bytes = false;              ///< compare copied pages with what they are copies of
    ChangeRecord* record = nullptr;  ///< takes what differs in them
    /// The process to which orphans of the family go, as prctl(2) PR_SET_CHILD_SUBREAPER makes it: its children belong
    /// to the family.
    std::optional<pid_t> adopter = {};
    /// Look only where page faults were, where the kernel tells (FaultGuide).
    bool follow_faults = false;
    sys::PerfOpen perf_open = sys::perf_event_open;
};

/// What looking has cost so far.
struct LookCost {
    std::uint64_t looks = 0;
    std::uint64_t quiet_looks = 0;   ///< of these, those that found nothing to look at
    std::uint64_t guided_looks = 0;  ///< of these, those that looked only where page faults were
    double seconds = 0;              ///< in looks, all processes together
    double longest_seconds = 0;      ///< one look at all of them
    std::uint64_t memory_bytes = 0;  ///< what is remembered of pages, at most so far
};

/// Processes that are forked from each other, looked at together.
///
/// The relative of a process is the one that it was forked from, if that one is still there, may be looked at, and
/// neither has executed another program since. Where a process named by the caller has such a parent, that one is
/// looked at too, without being a part of the samples.
///
/// Throws:  std::system_error -- EMFILE, ENOMEM. What happens to the processes meanwhile is no error.
class ProcessFamily {
public:
    explicit ProcessFamily(FamilyOptions options) : options_(options) {
        if (options_.follow_faults) guide_.emplace(options_.perf_open);
    }

    /// Adds a process. `all_new`: it begins to run its program now.
    /// Throws: NotWatchable -- no such process, not ours, a zombie, a kernel thread, a thread.
    void add(pid_t pid, bool all_new = false);

    /// Looks at all of them, at those that have been forked since as well. Nothing is copied without a page fault:
    /// where no process has had one since the last two looks, none has come or gone, and none has more or less in
    /// memory, what they have found still holds, and no page is looked at. `thorough`: look at the pages all the same,
    /// as for what was done to them from outside (ptrace(2), process_vm_writev(2)), which is no fault of theirs.
    [[nodiscard]] FamilySample look(bool thorough = false);

    /// How many processes of the samples are still there, as far as the last look has found out.
    [[nodiscard]] std::size_t size() const noexcept;
    /// Those of them that are there now, and no zombies.
    [[nodiscard]] std::vector<pid_t> alive() const;
    [[nodiscard]] const LookCost& cost() const noexcept { return cost_; }
    /// The processes of the samples, ascending.
    [[nodiscard]] std::vector<pid_t> members() const;
    /// A process as the last look found it; nullptr where it was not looked at.
    [[nodiscard]] const WatchedProcess* find(pid_t pid) const noexcept;
    /// Those that were looked at and were forked from `pid`.
    [[nodiscard]] std::vector<const WatchedProcess*> children_of(pid_t pid) const;
    /// What could not be looked at, each thing once.
    [[nodiscard]] std::vector<std::string> notes() const;

private:
    struct Member {
        std::unique_ptr<WatchedProcess> process;
        pid_t relative = 0;  ///< the process that it was forked from; 0 where that is not known
        bool shown = true;
        bool looked = false;                     ///< at this look
        std::uint64_t known_children_ended = 0;  ///< whose faults it has not been given yet
        bool waits = false;                      ///< it shares its parent's memory until it executes a program
    };

    void take_in_relatives(std::map<pid_t, sys::ProcessStat>& stats);
    void take_in(const sys::ProcessStat& stat, pid_t relative, bool shown, bool all_new);
    void take_in_parent_of(pid_t pid);
    [[nodiscard]] std::map<pid_t, sys::ProcessStat> read_stats() const;
    /// Counts the faults of children that nobody has seen: those with which none of the known ones has ended.
    void count_unseen_children(const std::map<pid_t, sys::ProcessStat>& stats);
    void forget_the_ended(const std::map<pid_t, sys::ProcessStat>& stats);
    [[nodiscard]] bool is_quiet() const;
    using Chunks = std::set<std::uint64_t>;
    [[nodiscard]] std::optional<Chunks> where_to_look(bool thorough);
    /// `chunks`: where alone there is something new; nullptr where that is not known.
    void look_at_pages(bool thorough, const Chunks* chunks);
    void look_at(Member& member, bool thorough, const Chunks* chunks);
    void judge(bool all_of_it);
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
    bool explained_ = true;  ///< the last look found as many pages as the kernel counts
    unsigned guided_in_a_row_ = 0;
    bool settled_ = false;          ///< the last look at pages came after no change
    std::vector<pid_t> looked_at_;  ///< in the last look at pages
    LookCost cost_;
    std::vector<std::string> notes_;
    std::uint64_t unseen_faults_ = 0;  ///< of children that came and went between two looks
    std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace vmcow::measure
