#include "procrun/program.hpp"

#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "pipes/pipe.hpp"
#include "procrun/program_child.hpp"
#include "procrun/program_path.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

namespace {

// All signals of the calling thread wait while this lives, so that no handler of ours ever runs in the child.
class BlockedSignals {
public:
    BlockedSignals() {
        sigset_t all;
        sigfillset(&all);
        const int error = pthread_sigmask(SIG_SETMASK, &all, &previous_);
        if (error != 0) throw_error(error, "pthread_sigmask");
    }
    BlockedSignals(const BlockedSignals&) = delete;
    BlockedSignals& operator=(const BlockedSignals&) = delete;
    ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }

private:
    sigset_t previous_{};
};

std::vector<std::string> merged_environment(bool inherit,
                                            const std::map<std::string, std::optional<std::string>>& changes) {
    std::vector<std::string> merged;
    for (char** entry = inherit ? environ : nullptr; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string_view text{*entry};
        if (!changes.contains(std::string{text.substr(0, text.find('='))})) merged.emplace_back(text);
    }
    for (const auto& [name, value] : changes) {
        if (value) merged.push_back(fmt::format("{}={}", name, *value));
    }
    return merged;
}

std::vector<const char*> pointers_to(const std::vector<std::string>& texts) {
    std::vector<const char*> pointers;
    pointers.reserve(texts.size() + 1);
    for (const std::string& text : texts) pointers.push_back(text.c_str());
    pointers.push_back(nullptr);
    return pointers;
}

bool holds_zero_byte(const std::string& text) { return text.find('\0') != std::string::npos; }

// What execve would cut short without a word.
std::optional<Outcome> refuse_zero_bytes(const std::vector<std::string>& argv,
                                         const std::vector<std::string>& environment,
                                         const std::optional<std::string>& directory) {
    std::string where;
    if (std::any_of(argv.begin(), argv.end(), holds_zero_byte)) where = "word";
    if (std::any_of(environment.begin(), environment.end(), holds_zero_byte)) where = "variable";
    if (directory && holds_zero_byte(*directory)) where = "directory";
    if (where.empty()) return std::nullopt;
    return Outcome{.kind = OutcomeKind::not_started,
                   .code = EINVAL,
                   .text = fmt::format("{} with a zero byte for '{}'", where, argv.front().c_str())};
}

// A fork that returns when the child has let go of its memory: by then it runs the program, or its failure lies in the
// error pipe. CLONE_VFORK only for that wait. End of file in the pipe would not do: a process that another thread forks
// meanwhile, and that never executes anything, keeps the pipe's write end open. Not CLONE_VM: the child's ru_maxrss
// would be the peak of this process.
Process clone_child(const ChildPlan& plan, const std::string& name) {
    const BlockedSignals blocked;
    int pidfd = -1;
    clone_args args{};
    args.flags = CLONE_PIDFD | CLONE_VFORK;
    args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
    args.exit_signal = SIGCHLD;
    const long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) run_child(plan);
    if (pid == -1) throw_errno(fmt::format("clone3 for '{}'", name));
    return Process{static_cast<pid_t>(pid), UniqueFd{pidfd}};
}

std::optional<StartFailure> read_failure(const UniqueFd& error_pipe) {
    if (pipes::queued_bytes(error_pipe.get()) == 0) return std::nullopt;
    StartFailure failure;
    vmcow::sys::read_full(error_pipe.get(), std::as_writable_bytes(std::span{&failure, 1}), "the child's error pipe");
    return failure;
}

