#pragma once

#include <sys/resource.h>

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "procrun/outcome.hpp"
#include "procrun/process.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

class Launcher;
struct DescriptorMove;
namespace detail {
struct ProgramPlan;
}

/// An ordinary executable, and how to start it.
///
///     auto started = procrun::Program({"sort", "-u"}).directory("/tmp").descriptor(0, in.get()).start();
///
/// The child has descriptors 0, 1 and 2 and those that were named, and no others. Its signal mask is empty and its
/// signal dispositions are the default ones, except that it ignores those of SIGHUP and the terminal's signals that
/// this process ignores, as under nohup(1). It lives on when the thread that started it ends, unless `die_with_parent`
/// was asked for.
///
/// Threads: `start` may be called from any thread, at any time.
/// Source:  clone3(2) with CLONE_PIDFD, execve(2), close_range(2) with CLOSE_RANGE_CLOEXEC; Linux 5.11.
class Program {
public:
    /// Pre: at least one word. `argv[0]` is looked up in PATH (the parent's) unless it contains a slash.
    explicit Program(std::vector<std::string> argv);

    /// Sets a variable on top of the parent's environment. Pre: `name` is not empty and has no '='.
    Program& variable(std::string name, std::string value);
    /// Removes a variable.
    Program& without_variable(std::string name);
    /// Starts from an empty environment instead of the parent's.
    Program& empty_environment();
    /// The working directory of the child; a relative program path is resolved there.
    Program& directory(std::string path);
    /// Gives the child `parent_fd` under the number `child_fd`. Any permutation works (2>&1, swapped descriptors). The
    /// caller keeps `parent_fd` open until `start` has returned. Pre: neither number is negative.
    Program& descriptor(int child_fd, int parent_fd);
    /// Kills the child by SIGKILL when the thread that started it ends, also when the thread ended before the kernel
    /// knew (PR_SET_PDEATHSIG and a check for that race). A program that gains privileges by exec loses this. Of a
    /// program that is started through a Launcher, the end of this process counts: see `Launcher`.
    Program& die_with_parent();
    /// Puts the child into the process group `pgid`; 0 makes a new group that the child leads.
    Program& process_group(pid_t pgid);
    /// Makes the child's process group the foreground group of the terminal before the program runs, as a shell does
    /// for a job. SIGTTOU does not stop it there. ENOTTY when the terminal is not the child's controlling terminal. The
    /// caller keeps the descriptor open until `start` has returned, and takes the terminal back itself. Pre: the
    /// descriptor is not negative.
    Program& foreground(int terminal_fd);
    /// Sets a limit of the program, soft and hard, last before the exec: setrlimit(2), RLIMIT_…. EPERM above the hard
    /// limit of this process. Pre: `resource` is not negative.
    Program& limit(int resource, rlim_t value);

    /// Starts the program and returns when the child has executed it: the running child, or why it never ran
    /// (`OutcomeKind::not_started`: the errno of the step that failed, the text naming the step and the object). After
    /// a failure nothing is left behind: no process, no descriptor. A zero byte in a word, in the environment or in the
    /// directory is EINVAL.
    /// Throws: std::system_error -- when this process itself is out of descriptors, processes or memory.
    [[nodiscard]] std::variant<Process, Outcome> start() const;
    /// Starts the program from a small process instead. The cost does not depend on how big this process is, and the
    /// program's peak memory is its own. The program is still a child of this process.
    /// Throws: std::system_error -- as `start()`; and EPIPE when the launcher was killed while it started the program,
    ///         which may run then.
    [[nodiscard]] std::variant<Process, Outcome> start(Launcher& launcher) const;

    [[nodiscard]] const std::vector<std::string>& argv() const noexcept { return argv_; }

    /// Duplicates `fd`, close-on-exec, to a number that the child can use as well: above 2, and no target of
    /// `descriptor`.
    /// Throws: std::system_error -- EBADF, EMFILE.
    [[nodiscard]] vmcow::sys::UniqueFd duplicate_beside_descriptors(int fd) const;

private:
    [[nodiscard]] std::vector<DescriptorMove> moves() const;
    [[nodiscard]] std::variant<detail::ProgramPlan, Outcome> plan() const;

    std::vector<std::string> argv_;
    std::map<std::string, std::optional<std::string>> environment_;  // nullopt: removed
    bool inherit_environment_ = true;
    std::optional<std::string> directory_;
    std::map<int, int> descriptors_;  // child's number -> ours
    bool die_with_parent_ = false;
    std::optional<pid_t> process_group_;
    std::map<int, rlim_t> limits_;  // resource -> soft and hard
    int terminal_ = -1;
};

}  // namespace procrun
