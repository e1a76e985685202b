#include "tests/support/leak_guard.hpp"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <memory>
#include <set>
#include <sstream>
#include <thread>

#include "vmcow/image/page_store.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace tests {
namespace {

using Descriptors = std::map<int, ProcessState::Descriptor>;
using Processes = std::map<pid_t, std::string>;

std::string read_or(const std::string& path, std::string otherwise) {
    try {
        std::string text = vmcow::sys::read_text_file(path);
        if (!text.empty() && text.back() == '\n') text.pop_back();
        return text;
    } catch (const std::system_error&) {
        return otherwise;
    }
}

/// The entries of a folder of /proc that are numbers, without the descriptor through which it is read.
std::set<int> numbers_in(const char* folder) {
    struct Close {
        void operator()(DIR* open) const { ::closedir(open); }
    };
    const std::unique_ptr<DIR, Close> open(::opendir(folder));
    if (!open) vmcow::sys::throw_errno(std::string("open '") + folder + "'");
    std::set<int> numbers;
    while (const dirent* const entry = ::readdir(open.get())) {
        const std::string_view name = entry->d_name;
        int number = 0;
        if (std::from_chars(name.data(), name.data() + name.size(), number).ec == std::errc{}) numbers.insert(number);
    }
    if (std::string_view(folder) == "/proc/self/fd") numbers.erase(::dirfd(open.get()));
    return numbers;
}

Descriptors open_descriptors() {
    Descriptors found;
    for (const int fd : numbers_in("/proc/self/fd")) {
        struct stat status {};
        if (::fstat(fd, &status) != 0) continue;
        std::error_code error;
        const auto target = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error);
        found[fd] = {{status.st_dev, status.st_ino}, target.string()};
    }
    return found;
}

Processes unreaped_children() {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD) return {};
    Processes found;
    for (const int thread : numbers_in("/proc/self/task")) {
        std::istringstream list(read_or("/proc/self/task/" + std::to_string(thread) + "/children", ""));
        for (pid_t pid = 0; list >> pid;) found[pid] = read_or("/proc/" + std::to_string(pid) + "/comm", "ended");
    }
    // A kernel without CONFIG_PROC_CHILDREN only tells that there is a child, and its number once it has ended.
    if (found.empty()) found[info.si_pid] = "unknown";
    return found;
}

Processes running_threads() {
    Processes found;
    for (const int thread : numbers_in("/proc/self/task")) {
        const std::string name = read_or("/proc/self/task/" + std::to_string(thread) + "/comm", "");
        if (!name.empty()) found[thread] = name;
    }
    return found;
}

std::map<std::string, std::size_t> image_mappings() {
    std::map<std::string, std::size_t> found;
    std::istringstream maps(vmcow::sys::read_text_file("/proc/self/maps"));
    for (std::string line; std::getline(maps, line);) {
        if (line.find("/memfd:vmcow:") != std::string::npos) ++found[line];
    }
    return found;
}

bool same(const ProcessState::Descriptor& a, const ProcessState::Descriptor& b) { return a.identity == b.identity; }
bool same(const std::string&, const std::string&) { return true; }
bool same(std::size_t a, std::size_t b) { return a == b; }

/// Appends `describe(key, value)` for each entry of `from` that `without` does not have.
template <class Map, class Describe>
void append_missing(const Map& from, const Map& without, const Describe& describe, std::vector<std::string>& lines) {
    for (const auto& [key, value] : from) {
        const auto other = without.find(key);
        if (other == without.end() || !same(value, other->second)) lines.push_back(describe(key, value));
    }
}

}  // namespace

ProcessState ProcessState::now() {
    return {open_descriptors(), unreaped_children(), running_threads(), image_mappings()};
}

void LeakGuard::OnTestProgramStart(const testing::UnitTest&) {
    // The store keeps its first chunk for good, and a test that made it would seem to leave it behind.
    static_cast<void>(vmcow::PageStore::allocate({1}));
}

void LeakGuard::OnTestStart(const testing::TestInfo&) { before_ = ProcessState::now(); }

void LeakGuard::OnTestEnd(const testing::TestInfo&) {
    vmcow::PageStore::trim();  // chunks that the store keeps for reuse are no leak
    ProcessState after = ProcessState::now();
    // A joined thread stays listed until the kernel has removed it: wait for that, at most 2 s.
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (after.threads.size() > before_.threads.size() && std::chrono::steady_clock::now() < give_up) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        after = ProcessState::now();
    }
    for (const std::string& line : differences(before_, after)) ADD_FAILURE() << line;
}

std::vector<std::string> LeakGuard::differences(const ProcessState& before, const ProcessState& after) {
    const auto descriptor = [](const char* what) {
        return [what](int fd, const ProcessState::Descriptor& open) {
            return "descriptor " + std::to_string(fd) + " (" + open.name + ") was " + what;
        };
    };
    const auto process = [](const char* what) {
        return [what](pid_t pid, const std::string& name) {
            return std::string(what) + " " + std::to_string(pid) + " (" + name + ") is left behind";
        };
    };
    const auto mapping = [](const char* what) {
        return
            [what](const std::string& line, std::size_t) { return "mapping was " + std::string(what) + ": " + line; };
    };
    std::vector<std::string> lines;
    append_missing(after.descriptors, before.descriptors, descriptor("left open"), lines);
    append_missing(before.descriptors, after.descriptors, descriptor("closed, but is not the test's"), lines);
    append_missing(after.children, before.children, process("child"), lines);
    append_missing(after.threads, before.threads, process("thread"), lines);
    append_missing(after.mappings, before.mappings, mapping("left behind"), lines);
    append_missing(before.mappings, after.mappings, mapping("taken away"), lines);
    return lines;
}

}  // namespace tests
