#include "vmcow/sys/process/prctl.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>

namespace vmcow::sys {

void signal_at_end_of_parent(int number) noexcept { (void)::prctl(PR_SET_PDEATHSIG, number); }

bool die_with_parent(pid_t parent, int number) noexcept {
    signal_at_end_of_parent(number);
    return ::getppid() == parent;
}

int adopt_orphans() noexcept { return ::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 ? 0 : errno; }

Subreaper::Subreaper() noexcept {
    (void)::prctl(PR_GET_CHILD_SUBREAPER, &before_);
    (void)adopt_orphans();
}

Subreaper::~Subreaper() {
    if (owner_.is_this_process()) (void)::prctl(PR_SET_CHILD_SUBREAPER, before_);
}

void name_thread(const char* name) noexcept { (void)::prctl(PR_SET_NAME, name); }

}  // namespace vmcow::sys
