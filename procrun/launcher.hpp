#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>

namespace procrun {

class Process;
struct ChildPlan;
struct Outcome;
namespace detail {
class LauncherProcess;
}

enum class LauncherKind {
    small_process,  ///< programs are started by a small process
    fork,           ///< programs are forked from this process, as by `Program::start()`
};

/// Starts programs from a small process on behalf of a big one: `program.start(launcher)`.
///
///     caller ── launcher      one socket; requests and descriptors go there, pid and pidfd come back
///        \───── program       cloned by the launcher with CLONE_PARENT: a child of the caller
///
/// A program gets what `Program::start()` would give it. From the caller as it is at the start: descriptors 0, 1 and 2
/// and those that were named, the working directory, root and umask (which the launcher shares, CLONE_FS), the process
/// group, limits and ignored signals. Everything else is as it was when the launcher was started: namespaces, cgroup,
/// capabilities, seccomp filters, scheduling. Make a new Launcher after changing these.
///
/// A launcher is replaced when the caller has changed its user, groups, session or no_new_privs, when the launcher was
/// killed, and in a forked copy of the caller.
///
/// `Program::die_with_parent` here means the caller, and not one of its threads. When the caller ends, however it ends,
/// the launcher kills these programs, and the process groups of those that lead one. A launcher that was killed or
/// destroyed cannot do so. If the main thread started the launcher, PR_SET_PDEATHSIG is set as well, which needs no
/// launcher: in a child made by CLONE_PARENT it refers to the thread that has started the launcher.
///
/// The launcher is a child of the caller, in its own process group: wait(2) for any child waits for it too. While a
/// launcher shares the caller's directory, a program that the caller executes in its own place gains no privileges
/// (execve(2), "set-user-ID").
///
/// Cost:    a start is two messages, clone and exec, whatever the caller's size; the first one also starts the
///          launcher, 1 ms.
/// Threads: any; starts through one launcher happen one after another.
/// After fork: may be used if no other thread of the parent was using it; the child gets its own launcher.
class Launcher {
public:
    /// `kind` becomes `fork`, and `refusal` says why, where the kernel does not execute memfds (vm.memfd_noexec, a
    /// security module), or where the launcher would be in another pid namespace.
    /// Throws: std::system_error -- EMFILE, EAGAIN, ENOMEM.
    explicit Launcher(LauncherKind wanted = LauncherKind::small_process);
    /// Ends the launcher. Programs that it has started go on.
    ~Launcher();
    Launcher(const Launcher&) = delete;
    Launcher& operator=(const Launcher&) = delete;

    /// The launcher of this process, started at the first use. It ends with the process.
    [[nodiscard]] static Launcher& shared();

    [[nodiscard]] LauncherKind kind() const;
    /// Why programs are forked although a small process was wanted; empty otherwise.
    [[nodiscard]] std::string refusal() const;
    /// The launcher's pid; -1 where there is none.
    [[nodiscard]] pid_t pid() const;

private:
    friend class Program;

    using Started = std::variant<Process, Outcome>;

    /// Ends the launcher process and starts another. Takes fork_lock.
    void replace();
    [[nodiscard]] bool is_usable() const;
    /// Replaces a launcher process that has ended or does not serve this process. `lock` holds `mutex_`; it is released
    /// while this thread waits for fork_lock, and held again on return.
    void replace_unusable(std::unique_lock<std::mutex>& lock);
    void end_unless_watching() noexcept;
    /// Starts a program; nullopt where programs are to be forked. `watched`: it is to be killed when the caller ends.
    [[nodiscard]] std::optional<Started> start(const ChildPlan& plan, bool watched);
    /// Sends one request; nullopt when the launcher has ended before it started anything.
    [[nodiscard]] std::optional<Started> ask(ChildPlan plan, bool watched);

    /// Guards the members below. Lock order: vmcow::fork_lock, then this mutex. A pipeline with functions holds the
    /// fork lock while it starts programs, and starting or ending a launcher process takes the fork lock: a thread that
    /// holds this mutex without the fork lock must do neither.
    mutable std::mutex mutex_;
    LauncherKind kind_;
    std::string refusal_;
    std::unique_ptr<detail::LauncherProcess> process_;  // null where programs are forked
    bool watches_ = false;                              // a program has been started with die_with_parent
};

}  // namespace procrun
