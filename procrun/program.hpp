#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "procrun/outcome.hpp"
#include "procrun/process.hpp"
#include "procrun/program_child.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

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
    /// program that gains privileges by its exec loses it.
    Program& die_with_parent();
    /// Puts the child into the process group `pgid`; 0 for a new one of its own.
    Program& process_group(pid_t pgid);

    /// Either the running child or why it never ran (`OutcomeKind::not_started`: errno of the step that failed, text
    /// naming the step and the object). After a failure nothing is left behind: no process, no descriptor. A zero byte
    /// in a word, in the environment or in the directory is EINVAL. Returns when the child has executed the program.
    /// Throws: std::system_error -- when this process itself is out of descriptors, processes or memory.
    [[nodiscard]] std::variant<Process, Outcome> start() const;

    [[nodiscard]] const std::vector<std::string>& argv() const noexcept { return argv_; }

    /// A second descriptor of `fd`'s file, close-on-exec, with a number that the child can have it under too: above 2
    /// and none that `descriptor` has been told of. Throws: std::system_error -- EBADF, EMFILE.
    [[nodiscard]] vmcow::sys::UniqueFd duplicate_beside_descriptors(int fd) const;

private:
    [[nodiscard]] std::vector<DescriptorMove> moves() const;

    std::vector<std::string> argv_;
    std::map<std::string, std::optional<std::string>> environment_;  // nullopt: taken away
    bool inherit_environment_ = true;
    std::optional<std::string> directory_;
    std::map<int, int> descriptors_;  // child's number -> ours
    bool die_with_parent_ = false;
    std::optional<pid_t> process_group_;
};

}  // namespace procrun
