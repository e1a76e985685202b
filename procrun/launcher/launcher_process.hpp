#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "procrun/launcher/launcher_protocol.hpp"
#include "procrun/launcher/launcher_request.hpp"
#include "procrun/process.hpp"
#include "procrun/process/callers_ends.hpp"
#include "procrun/program/program_child.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// What a launcher gets from the caller at its start, and cannot change afterwards. When the caller has changed any of
/// it, another launcher is needed. Above all, programs must not get rights that the caller has given up.
struct CallerIdentity {
    pid_t pid = -1;
    pid_t session = -1;
    std::array<uid_t, 3> users{};
    std::array<gid_t, 3> groups{};
    std::vector<gid_t> other_groups;
    int no_new_privileges = 0;

    [[nodiscard]] static CallerIdentity now();
    bool operator==(const CallerIdentity&) const = default;
};

/// One running launcher. It shares the working directory, the root and the umask with this process (CLONE_FS).
///
/// Threads: one at a time.
/// Source:  clone(2) with CLONE_VM, CLONE_VFORK, CLONE_FS, CLONE_PIDFD; execveat(2) with AT_EMPTY_PATH;
///          memfd_create(2).
class LauncherProcess final : private CallersEnds {
public:
    /// The launcher, or why this kernel does not run one.
    /// Throws: std::system_error -- EMFILE, EAGAIN, ENOMEM.
    [[nodiscard]] static std::variant<std::unique_ptr<LauncherProcess>, std::string> start();
    /// Ends and reaps the launcher; in a forked copy it does not.
    ~LauncherProcess();

    /// Whether the launcher runs, and this process still has the identity that the launcher got from it.
    [[nodiscard]] bool serves_this_process() const;

    struct Answer {
        LaunchReply reply;
        Process process;
    };
    /// Has a program started. nullopt when the launcher has ended without having read the request.
    /// Throws: std::system_error -- EPIPE: the launcher has read the request and ended; EMFILE, ETOOMANYREFS.
    [[nodiscard]] std::optional<Answer> ask(const LaunchMessage& message);

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// Whether the main thread started the launcher. PR_SET_PDEATHSIG in a program refers to the end of the thread that
    /// started the launcher, and only the end of the main thread is the end of the process.
    [[nodiscard]] bool is_of_main_thread() const noexcept { return of_main_thread_; }
    /// The limits of this process that differ from those that the launcher was started with.
    [[nodiscard]] std::vector<ResourceLimit> changed_limits() const;

private:
    using Limits = std::array<rlimit, RLIM_NLIMITS>;

    LauncherProcess() = default;
    void close_inherited() noexcept override;
    [[nodiscard]] pid_t kept_child() const noexcept override { return pid_; }
    [[nodiscard]] static Limits limits_now();
    [[nodiscard]] std::optional<std::string> greeting_problem();
    [[nodiscard]] bool wait_readable() const;
    [[nodiscard]] bool ends_soon() const noexcept;
    void take_back() noexcept;
    [[nodiscard]] bool send(const LaunchMessage& message);
    [[nodiscard]] std::optional<Answer> receive();

    CallerIdentity caller_;
    Limits limits_{};
    bool of_main_thread_ = false;
    bool broken_ = false;  // the socket may hold parts of a request, or a reply that nobody waits for
    pid_t pid_ = -1;
    vmcow::sys::UniqueFd pidfd_;
    vmcow::sys::UniqueFd socket_;
};

}  // namespace procrun::detail
