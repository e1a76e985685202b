#pragma once

#include <sys/resource.h>

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "procrun/outcome.hpp"
#include "procrun/process.hpp"
#include "procrun/program_child.hpp"
#include "procrun/program_start.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

class Launcher;

/// An ordinary executable, and how to start it.
///
///     auto started = procrun::Program({"sort", "-u"}).directory("/tmp").descriptor(0, in.get()).start();
///
/// The child has the descriptors that were named and 0, 1 and 2, nothing else; an empty signal mask and default signal
/// dispositions, but that it ignores what this process ignores of SIGHUP and the terminal's signals, as under nohup(1).
/// It dies with the thread that started it only if `die_with_parent` is asked for.
///
/// Threads: `start` may be called from any thread, at any time.
/// Source:  clone3(2) with CLONE_PIDFD, execve(2), close_range(2) with CLOSE_RANGE_CLOEXEC; Linux 5.11.
class Program {
public:
    /// Pre: at least one word. `argv[0]` is looked up in PATH (the parent's) unless it contains a slash.
    explicit Program(std::vector<std::string> argv);

    /// Sets a variable on top of the parent's environment.
    Program& variable(std::string name, std::string value);
    /// Takes a variable away.
    Program& without_variable(std::string name);
    /// Starts from an empty environment instead of the parent's.
    Program& empty_environment();
    /// The working directory of the child; a relative program path is resolved there.
    Program& directory(std::string path);
    /// Gives the child `parent_fd` under the number `child_fd`. The caller keeps it open until `start` has returned.
    /// Any permutation works (2>&1, swapped descriptors).
    Program& descriptor(int child_fd, int parent_fd);
    /// SIGKILL for the child when the thread that started it ends: PR_SET_PDEATHSIG, checked against the race. A
    /// program that gains privileges by its exec loses it. Through a Launcher: when this process ends, see there.
    Program& die_with_parent();
    /// Puts the child into the process group `pgid`; 0 for a new one of its own.
    Program& process_group(pid_t pgid);
    /// Makes the child's process group the foreground group of the terminal before the program runs, as a shell does
    /// for a job; without being stopped by SIGTTOU. Refused with ENOTTY unless it is the child's controlling terminal.
    /// The caller keeps the descriptor open until `start` has returned, and takes the terminal back itself.
    Program& foreground(int terminal_fd);
    /// A limit of the program, soft and hard: setrlimit(2), RLIMIT_…; set last before the exec. Refused with EPERM
    /// above the hard limit that this process has.
    Program& limit(int resource, rlim_t value);

    /// Either the running child or why it never ran (`OutcomeKind::not_started`: errno of the step that failed, text
    /// naming the step and the object). After a failure nothing is left behind: no process, no descriptor. A zero byte
    /// in a word, in the environment or in the directory is EINVAL. Returns when the child has executed the program.
    /// Throws: std::system_error -- when this process itself is out of descriptors, processes or memory.
    [[nodiscard]] std::variant<Process, Outcome> start() const;
    /// The same by way of a small process: what it costs does not depend on how big this process is, and the program's
    /// peak memory is its own. The program is a child of this process all the same.
    /// Throws: std::system_error -- and EPIPE when the launcher was killed while it started the program, which may run
    ///         then.
    [[nodiscard]] std::variant<Process, Outcome> start(Launcher& launcher) const;

    [[nodiscard]] const std::vector<std::string>& argv() const noexcept { return argv_; }

    /// A second descriptor of `fd`'s file, close-on-exec, with a number that the child can have it under too: above 2
    /// and none that `descriptor` has been told of. Throws: std::system_error -- EBADF, EMFILE.
    [[nodiscard]] vmcow::sys::UniqueFd duplicate_beside_descriptors(int fd) const;

private:
    [[nodiscard]] std::vector<DescriptorMove> moves() const;
    [[nodiscard]] std::variant<detail::ProgramPlan, Outcome> plan() const;

    std::vector<std::string> argv_;
    std::map<std::string, std::optional<std::string>> environment_;  // nullopt: taken away
    bool inherit_environment_ = true;
    std::optional<std::string> directory_;
    std::map<int, int> descriptors_;  // child's number -> ours
    bool die_with_parent_ = false;
    std::optional<pid_t> process_group_;
    std::map<int, rlim_t> limits_;  // resource -> soft and hard
    int terminal_ = -1;
};

}  // namespace procrun
