#include "procrun/observe/stage_tasks.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "vmcow/sys/proc/file.hpp"
#include "vmcow/sys/proc/stat.hpp"
#include "vmcow/sys/proc/tasks.hpp"
#include "vmcow/units.hpp"

namespace procrun {

using std::chrono::nanoseconds;
using vmcow::sys::ProcText;

namespace {

constexpr std::size_t kMostTasks = 4096;  // of a stage: a program that forks without end is not followed further

template <class Number>
std::optional<Number> take_number(std::string_view& text) {
    text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size()));
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
}

struct Parentage {
    pid_t pid = -1;
    pid_t parent = -1;
};

std::vector<Parentage> all_processes() {
    std::vector<Parentage> processes;
    for (const pid_t pid : vmcow::sys::try_list_processes().value_or(std::vector<pid_t>())) {
        const auto stat = vmcow::sys::try_read_process_stat(pid);
        if (stat && stat->state != 'Z') processes.push_back({.pid = pid, .parent = stat->parent});
    }
    return processes;
}

/// Time on a processor and on a run queue. Source: proc(5) /proc/PID/schedstat (CONFIG_SCHED_INFO).
std::optional<nanoseconds> busy_in(const std::string& path) {
    ProcText room;
    std::string_view rest = vmcow::sys::try_read_proc(path, room).value_or("");
    const auto run_ns = take_number<std::int64_t>(rest);
    const auto queued_ns = take_number<std::int64_t>(rest);
    if (!run_ns || !queued_ns) return std::nullopt;
    return nanoseconds{*run_ns + *queued_ns};
}

/// A kernel without scheduler statistics says that this thread has never run.
bool has_scheduler_statistics() {
    static const bool has = busy_in("/proc/thread-self/schedstat").value_or(nanoseconds{0}) > nanoseconds{0};
    return has;
}

/// The processor time of a whole process, which every process may read. Source: clock_getcpuclockid(3).
std::optional<nanoseconds> process_time(pid_t pid) {
    clockid_t clock{};
    timespec time{};
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return std::nullopt;
    return std::chrono::seconds{time.tv_sec} + nanoseconds{time.tv_nsec};
}

}  // namespace

StageTask::StageTask(pid_t pid, pid_t tid, bool keep_open)
    : pid_(pid),
      tid_(tid),
      process_folder_(fmt::format("/proc/{}", pid)),
      folder_(fmt::format("/proc/{}/task/{}", pid, tid)),
      keep_open_(keep_open) {}

std::optional<BlockedCall> StageTask::call() {
    if (keep_open_ && !call_) call_ = vmcow::sys::try_open_proc(folder_ + "/syscall");
    ProcText room;
    const auto line =
        call_ ? vmcow::sys::read_proc(call_.get(), room) : vmcow::sys::try_read_proc(folder_ + "/syscall", room);
    return line ? parse_blocked_call(*line) : std::nullopt;
}

std::optional<BlockedCall> StageTask::scheduler_state() const {
    const auto stat = vmcow::sys::try_read_stat_in(folder_);
    if (!stat) return std::nullopt;
    switch (stat->state) {
        case 'R':
            return BlockedCall{.kind = BlockedCall::Kind::none};
        case 'Z':
        case 'X':
            return BlockedCall{.kind = BlockedCall::Kind::ended};
        case 'T':
        case 't':
            return BlockedCall{.kind = BlockedCall::Kind::waits};
        default:
            break;
    }
    ProcText room;
    const std::string_view function = vmcow::sys::try_read_proc(folder_ + "/wchan", room).value_or("");
    return BlockedCall{.kind = kind_of_kernel_function(function)};
}

std::optional<nanoseconds> StageTask::busy() const {
    if (has_scheduler_statistics()) return busy_in(folder_ + "/schedstat");
    return pid_ == tid_ ? process_time(pid_) : std::nullopt;
}

std::optional<std::vector<TaskId>> tasks_below(pid_t pid, bool children_files) {
    std::vector<TaskId> tasks;
    const std::vector<Parentage> everyone = children_files ? std::vector<Parentage>() : all_processes();
    std::vector<pid_t> processes{pid};
    for (std::size_t i = 0; i < processes.size() && tasks.size() < kMostTasks; ++i) {
        const pid_t parent = processes[i];
        const auto tids = vmcow::sys::try_list_threads(parent);
        if (!tids && parent == pid) return std::nullopt;
        for (const pid_t tid : tids.value_or(std::vector<pid_t>())) {
            tasks.push_back({.pid = parent, .tid = tid});
            if (!children_files) continue;
            const auto children = vmcow::sys::try_list_children(parent, tid).value_or(std::vector<pid_t>());
            processes.insert(processes.end(), children.begin(), children.end());
        }
        for (const Parentage& one : everyone) {
            if (one.parent == parent) processes.push_back(one.pid);
        }
    }
    return tasks;
}

