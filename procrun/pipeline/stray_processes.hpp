#pragma once

#include <sys/types.h>

#include <functional>
#include <vector>

#include "vmcow/sys/process/owner_process.hpp"
#include "vmcow/sys/process/prctl.hpp"

namespace procrun {

/// Processes that a pipeline's stages have started and that have left the pipeline's process group, such as daemons.
/// They may keep a pipe open past its writer's end, and no signal to the group reaches them.
///
/// While the object lives, this process becomes the parent of orphans below it. The stray processes are found when they
/// are to be signalled: all below this process but those in the group and those that were there before.
///
/// Pre:     nothing else in this process starts processes meanwhile.
/// Threads: one.
/// Source:  prctl(2) PR_SET_CHILD_SUBREAPER; proc(5) /proc/PID/task/TID/children.
class StrayProcesses {
public:
    StrayProcesses();
    /// Waits for the processes that were killed, and reaps them. Those that still run are left alone from then on.
    ~StrayProcesses();
    StrayProcesses(const StrayProcesses&) = delete;
    StrayProcesses& operator=(const StrayProcesses&) = delete;

    /// Signals the stray processes: those that are not in `group`. `spared` gets no signal.
    void signal(int number, pid_t group, pid_t spared);
    /// Reaps orphans that have ended. Children of this process that are no orphans are left to the code that started
    /// them: `is_known` tells which these are.
    void reap_ended(const std::function<bool(pid_t)>& is_known) const;

private:
    [[nodiscard]] std::vector<pid_t> found(pid_t group, pid_t spared) const;

    std::vector<pid_t> before_;
    vmcow::sys::Subreaper subreaper_;  // until the processes that were killed have been reaped
    std::vector<pid_t> killed_;
    vmcow::sys::OwnerProcess owner_;
};

}  // namespace procrun
