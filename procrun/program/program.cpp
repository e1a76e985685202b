#include "procrun/program.hpp"

#include <linux/sched.h>
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
#include "procrun/program/program_child.hpp"
#include "procrun/program/program_path.hpp"
#include "procrun/program/program_start.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace procrun {

using vmcow::sys::throw_errno;
using vmcow::sys::UniqueFd;

namespace {

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

// execve would cut a string short at its zero byte, and report nothing.
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

// Forks, and returns when the child has given up its memory: by then it runs the program, or its failure is in the
// error pipe. CLONE_VFORK serves only for that wait. Waiting for end of file in the pipe would not do: a process that
// another thread forks meanwhile, and that never executes anything, keeps the write end open. There is no CLONE_VM,
// because the child's ru_maxrss would then be the peak of this process.
Process clone_child(const ChildPlan& plan, const std::string& name) {
    VMCOW_ASSERT(plan.error_fd >= 0 && "I7: the child has a pipe to report {step, errno} by");
    const vmcow::sys::BlockedSignals blocked;
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
    // The destructor of `child` reaps the child.
    return detail::outcome_of(*failure, plan);
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

Program& Program::limit(int resource, rlim_t value) {
    VMCOW_ASSERT(resource >= 0);
    limits_.insert_or_assign(resource, value);
    return *this;
}

Program& Program::foreground(int terminal_fd) {
    VMCOW_ASSERT(terminal_fd >= 0);
    terminal_ = terminal_fd;
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

std::variant<detail::ProgramPlan, Outcome> Program::plan() const {
    detail::ProgramPlan plan;
    plan.environment = merged_environment(inherit_environment_, environment_);
    if (auto refusal = refuse_zero_bytes(argv_, plan.environment, directory_)) return *std::move(refusal);
    plan.paths = program_paths(argv_.front());
    plan.argv_pointers = pointers_to(argv_);
    plan.environment_pointers = pointers_to(plan.environment);
    plan.path_pointers = pointers_to(plan.paths);
    plan.moves = moves();
    for (const auto& [resource, value] : limits_) plan.limits.push_back({resource, {value, value}});
    plan.process_group = process_group_;
    plan.directory = directory_ ? directory_->c_str() : nullptr;
    plan.terminal = terminal_;
    return plan;
}

std::variant<Process, Outcome> Program::start() const {
    auto plan = this->plan();
    if (auto* refusal = std::get_if<Outcome>(&plan)) return std::move(*refusal);
    ChildPlan child = std::get<detail::ProgramPlan>(plan).for_child();
    child.die_with_parent = die_with_parent_;
    return run_plan(child);
}

}  // namespace procrun
