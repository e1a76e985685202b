#pragma once

#include <sys/types.h>

#include "vmcow/sys/process/owner_process.hpp"

namespace procrun::detail {

/// An object that holds the caller's ends of connections to function processes.
///
/// Every process that is forked later inherits these ends. The keeper of a younger pool closes them, and so the workers
/// that are forked there do not have them. A child that the user forks may keep them: no function process depends on
/// their being closed in order to end.
///
/// Threads: any.
class CallersEnds {
public:
    CallersEnds(const CallersEnds&) = delete;
    CallersEnds& operator=(const CallersEnds&) = delete;

    /// Closes the ends of all objects that this process has inherited. For a forked process with one thread.
    static void close_all_inherited() noexcept;
    /// Whether `pid` is a child that this process keeps on purpose: its launcher, or the keeper of a pool that it made.
    [[nodiscard]] static bool is_kept_child(pid_t pid) noexcept;

protected:
    CallersEnds();
    ~CallersEnds();

    /// False in a process that was forked from the one that made this object.
    [[nodiscard]] bool are_mine() const noexcept { return owner_.is_this_process(); }

private:
    virtual void close_inherited() noexcept = 0;
    [[nodiscard]] virtual pid_t kept_child() const noexcept { return -1; }

    vmcow::sys::OwnerProcess owner_;
};

}  // namespace procrun::detail
