#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "procrun/launcher_protocol.hpp"
#include "procrun/launcher_request.hpp"
#include "procrun/process.hpp"
#include "procrun/program_child.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// What a launcher takes over from the caller when it begins and cannot change afterwards. When it is not the caller's
/// any more, another launcher is needed: above all one must not hand out rights that the caller has given up.
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
class LauncherProcess {
public:
    /// The launcher, or why this kernel does not run one.
    /// Throws: std::system_error -- EMFILE, EAGAIN, ENOMEM.
    [[nodiscard]] static std::variant<std::unique_ptr<LauncherProcess>, std::string> start();
    /// Ends and reaps the launcher, unless it is that of the process this one was forked from.
    ~LauncherProcess();
    LauncherProcess(const LauncherProcess&) = delete;
    LauncherProcess& operator=(const LauncherProcess&) = delete;

    /// Whether it is there, and this process is still what it takes it for.
    [[nodiscard]] bool serves_this_process() const;

    struct Answer {
        LaunchReply reply;
        Process process;
    };
    /// nullopt when the launcher has ended without having read the request.
    /// Throws: std::system_error -- EPIPE when it has ended with the request; EMFILE, ETOOMANYREFS.
    [[nodiscard]] std::optional<Answer> ask(const LaunchMessage& message);

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// What PR_SET_PDEATHSIG means in its programs: the end of the thread that has started it. Only that of the main
    /// thread is that of the process.
    [[nodiscard]] bool is_of_main_thread() const noexcept { return of_main_thread_; }
    /// The limits that differ from those with which it began.
    [[nodiscard]] std::vector<ResourceLimit> changed_limits() const;

private:
    using Limits = std::array<rlimit, RLIM_NLIMITS>;

    LauncherProcess() = default;
    [[nodiscard]] static Limits limits_now();
    [[nodiscard]] std::optional<std::string> greeting_problem();
    [[nodiscard]] bool wait_readable() const;
    [[nodiscard]] bool send(const LaunchMessage& message);
    [[nodiscard]] std::optional<Answer> receive();

    CallerIdentity caller_;
    Limits limits_{};
    bool of_main_thread_ = false;
    bool broken_ = false;  // there may be more or less in the socket than a request and its reply
    pid_t pid_ = -1;
    vmcow::sys::UniqueFd pidfd_;
    vmcow::sys::UniqueFd socket_;
};

}  // namespace procrun::detail
