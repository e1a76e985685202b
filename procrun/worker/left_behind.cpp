#include "procrun/worker/left_behind.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <vector>

#include "procrun/deadline.hpp"
#include "procrun/process/callers_ends.hpp"
#include "procrun/process/own_children.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/proc/thread_count.hpp"

namespace procrun::detail {
namespace {

using vmcow::sys::count_running_threads;
using vmcow::sys::try_count_listed_threads_in;

/// The longest time from the join of a thread until it is gone from the kernel's list.
constexpr std::chrono::milliseconds kLongestExit{2};

}  // namespace

LeftBehind::LeftBehind() : unshare_tells_(::unshare(CLONE_VM) == 0), usual_threads_(count_running_threads()) {
    if (unshare_tells_) return;
    tasks_ = vmcow::sys::open_file("/proc/self/task", O_PATH | O_DIRECTORY);
    usual_listed_ = try_count_listed_threads_in(tasks_.get());
}

bool LeftBehind::shares_memory() const noexcept {
    if (unshare_tells_) return ::unshare(CLONE_VM) != 0;
    return try_count_listed_threads_in(tasks_.get()) != usual_listed_;  // no count where a function has closed `tasks_`
}

bool LeftBehind::has_threads() const {
    if (!shares_memory()) return false;
    try {
        const Deadline gone = Deadline::in(kLongestExit);
        while (count_running_threads() <= usual_threads_) {
            if (gone.passed()) return true;
            poll_or_sleep({}, Deadline::in(std::chrono::microseconds(20)));
            if (!shares_memory()) return false;
        }
    } catch (const std::exception&) {
        return true;  // no descriptor is left to look
    }
    return true;
}

bool LeftBehind::has_children() const {
    pid_t ended = 0;
    do {
        ended = ::wait4(-1, nullptr, WNOHANG | __WALL, nullptr);
    } while (ended > 0);
    if (ended < 0) return errno != ECHILD;
    const std::vector<pid_t> children = own_children();
    return children.empty() || !std::all_of(children.begin(), children.end(), CallersEnds::is_kept_child);
}

}  // namespace procrun::detail
