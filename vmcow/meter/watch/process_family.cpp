#include "vmcow/meter/watch/process_family.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "vmcow/meter/watch/sibling_copies.hpp"
#include "vmcow/sys/proc/tasks.hpp"

namespace vmcow::meter {
namespace {

using sys::ProcessStat;

/// After this many looks at some pages only, a look goes through all pages. It sees what has changed without a fault,
/// as when the kernel makes huge pages of small ones.
constexpr unsigned kMostGuided = 15;

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Whether an error is about the process that is looked at, not about this one.
bool is_refusal(const std::system_error& error) {
    const int code = error.code().value();
    return code == EACCES || code == EPERM || code == ENOENT || code == ESRCH;
}

bool run_the_same_program(const ProcessStat& a, const ProcessStat& b) {
    return a.placement == b.placement && a.placement != decltype(a.placement){};
}

ProcessStat watchable(pid_t pid) {
    const std::optional<ProcessStat> stat = sys::read_process_stat(pid);
    using Reason = NotWatchable::Reason;
    if (!stat) throw NotWatchable(Reason::ended, fmt::format("there is no process {}", pid));
    const std::optional<pid_t> process = sys::process_of_thread(pid);
    if (process && *process != pid) {
        throw NotWatchable(Reason::refused,
                           fmt::format("{} is a thread of process {}: watch the process", pid, *process));
    }
    if (stat->kernel_thread) {
        throw NotWatchable(
            Reason::refused,
            fmt::format("process {} ({}) is a kernel thread: it has no memory of its own", pid, stat->command));
    }
    if (stat->state == 'Z' || stat->state == 'X') {
        throw NotWatchable(
            Reason::ended,
            fmt::format("process {} ({}) is a zombie: it has ended, and its memory is gone", pid, stat->command));
    }
    return *stat;
}

}  // namespace

void ProcessFamily::add(pid_t pid, bool all_new) {
    if (const auto known = members_.find(pid); known != members_.end()) {
        known->second.shown = true;
        return;
    }
    const ProcessStat stat = watchable(pid);
    try {
        take_in(stat, 0, true, all_new);
    } catch (const std::system_error& error) {
        if (!is_refusal(error)) throw;
        const int code = error.code().value();
        // A process that ends gives its memory back some time before it is a zombie.
        if (code == ESRCH || code == ENOENT) {
            throw NotWatchable(NotWatchable::Reason::ended,
                               fmt::format("process {} ({}) has ended, and its memory is gone", pid, stat.command));
        }
        throw NotWatchable(NotWatchable::Reason::refused, fmt::format("process {} ({}) may not be looked at: {}", pid,
                                                                      stat.command, std::strerror(code)));
    }
    if (!all_new) take_in_parent_of(pid);
}

void ProcessFamily::take_in(const ProcessStat& stat, pid_t relative, bool shown, bool all_new) {
    Member member;
    member.process = std::make_unique<WatchedProcess>(stat, options_.look, all_new);
    member.relative = relative;
    member.shown = shown;
    members_.insert_or_assign(stat.pid, std::move(member));
}

void ProcessFamily::take_in_parent_of(pid_t pid) {
    Member& member = members_.at(pid);
    const pid_t parent = member.process->stat().parent;
    if (members_.contains(parent)) {
        member.relative = parent;
        return;
    }
    const std::optional<ProcessStat> stat = sys::read_process_stat(parent);
    if (!stat || !run_the_same_program(member.process->stat(), *stat)) return;
    try {
        take_in(*stat, 0, false, false);
        member.relative = parent;
    } catch (const std::system_error& error) {
        if (!is_refusal(error)) throw;
        note(fmt::format("process {}, from which {} was forked, may not be looked at: what was copied since is unknown",
                         parent, pid));
    }
}

std::map<pid_t, ProcessStat> ProcessFamily::read_stats() const {
    std::map<pid_t, ProcessStat> stats;
    const auto take = [&](pid_t pid) {
        if (auto stat = sys::read_process_stat(pid)) stats.emplace(pid, std::move(*stat));
    };
    if (options_.tree || options_.adopter) {
        for (const pid_t pid : sys::list_processes()) take(pid);
    } else {
        for (const auto& [pid, member] : members_) take(pid);
    }
    return stats;
}

void ProcessFamily::take_in_relatives(std::map<pid_t, ProcessStat>& stats) {
    if (!options_.tree && !options_.adopter) return;
    for (bool found = true; found;) {
        found = false;
        for (const auto& [pid, stat] : stats) {
            const auto parent = members_.find(stat.parent);
            const bool is_child = options_.tree && parent != members_.end() && parent->second.shown;
            const bool is_orphan = options_.adopter == stat.parent;
            if (members_.contains(pid) || (!is_child && !is_orphan)) continue;
            if (stat.kernel_thread || stat.state == 'Z' || stat.state == 'X') continue;
            try {
                take_in(stat, is_child ? stat.parent : 0, true, false);
                found = true;
            } catch (const std::system_error& error) {
                if (error.code().value() == EMFILE || error.code().value() == ENFILE) {
                    note("there are more processes than descriptors: some are not watched");
                } else if (!is_refusal(error)) {
                    throw;
                } else if (error.code().value() == EACCES || error.code().value() == EPERM) {
                    note(fmt::format("process {} ({}) may not be looked at: {}", pid, stat.command,
                                     std::strerror(error.code().value())));
                }
            }
        }
    }
}

void ProcessFamily::count_unseen_children(const std::map<pid_t, ProcessStat>& stats) {
    if (!options_.tree) return;
    const auto stat_of = [&](pid_t pid) {
        const auto found = stats.find(pid);
        return found == stats.end() || found->second.state == 'Z' || found->second.state == 'X' ? nullptr
                                                                                                : &found->second;
    };
    for (const auto& [pid, member] : members_) {
        const auto parent = members_.find(member.relative);
        if (parent != members_.end() && stat_of(pid) == nullptr) ++parent->second.known_children_ended;
    }
    for (auto& [pid, member] : members_) {
        const ProcessStat* const now = stat_of(pid);
        if (now == nullptr || now->start_ticks != member.process->stat().start_ticks) continue;
        const std::uint64_t before = member.process->stat().children_page_faults;
        if (!member.shown || now->children_page_faults <= before) continue;
        if (member.known_children_ended > 0) {
            --member.known_children_ended;
        } else {
            unseen_faults_ += now->children_page_faults - before;
        }
    }
}

std::vector<std::string> ProcessFamily::notes() const {
    std::vector<std::string> notes = notes_;
    if (unseen_faults_ > 0) {
        notes.push_back(fmt::format(
            "children came and went between two looks, with {} page faults: what they copied is not among the figures",
            unseen_faults_));
    }
    return notes;
}

void ProcessFamily::forget_the_ended(const std::map<pid_t, ProcessStat>& stats) {
    for (auto at = members_.begin(); at != members_.end();) {
        const auto stat = stats.find(at->first);
        bool is_there = stat != stats.end();
        try {
            is_there = is_there && at->second.process->update(stat->second);
        } catch (const std::system_error& error) {
            if (!is_refusal(error)) throw;
            if (error.code().value() == EACCES || error.code().value() == EPERM) {
                note(fmt::format("process {} has executed '{}', which may not be looked at", at->first,
                                 stat->second.command));
            }
            is_there = false;
        }
        at = is_there ? std::next(at) : members_.erase(at);
    }
}

const WatchedProcess* ProcessFamily::relative_of(const Member& member) const {
    const auto found = members_.find(member.relative);
    if (found == members_.end() || !found->second.looked) return nullptr;
    const WatchedProcess& relative = *found->second.process;
    return run_the_same_program(member.process->stat(), relative.stat()) ? &relative : nullptr;
}

std::vector<ProcessFamily::Member*> ProcessFamily::children_first() {
    const auto depth_of = [this](pid_t pid) {
        std::size_t depth = 0;
        for (auto at = members_.find(pid); at != members_.end() && depth <= members_.size(); ++depth) {
            at = members_.find(at->second.relative);
        }
        return depth;
    };
    std::vector<std::pair<std::size_t, Member*>> order;
    for (auto& [pid, member] : members_) order.emplace_back(depth_of(pid), &member);
    std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<Member*> members;
    members.reserve(order.size());
    for (const auto& [depth, member] : order) members.push_back(member);
    return members;
}

void ProcessFamily::look_at(Member& member, bool thorough, const Chunks* chunks) {
    member.looked = false;
    const pid_t pid = member.process->pid();
    // As vfork(2) leaves it: what it has is its parent's until it executes a program.
    const bool has_its_parents_memory =
        !member.process->seen() && member.relative != 0 && sys::share_memory(pid, member.relative).value_or(false);
    if (has_its_parents_memory) return;
    try {
        const std::vector<const WatchedProcess*> children = children_of(pid);
        // A fork makes the pages of the parent shared ones without a fault.
        const bool has_forked =
            std::any_of(children.begin(), children.end(), [](const auto* child) { return !child->seen_before(); });
        if (chunks != nullptr) {
            member.process->scan_chunks(*chunks, children);
        } else if (!thorough && !has_forked && member.process->is_quiet()) {
            member.process->keep_last_scan();
        } else {
            member.process->scan(children);
        }
        member.looked = true;
        if (member.process->passed_over_bytes() > 0) {
            note(fmt::format("process {}: mappings above 256 GiB were not looked at, which needs PAGEMAP_SCAN", pid));
        }
    } catch (const std::system_error& error) {
        if (!is_refusal(error)) throw;
    }
}

bool ProcessFamily::is_quiet() const {
    if (members_.size() != looked_at_.size()) return false;
    auto pid = looked_at_.begin();
    return std::all_of(members_.begin(), members_.end(), [&](const auto& entry) {
        return entry.first == *pid++ && entry.second.looked && entry.second.process->is_quiet();
    });
}

std::optional<ProcessFamily::Chunks> ProcessFamily::chunks_to_scan(bool thorough) {
    if (!guide_) return std::nullopt;
    std::map<pid_t, std::uint64_t> faults;
    for (const auto& [pid, member] : members_) faults.emplace(pid, member.process->stat().page_faults);
    // The guide is asked at each look, because it tells about the time since it was last asked.
    std::optional<Chunks> chunks = guide_->faulted_chunks(faults);
    if (guide_->error() != 0) {
        note(fmt::format("each look goes through all pages: the kernel does not tell where page faults are: {}",
                         std::strerror(guide_->error())));
    }
    if (thorough || !chunks || guided_in_a_row_ == kMostGuided || members_.size() != looked_at_.size()) return {};
    auto pid = looked_at_.begin();
    for (const auto& [member_pid, member] : members_) {
        if (member_pid != *pid++ || !member.looked || !member.process->seen_before()) return std::nullopt;
        try {
            if (!member.process->can_scan_chunks()) return std::nullopt;
        } catch (const std::system_error& error) {
            if (!is_refusal(error)) throw;
            return std::nullopt;
        }
    }
    return chunks;
}

bool ProcessFamily::scan_pages(bool thorough, const Chunks* chunks) {
    looked_at_.clear();
    for (const auto& [pid, member] : members_) looked_at_.push_back(pid);
    for (Member* const member : children_first()) look_at(*member, thorough, chunks);
    note_time();  // before the bytes are compared, which may take long: the pages were seen now
    std::uint64_t memory = 0;
    for (auto& [pid, member] : members_) {
        member.process->settle_faults(sys::read_process_stat(pid));
        memory += member.process->pages().memory_bytes();
    }
    cost_.memory_bytes = std::max(cost_.memory_bytes, memory);
    const bool counts_match = judge(chunks == nullptr);
    guided_in_a_row_ = chunks != nullptr ? guided_in_a_row_ + 1 : 0;
    return counts_match;
}

void ProcessFamily::note_time() {
    seen_at_.time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    seen_at_.elapsed = seconds_since(began_);
}

bool ProcessFamily::judge(bool all_of_it) {
    last_ = {};
    bool counts_match = true;
    for (auto& [pid, member] : members_) {
        if (!member.looked) continue;
        const WatchedProcess* const relative = relative_of(member);
        ProcessSample process = member.process->judge(relative, relative != nullptr && relative->seen_before());
        if (all_of_it) {
            member.process->note_unaccounted(process.figures);
        } else {
            counts_match = counts_match && member.process->matches_kernel_count(process.figures);
        }
        if (!member.shown) continue;
        if (options_.bytes) compare_copied(*member.process, relative, process, options_.record);
        last_.processes.push_back(std::move(process));
    }
    count_siblings();
    for (const ProcessSample& process : last_.processes) last_.total.add_process(process.figures);
    return counts_match;
}

void ProcessFamily::count_siblings() {
    std::map<pid_t, std::vector<CountedProcess>> children;
    for (ProcessSample& process : last_.processes) {
        const Member& member = members_.at(process.pid);
        if (process.has_parent) children[member.relative].push_back({member.process.get(), &process});
    }
    for (const auto& [parent, siblings] : children) count_sibling_copies(siblings);
}

FamilySample ProcessFamily::look(bool thorough) {
    const auto start = std::chrono::steady_clock::now();
    note_time();
    std::map<pid_t, ProcessStat> stats = read_stats();
    count_unseen_children(stats);
    forget_the_ended(stats);
    take_in_relatives(stats);
    // A page that is written again has no fault, so its bytes have to be compared at each look.
    const bool quiet = is_quiet();
    if (thorough || options_.bytes || !quiet || !last_scan_found_nothing_new_) {
        const std::optional<Chunks> chunks = chunks_to_scan(thorough);
        if (scan_pages(thorough, chunks ? &*chunks : nullptr)) {
            cost_.guided_scans += chunks ? 1U : 0U;
        } else {
            scan_pages(thorough, nullptr);  // something has changed without a fault
        }
        last_scan_found_nothing_new_ = quiet;  // the first look after a change may leave open which process wrote
    } else {
        cost_.quiet_scans += 1;
    }
    last_.time = seen_at_.time;
    last_.elapsed = seen_at_.elapsed;
    const double seconds = seconds_since(start);
    cost_.scans += 1;
    cost_.seconds += seconds;
    cost_.longest_seconds = std::max(cost_.longest_seconds, seconds);
    return last_;
}

std::size_t ProcessFamily::size() const noexcept {
    return static_cast<std::size_t>(
        std::count_if(members_.begin(), members_.end(), [](const auto& entry) { return entry.second.shown; }));
}

std::vector<pid_t> ProcessFamily::members() const {
    std::vector<pid_t> pids;
    for (const auto& [pid, member] : members_) {
        if (member.shown) pids.push_back(pid);
    }
    return pids;
}

const WatchedProcess* ProcessFamily::find(pid_t pid) const noexcept {
    const auto found = members_.find(pid);
    return found == members_.end() || !found->second.looked ? nullptr : found->second.process.get();
}

std::vector<const WatchedProcess*> ProcessFamily::children_of(pid_t pid) const {
    std::vector<const WatchedProcess*> children;
    for (const auto& [child, member] : members_) {
        if (member.relative == pid && member.looked) children.push_back(member.process.get());
    }
    return children;
}

std::vector<pid_t> ProcessFamily::alive() const {
    std::vector<pid_t> pids;
    for (const auto& [pid, member] : members_) {
        if (!member.shown) continue;
        const std::optional<ProcessStat> stat = sys::read_process_stat(pid);
        const bool is_same = stat && stat->start_ticks == member.process->stat().start_ticks;
        if (is_same && stat->state != 'Z' && stat->state != 'X') pids.push_back(pid);
    }
    return pids;
}

void ProcessFamily::note(const std::string& text) {
    if (std::find(notes_.begin(), notes_.end(), text) == notes_.end()) notes_.push_back(text);
}

}  // namespace vmcow::meter
