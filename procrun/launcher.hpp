#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>

#include "procrun/outcome.hpp"
#include "procrun/process.hpp"
#include "procrun/program_child.hpp"

namespace procrun {

namespace detail {
class LauncherProcess;
}

enum class LauncherKind {
    small_process,  ///< programs are started by a small process
    fork,           ///< programs are forked from this process, as `Program::start()` does it
};

/// Starts programs from a small process, for a big one: `program.start(launcher)`.
///
///     caller ── launcher      one socket; requests and descriptors go there, pid and pidfd come back
///        \───── program       cloned by the launcher with CLONE_PARENT: a child of the caller
///
/// A program gets what it would get from `Program::start()`: of the caller as it is now, descriptors 0, 1 and 2 and
/// those that are named, the working directory, root and umask (which the launcher shares, CLONE_FS), process group,
/// limits and ignored signals. A launcher that was started before the caller changed its user, groups, session or
/// no_new_privs is replaced, and so is one that was killed or belongs to the process this one was forked from. All else
/// is as of the launcher's start: namespaces, cgroup, capabilities, seccomp filters, scheduling. Start one after
/// changing these.
///
/// `Program::die_with_parent` means the caller here, not a thread of it: when the caller ends, however it ends, the
/// launcher kills these programs and the process groups of those that lead one. A launcher that is killed or destroyed
/// does so no more. If it was started by the main thread, PR_SET_PDEATHSIG is set too, which then needs no launcher: in
/// a child made by CLONE_PARENT it stands for the thread that has started the launcher.
///
/// The launcher is a child of the caller, in a process group of its own: wait(2) for any child waits for it too. What
/// the caller executes in its own place gains no privileges (execve(2), "set-user-ID") while a launcher shares its
/// directory.
///
/// Cost:    a start is two messages, clone and exec, whatever the caller's size; the first one also starts the
///          launcher, 1 ms.
/// Threads: any; starts through one launcher go one after another.
/// After fork: may be used if no other thread of the parent was using it; the child gets a launcher of its own.
class Launcher {
public:
    /// Where the kernel does not execute memfds (vm.memfd_noexec, a security module), or the launcher would lie in
    /// another pid namespace, `kind` becomes `fork`, and `refusal` says why.
    /// Throws: std::system_error -- EMFILE, EAGAIN, ENOMEM.
    explicit Launcher(LauncherKind wanted = LauncherKind::small_process);
    /// Ends the launcher; programs go on.
    ~Launcher();
    Launcher(const Launcher&) = delete;
    Launcher& operator=(const Launcher&) = delete;

    /// The one of this process, started at its first use. It ends with the process.
    [[nodiscard]] static Launcher& shared();

    [[nodiscard]] LauncherKind kind() const;
    /// Why programs are forked; empty if they are not or were meant to be.
    [[nodiscard]] std::string refusal() const;
    /// The launcher's pid; -1 where there is none.
    [[nodiscard]] pid_t pid() const;

private:
    friend class Program;

    using Started = std::variant<Process, Outcome>;

    void replace();
    void end_unless_watching() noexcept;
    /// nullopt where programs are to be forked. `watched`: to be killed when the caller ends.
    [[nodiscard]] std::optional<Started> start(const ChildPlan& plan, bool watched);
    /// nullopt when the launcher has ended before it started anything.
    [[nodiscard]] std::optional<Started> ask(ChildPlan plan, bool watched);

    mutable std::mutex mutex_;
    LauncherKind kind_;
    std::string refusal_;
    std::unique_ptr<detail::LauncherProcess> process_;  // none where programs are forked
    bool watches_ = false;                              // or has watched
};

}  // namespace procrun
