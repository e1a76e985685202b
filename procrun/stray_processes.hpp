#pragma once

#include <sys/types.h>

#include <functional>
#include <vector>

namespace procrun {

/// Processes that a pipeline's stages have started and that have left its process group, daemons say: what keeps a pipe
/// open past its writer's end, and what no signal to the group reaches.
///
/// While it lives, this process is the parent that orphans below it get. Who they are is found out when they are to be
/// signalled: all below this process but those in the group and those that were there before.
///
/// Pre:     nobody else in this process starts processes meanwhile.
/// Threads: one.
/// Source:  prctl(2) PR_SET_CHILD_SUBREAPER; proc(5) /proc/PID/task/TID/children.
class StrayProcesses {
public:
    StrayProcesses();
    /// Those that still run are their own from then on; those that were killed are waited for and reaped.
    ~StrayProcesses();
    StrayProcesses(const StrayProcesses&) = delete;
    StrayProcesses& operator=(const StrayProcesses&) = delete;

    /// Signals those that are not in `group` and not `spared`.
    void signal(int number, pid_t group, pid_t spared);
    /// Reaps an orphan that has ended. Children of this process that were not orphans are left to whoever started
    /// them: `is_known` tells.
    void reap_ended(const std::function<bool(pid_t)>& is_known) const;

private:
    [[nodiscard]] std::vector<pid_t> found(pid_t group, pid_t spared) const;

    int was_subreaper_ = 0;
    std::vector<pid_t> before_;
    std::vector<pid_t> killed_;
};

}  // namespace procrun
