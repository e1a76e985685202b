#include "procrun/stage_tasks.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace procrun {

using std::chrono::nanoseconds;
using vmcow::sys::UniqueFd;

namespace {

constexpr std::size_t kMostTasks = 4096;  // of a stage: a program that forks without end is not followed further

UniqueFd open_for_reading(const std::string& path) { return UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

/// By one pread(2), of a file under /proc that is smaller than a page. Processes come and go: no error is worth a
/// throw.
std::optional<std::string> text_in(const UniqueFd& fd) {
    if (!fd) return std::nullopt;
    std::array<char, vmcow::kPageBytes> text{};
    const ssize_t got = vmcow::sys::retry_interrupted([&] { return pread(fd.get(), text.data(), text.size(), 0); });
    if (got < 0) return std::nullopt;
    return std::string(text.data(), static_cast<std::size_t>(got));
}

std::optional<std::string> text_at(const std::string& path) { return text_in(open_for_reading(path)); }

template <class Number>
std::optional<Number> take_number(std::string_view& text) {
    text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size()));
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
}

/// The scheduler's state and the parent in /proc/PID/stat. The name before them may hold anything, blanks and brackets.
struct StatFields {
    char state = '?';
    pid_t parent = -1;
};

std::optional<StatFields> stat_of(const std::string& folder) {
    const auto text = text_at(folder + "/stat");
    if (!text) return std::nullopt;
    std::string_view rest = *text;
    const std::size_t bracket = rest.rfind(')');
    if (bracket == std::string_view::npos || bracket + 3 >= rest.size()) return std::nullopt;
    StatFields fields{.state = rest[bracket + 2], .parent = -1};
    rest.remove_prefix(bracket + 3);
    fields.parent = take_number<pid_t>(rest).value_or(-1);
    return fields;
}

/// The entries of a folder under /proc that are numbers; nullopt when it cannot be listed.
std::optional<std::vector<pid_t>> numbers_in(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
    if (!folder) return std::nullopt;
    std::vector<pid_t> numbers;
    // Another thread's stream is another DIR.
    // NOLINTNEXTLINE(concurrency-mt-unsafe)
    while (const dirent* entry = readdir(folder.get())) {
        std::string_view name(entry->d_name);
        if (const auto number = take_number<pid_t>(name); number && name.empty()) numbers.push_back(*number);
    }
    return numbers;
}

void add_listed_children(TaskId id, std::vector<pid_t>& children) {
    const auto text = text_at(fmt::format("/proc/{}/task/{}/children", id.pid, id.tid));
    std::string_view rest = text ? std::string_view(*text) : std::string_view();
    while (const auto child = take_number<pid_t>(rest)) children.push_back(*child);
}

struct Parentage {
    pid_t pid = -1;
    pid_t parent = -1;
};

std::vector<Parentage> all_processes() {
    std::vector<Parentage> processes;
    for (const pid_t pid : numbers_in("/proc").value_or(std::vector<pid_t>())) {
        const auto fields = stat_of(fmt::format("/proc/{}", pid));
        if (fields && fields->state != 'Z') processes.push_back({.pid = pid, .parent = fields->parent});
    }
    return processes;
}

/// Time on a processor and on a run queue. Source: proc(5) /proc/PID/schedstat (CONFIG_SCHED_INFO).
std::optional<nanoseconds> busy_in(const std::string& path) {
    const auto text = text_at(path);
    std::string_view rest = text ? std::string_view(*text) : std::string_view();
    const auto run_ns = take_number<std::int64_t>(rest);
    const auto queued_ns = take_number<std::int64_t>(rest);
    if (!run_ns || !queued_ns) return std::nullopt;
    return nanoseconds{*run_ns + *queued_ns};
}

/// A kernel that keeps none says that this thread has never run.
bool has_scheduler_statistics() {
    static const bool has = busy_in("/proc/thread-self/schedstat").value_or(nanoseconds{0}) > nanoseconds{0};
    return has;
}

