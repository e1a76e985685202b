#include "tests/vmcow/meter/stacks/copying_program.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <sstream>
#include <stdexcept>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/units.hpp"

namespace tests {

using vmcow::sys::UniqueFd;

CopyingProgram::CopyingProgram(const std::string& path, const std::string& what, std::size_t pages) : pages_(pages) {
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) vmcow::sys::throw_errno("pipe");
    const UniqueFd their_in(in[0]);
    const UniqueFd their_out(out[1]);
    in_ = UniqueFd(in[1]);
    out_ = UniqueFd(out[0]);
    std::array<std::string, 3> words{path, what, std::to_string(pages)};
    std::array<char*, 4> argv{words[0].data(), words[1].data(), words[2].data(), nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, their_in.get(), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, their_out.get(), STDOUT_FILENO);
    const int error = ::posix_spawn(&pid_, path.c_str(), &actions, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) vmcow::sys::throw_error(error, "start " + path);
    std::istringstream ready(line());
    std::string word;
    pid_t pid = 0;
    std::uint64_t address = 0;
    if (!(ready >> word >> pid >> address) || pid != pid_) throw std::runtime_error("no answer of " + path);
    first_page_ = address / vmcow::kPageBytes;
}

CopyingProgram::~CopyingProgram() {
    if (pid_ < 0) return;
    if (child_ > 0) vmcow::sys::signal_process(child_, SIGKILL);
    vmcow::sys::signal_process(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void CopyingProgram::go_on() const {
    const char byte = '.';
    if (::write(in_.get(), &byte, 1) != 1) vmcow::sys::throw_errno("tell the program to go on");
}

std::string CopyingProgram::line() {
    std::string text;
    for (char letter = 0; ::read(out_.get(), &letter, 1) == 1 && letter != '\n';) text += letter;
    return text;
}

void CopyingProgram::fork() {
    go_on();
    std::istringstream forked(line());
    std::string word;
    if (!(forked >> word >> child_)) throw std::runtime_error("the program did not fork");
}

void CopyingProgram::write() {
    go_on();
    if (line() != "written") throw std::runtime_error("the program did not write");
}

void CopyingProgram::leave() {
    go_on();
    if (line() != "over") throw std::runtime_error("the program did not end");
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

}  // namespace tests
