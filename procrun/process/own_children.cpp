#include "procrun/process/own_children.hpp"

#include <unistd.h>

#include <system_error>
#include <utility>

#include "vmcow/sys/proc/stat.hpp"
#include "vmcow/sys/proc/tasks.hpp"

namespace procrun {

std::vector<pid_t> own_children() {
    const pid_t self = ::getpid();
    if (auto listed = vmcow::sys::try_list_children(self, self)) return *std::move(listed);
    std::vector<pid_t> pids;
    try {
        for (const pid_t pid : vmcow::sys::list_processes()) {
            const auto stat = vmcow::sys::read_process_stat(pid);
            if (stat && stat->parent == self) pids.push_back(pid);
        }
    } catch (const std::system_error&) {
        pids.clear();
    }
    return pids;
}

}  // namespace procrun