/// The processor time of a whole process, known to anyone. Source: clock_getcpuclockid(3).
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
    if (keep_open_ && !call_) call_ = open_for_reading(folder_ + "/syscall");
    const auto line = call_ ? text_in(call_) : text_at(folder_ + "/syscall");
    return line ? parse_blocked_call(*line) : std::nullopt;
}

std::optional<BlockedCall> StageTask::scheduler_state() const {
    const auto fields = stat_of(folder_);
    if (!fields) return std::nullopt;
    switch (fields->state) {
        case 'R':
            return BlockedCall{.kind = BlockedCall::Kind::none};
        case 'Z':
        case 'X':
            return BlockedCall{.kind = BlockedCall::Kind::ended};
        case 'T':
        case 't':
            return BlockedCall{.kind = BlockedCall::Kind::waits};
        default:
            return BlockedCall{.kind = kind_of_kernel_function(text_at(folder_ + "/wchan").value_or(std::string()))};
    }
}

std::optional<nanoseconds> StageTask::busy() const {
    if (has_scheduler_statistics()) return busy_in(folder_ + "/schedstat");
    return pid_ == tid_ ? process_time(pid_) : std::nullopt;
}

bool has_children_files() {
    static const bool has = static_cast<bool>(open_for_reading("/proc/thread-self/children"));
    return has;
}

std::optional<std::vector<TaskId>> tasks_below(pid_t pid, bool children_files) {
    std::vector<TaskId> tasks;
    const std::vector<Parentage> everyone = children_files ? std::vector<Parentage>() : all_processes();
    std::vector<pid_t> processes{pid};
    for (std::size_t i = 0; i < processes.size() && tasks.size() < kMostTasks; ++i) {
        const pid_t parent = processes[i];
        const auto tids = numbers_in(fmt::format("/proc/{}/task", parent));
        if (!tids && parent == pid) return std::nullopt;
        for (const pid_t tid : tids.value_or(std::vector<pid_t>())) {
            tasks.push_back({.pid = parent, .tid = tid});
            if (children_files) add_listed_children(tasks.back(), processes);
        }
        for (const Parentage& one : everyone) {
            if (one.parent == parent) processes.push_back(one.pid);
        }
    }
    return tasks;
}

StageTasks::StageTasks(pid_t pid, Clock::time_point started, bool children_files)
    : pid_(pid),
      children_files_(children_files && procrun::has_children_files()),
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
    // One that has gone took along what it used since it was last counted.
    if (changed) busy_.upper += now - refreshed_at_;
    counted_ = std::move(counted);
    refreshed_at_ = now;
}

std::optional<BusyBounds> StageTasks::busy() const { return busy_known_ ? std::optional(busy_) : std::nullopt; }

nanoseconds StageTasks::counted_before(TaskId id) const {
    const auto found = std::find_if(counted_.begin(), counted_.end(), [&](const Counted& one) { return one.id == id; });
    return found == counted_.end() ? nanoseconds{0} : found->busy;
}

/// Those that are known already keep what is open of them.
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

/// Each once: the threads of one process follow one another.
std::vector<pid_t> StageTasks::processes() const {
    std::vector<pid_t> pids;
    for (const StageTask& task : tasks_) {
        if (pids.empty() || pids.back() != task.pid()) pids.push_back(task.pid());
    }
    return pids;
}

std::optional<TransferredBytes> StageTasks::transferred() {
    if (!transferred_) transferred_.emplace(pid_);
    auto sum = transferred_->read();
    if (!sum) return std::nullopt;
    for (const pid_t pid : processes()) {
        // One that ends right now is counted by its parent when that reaps it.
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
        const auto text = text_at(fmt::format("/proc/{}/statm", pid));
        std::string_view rest = text ? std::string_view(*text) : std::string_view();
        const bool has_size = take_number<std::uint64_t>(rest).has_value();
        const auto pages = has_size ? take_number<std::uint64_t>(rest) : std::nullopt;
        if (pages) sum = sum.value_or(0) + vmcow::PageCount{*pages}.bytes();
    }
    return sum;
}

}  // namespace procrun
