#include "tests/support/support.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <random>
#include <sstream>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/units.hpp"

namespace tests {
namespace {

using vmcow::sys::retry_interrupted;
using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

ChildEnd wait_for(pid_t pid) {
    int status = 0;
    if (retry_interrupted([&] { return ::waitpid(pid, &status, 0); }) != pid) throw_errno("waitpid");
    if (WIFSIGNALED(status)) return {-1, WTERMSIG(status)};
    return {WEXITSTATUS(status), 0};
}

/// A file in memory that holds `text`. Unlike a pipe it takes any amount while nobody reads.
UniqueFd file_with(const std::string& text) {
    UniqueFd file(::memfd_create("captured", MFD_CLOEXEC));
    if (!file) throw_errno("memfd_create");
    vmcow::sys::write_all(file.get(), std::as_bytes(std::span(text)), "captured");
    if (::lseek(file.get(), 0, SEEK_SET) != 0) throw_errno("lseek");
    return file;
}

std::string contents(const UniqueFd& file) {
    std::string text(vmcow::sys::file_bytes(file.get()), '\0');
    if (::pread(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) throw_errno("pread");
    return text;
}

/// `words` in the form of execve(2); valid as long as `words` is.
std::vector<char*> pointers_to(const std::vector<std::string>& words) {
    std::vector<char*> pointers;
    pointers.reserve(words.size() + 1);
    for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    return pointers;
}

std::vector<char*> environment_with(const std::vector<std::string>& added) {
    std::vector<char*> pointers = pointers_to(added);
    pointers.pop_back();
    for (char** variable = environ; *variable != nullptr; ++variable) pointers.push_back(*variable);
    pointers.push_back(nullptr);
    return pointers;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const ChildEnd& end) {
    if (end.signal != 0) return out << "signal " << end.signal;
    return out << "exit " << end.exit_status;
}

ChildEnd in_child(const std::function<int()>& body) {
    const pid_t pid = ::fork();
    if (pid < 0) throw_errno("fork");
    if (pid == 0) {
        int status = 125;
        try {
            status = body();
        } catch (const std::exception& error) {
            static_cast<void>(std::fprintf(stderr, "in a child: %s\n", error.what()));
        }
        ::_exit(status);
    }
    return wait_for(pid);
}

void set_action(int number, void (*action)(int)) {
    if (std::signal(number, action) == SIG_ERR) throw_errno("set the action of signal " + std::to_string(number));
}

CommandResult run_command(const std::vector<std::string>& argv, const CommandInput& input) {
    const UniqueFd in = file_with(input.text);
    const UniqueFd out =
        input.out_path.empty() ? file_with("") : vmcow::sys::open_file(input.out_path, O_WRONLY | O_CREAT);
    const UniqueFd err = file_with("");
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in.get(), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, out.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, err.get(), STDERR_FILENO);
    pid_t pid = 0;
    const int error = ::posix_spawnp(&pid, argv.front().c_str(), &actions, nullptr, pointers_to(argv).data(),
                                     environment_with(input.environment).data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw_error(error, "start '" + argv.front() + "'");
    CommandResult result;
    result.end = wait_for(pid);
    if (input.out_path.empty()) result.out = contents(out);
    result.err = contents(err);
    return result;
}

TemporaryDirectory::TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "vmcow-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw_errno("mkdtemp '" + name + "'");
    path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

ScopedLimit::ScopedLimit(int resource, rlim_t soft) : resource_(resource) {
    if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &previous_) != 0) throw_errno("getrlimit");
    const rlimit lowered{.rlim_cur = soft, .rlim_max = previous_.rlim_max};
    if (::setrlimit(static_cast<__rlimit_resource_t>(resource), &lowered) != 0) throw_errno("setrlimit");
}

ScopedLimit::~ScopedLimit() { ::setrlimit(static_cast<__rlimit_resource_t>(resource_), &previous_); }

std::size_t address_space_bytes() {
    std::istringstream statm(vmcow::sys::read_text_file("/proc/self/statm"));
    std::size_t pages = 0;
    statm >> pages;
    return pages * vmcow::kPageBytes;
}

std::vector<std::byte> noise(std::size_t bytes, unsigned seed) {
    std::mt19937_64 random(seed);
    std::vector<std::byte> made(bytes);
    for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
        const std::uint64_t value = random();
        std::memcpy(made.data() + at, &value, std::min(sizeof(value), bytes - at));
    }
    return made;
}

}  // namespace tests