std::string describe_step(const StartFailure& failure, const ChildPlan& plan) {
    switch (failure.step) {
        case StartStep::die_with_parent:
            return "prctl PR_SET_PDEATHSIG";
        case StartStep::set_process_group:
            return fmt::format("setpgid {}", *plan.process_group);
        case StartStep::reset_signals:
            return "rt_sigaction";
        case StartStep::change_directory:
            return fmt::format("chdir '{}'", plan.directory);
        case StartStep::place_descriptor: {
            const auto move = std::find_if(plan.moves.begin(), plan.moves.end(),
                                           [&](const auto& each) { return each.target == failure.descriptor; });
            return fmt::format("descriptor {} from {}", move->target, move->source);
        }
        case StartStep::hide_descriptors:
            return "close_range CLOSE_RANGE_CLOEXEC";
        case StartStep::unblock_signals:
            return "rt_sigprocmask";
        case StartStep::execute:
            return fmt::format("execve '{}'", plan.argv[0]);
    }
    vmcow::sys::assert_failed("StartStep is one of its enumerators", __FILE__, __LINE__);
}

std::variant<Process, Outcome> run_plan(ChildPlan& plan) {
    const std::string name{plan.argv[0]};
    pipes::Pipe error_pipe = pipes::Pipe::open();
    const UniqueFd error_end{duplicate_beside(error_pipe.write_end().get(), plan.moves)};
    if (!error_end) throw_errno(fmt::format("fcntl F_DUPFD_CLOEXEC of the error pipe for '{}'", name));
    error_pipe.take_write_end().reset();
    plan.error_fd = error_end.get();

    Process child = clone_child(plan, name);
    const std::optional<StartFailure> failure = read_failure(error_pipe.read_end());
    if (!failure) return child;
    // The owner reaps the child at the end of this scope.
    return Outcome{.kind = OutcomeKind::not_started, .code = failure->error, .text = describe_step(*failure, plan)};
}

}  // namespace

Program::Program(std::vector<std::string> argv) : argv_(std::move(argv)) { VMCOW_ASSERT(!argv_.empty()); }

Program& Program::variable(std::string name, std::string value) {
    VMCOW_ASSERT(!name.empty() && name.find('=') == std::string::npos);
    environment_.insert_or_assign(std::move(name), std::move(value));
    return *this;
}

Program& Program::without_variable(std::string name) {
    environment_.insert_or_assign(std::move(name), std::nullopt);
    return *this;
}

Program& Program::empty_environment() {
    inherit_environment_ = false;
    return *this;
}

Program& Program::directory(std::string path) {
    directory_ = std::move(path);
    return *this;
}

Program& Program::descriptor(int child_fd, int parent_fd) {
    VMCOW_ASSERT(child_fd >= 0 && parent_fd >= 0);
    descriptors_.insert_or_assign(child_fd, parent_fd);
    return *this;
}

Program& Program::die_with_parent() {
    die_with_parent_ = true;
    return *this;
}

Program& Program::process_group(pid_t pgid) {
    process_group_ = pgid;
    return *this;
}

std::vector<DescriptorMove> Program::moves() const {
    std::vector<DescriptorMove> moves;
    for (const auto& [target, source] : descriptors_) moves.push_back({.target = target, .source = source});
    return moves;
}

UniqueFd Program::duplicate_beside_descriptors(int fd) const {
    UniqueFd copy(duplicate_beside(fd, moves()));
    if (!copy) throw_errno(fmt::format("duplicate descriptor {} for '{}'", fd, argv_.front()));
    return copy;
}

std::variant<Process, Outcome> Program::start() const {
    const std::vector<std::string> environment = merged_environment(inherit_environment_, environment_);
    if (auto refusal = refuse_zero_bytes(argv_, environment, directory_)) return *std::move(refusal);
    const std::vector<std::string> paths = program_paths(argv_.front());
    const std::vector<const char*> argv_pointers = pointers_to(argv_);
    const std::vector<const char*> environment_pointers = pointers_to(environment);
    const std::vector<const char*> path_pointers = pointers_to(paths);
    std::vector<DescriptorMove> moves = this->moves();

    ChildPlan plan{.argv = argv_pointers.data(),
                   .environment = environment_pointers.data(),
                   .paths = path_pointers.data(),
                   .directory = directory_ ? directory_->c_str() : nullptr,
                   .process_group = process_group_ ? &*process_group_ : nullptr,
                   .die_with_parent = die_with_parent_,
                   .parent = getpid(),
                   .moves = moves};
    return run_plan(plan);
}

}  // namespace procrun
