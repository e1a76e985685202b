#pragma once

#include <signal.h>
#include <sys/types.h>

#include "vmcow/sys/process/owner_process.hpp"

namespace vmcow::sys {

/// Attributes that the kernel keeps for a process or a thread. Source: prctl(2).

/// Sends this process the signal `number` when the thread that forked it ends. The setting stays through execve(2),
/// unless the program has other rights; a child that this process forks does not inherit it. Async-signal-safe.
/// Source: PR_SET_PDEATHSIG.
void signal_at_end_of_parent(int number) noexcept;

/// Like signal_at_end_of_parent, for a child that `parent` has just forked. False when the parent has ended before: no
/// signal will tell of that, so the child must end at once. Async-signal-safe.
[[nodiscard]] bool die_with_parent(pid_t parent, int number = SIGKILL) noexcept;

/// Makes orphans below this process its children from now on. Returns 0 or an errno, for which the kernel has no
/// reason. A child that this process forks does not inherit the setting.
/// Source: PR_SET_CHILD_SUBREAPER, Linux 3.4.
[[nodiscard]] int adopt_orphans() noexcept;

/// Makes orphans below this process its children while this object lives; afterwards the setting is as before. When the
/// kernel refuses, the orphans go where they went before.
/// After fork: the copy in a child changes nothing.
class Subreaper {
public:
    Subreaper() noexcept;
    Subreaper(const Subreaper&) = delete;
    Subreaper& operator=(const Subreaper&) = delete;
    ~Subreaper();

private:
    int before_ = 0;
    OwnerProcess owner_;
};

/// Sets the name of the calling thread in lists of threads; 15 bytes of it are kept. The first thread's name is also
/// the name of the process.
/// Source: PR_SET_NAME.
void name_thread(const char* name) noexcept;

}  // namespace vmcow::sys
