#include "procrun/pipeline/stray_processes.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "procrun/deadline.hpp"
#include "procrun/observe/stage_tasks.hpp"
#include "vmcow/sys/proc/tasks.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace procrun {

namespace {

constexpr std::chrono::seconds kLongestDeath{1};

/// This process and all processes below it, each once; this process comes first.
std::vector<pid_t> processes_below_us() {
    std::vector<pid_t> pids;
    for (const TaskId& task : tasks_below(getpid(), vmcow::sys::has_children_files()).value_or(std::vector<TaskId>())) {
        if (pids.empty() || pids.back() != task.pid) pids.push_back(task.pid);
    }
    return pids;
}

/// Reaps a process if it is a child of ours that has ended. Returns whether it was.
bool reaped(pid_t pid) { return waitpid(pid, nullptr, WNOHANG) == pid; }

}  // namespace

StrayProcesses::StrayProcesses() : before_(processes_below_us()) {}

StrayProcesses::~StrayProcesses() {
    if (!owner_.is_this_process()) return;
    const Deadline longest = Deadline::in(kLongestDeath);
    while (!killed_.empty()) {
        std::erase_if(killed_, [](pid_t pid) { return reaped(pid) || vmcow::sys::try_signal_process(pid, 0) != 0; });
        if (killed_.empty() || longest.passed()) break;
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
}

std::vector<pid_t> StrayProcesses::found(pid_t group, pid_t spared) const {
    std::vector<pid_t> strays;
    for (const pid_t pid : processes_below_us()) {
        const bool known = pid == getpid() || pid == spared || std::count(before_.begin(), before_.end(), pid) != 0;
        if (!known && getpgid(pid) != group) strays.push_back(pid);
    }
    return strays;
}

void StrayProcesses::reap_ended(const std::function<bool(pid_t)>& is_known) const {
    siginfo_t ended{};
    while (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0) {
        const bool known = is_known(ended.si_pid) || std::count(before_.begin(), before_.end(), ended.si_pid) != 0;
        if (known || !reaped(ended.si_pid)) return;
        ended.si_pid = 0;
    }
}

void StrayProcesses::signal(int number, pid_t group, pid_t spared) {
    for (const pid_t pid : found(group, spared)) {
        if (vmcow::sys::try_signal_process(pid, number) != 0) continue;
        if (number == SIGKILL && std::count(killed_.begin(), killed_.end(), pid) == 0) killed_.push_back(pid);
    }
}

}  // namespace procrun