StageTasks::StageTasks(pid_t pid, Clock::time_point started, bool children_files)
    : pid_(pid),
      children_files_(children_files && vmcow::sys::has_children_files()),
      transferred_(pid),
      refreshed_at_(started) {
    adopt({{.pid = pid, .tid = pid}});
    counted_ = {{.id = {.pid = pid, .tid = pid}, .busy = nanoseconds{0}}};
}

void StageTasks::refresh(Clock::time_point now) {
    const auto ids = tasks_below(pid_, children_files_);
    if (ids) count(*ids, now);
}

void StageTasks::finish(Clock::time_point now) { count({{.pid = pid_, .tid = pid_}}, now); }

void StageTasks::count(const std::vector<TaskId>& ids, Clock::time_point now) {
    adopt(ids);
    std::vector<Counted> counted;
    for (const StageTask& task : tasks_) {
        const TaskId id{.pid = task.pid(), .tid = task.tid()};
        const auto busy = task.busy();
        if (!busy && task.tid() == pid_) busy_known_ = false;
        if (!busy) continue;
        busy_.lower = std::max(busy_.lower, *busy);
        const nanoseconds gained = std::max(*busy - counted_before(id), nanoseconds{0});
        busy_.counted += gained;
        busy_.upper += gained;
        counted.push_back({.id = id, .busy = *busy});
    }
    const bool changed = counted.size() != counted_.size() ||
                         !std::equal(counted.begin(), counted.end(), counted_.begin(),
                                     [](const Counted& a, const Counted& b) { return a.id == b.id; });
    // What a thread used between its last count and its end is not known; it is at most the time since that count.
    if (changed) busy_.upper += now - refreshed_at_;
    counted_ = std::move(counted);
    refreshed_at_ = now;
}

std::optional<BusyBounds> StageTasks::busy() const { return busy_known_ ? std::optional(busy_) : std::nullopt; }

nanoseconds StageTasks::counted_before(TaskId id) const {
    const auto found = std::find_if(counted_.begin(), counted_.end(), [&](const Counted& one) { return one.id == id; });
    return found == counted_.end() ? nanoseconds{0} : found->busy;
}

/// Makes these threads the stage's. Threads that are known already keep their open descriptors.
void StageTasks::adopt(const std::vector<TaskId>& ids) {
    std::vector<StageTask> tasks;
    for (const TaskId id : ids) {
        const auto known = std::find_if(tasks_.begin(), tasks_.end(), [&](const StageTask& task) {
            return task.pid() == id.pid && task.tid() == id.tid;
        });
        if (known != tasks_.end()) {
            tasks.push_back(std::move(*known));
        } else {
            tasks.emplace_back(id.pid, id.tid, id.tid == pid_);
        }
    }
    tasks_ = std::move(tasks);
}

/// The processes of the threads, each once: the threads of one process follow one another.
std::vector<pid_t> StageTasks::processes() const {
    std::vector<pid_t> pids;
    for (const StageTask& task : tasks_) {
        if (pids.empty() || pids.back() != task.pid()) pids.push_back(task.pid());
    }
    return pids;
}

std::optional<TransferredBytes> StageTasks::transferred() {
    auto sum = transferred_.read();
    if (!sum) return std::nullopt;
    for (const pid_t pid : processes()) {
        // A process that ends right now is counted by its parent when the parent reaps it.
        const auto one = pid == pid_ ? std::nullopt : TransferMeter(pid).read();
        if (!one) continue;
        sum->read += one->read;
        sum->written += one->written;
    }
    return sum;
}

std::optional<std::uint64_t> StageTasks::resident_bytes() const {
    std::optional<std::uint64_t> sum;
    for (const pid_t pid : processes()) {
        const auto counts = vmcow::sys::try_read_process_memory_counts(pid);
        if (counts) sum = sum.value_or(0) + vmcow::PageCount{counts->resident}.bytes();
    }
    return sum;
}

}  // namespace procrun
