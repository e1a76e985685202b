#include "vmcow/sys/proc/thread_count.hpp"

#include <sys/stat.h>

#include <string>
#include <vector>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/stat.hpp"
#include "vmcow/sys/proc/tasks.hpp"

namespace vmcow::sys {
namespace {

constexpr const char* kOwnTasks = "/proc/self/task";
/// The links of a folder that are not threads: its own and its parent's.
constexpr std::size_t kOwnLinks = 2;

std::optional<std::size_t> count_links(const char* tasks) noexcept {
    struct stat status {};
    if (::stat(tasks, &status) != 0) return std::nullopt;
    return static_cast<std::size_t>(status.st_nlink) - kOwnLinks;
}

std::size_t count_those_that_run() {
    const auto listed = try_list_own_threads();
    if (!listed) throw_errno(std::string("count threads: list '") + kOwnTasks + "'");
    std::size_t threads = 0;
    for (const pid_t thread : *listed) {
        const auto stat = read_stat_in(kOwnTasks + ("/" + std::to_string(thread)));
        if (stat && !stat->exiting) ++threads;
    }
    return threads;
}

}  // namespace

std::size_t count_listed_threads() {
    const auto threads = count_links(kOwnTasks);
    if (!threads) throw_errno(std::string("count threads: stat '") + kOwnTasks + "'");
    return *threads;
}

std::optional<std::size_t> try_count_listed_threads(pid_t pid) {
    return count_links(("/proc/" + std::to_string(pid) + "/task").c_str());
}

std::optional<std::size_t> try_count_listed_threads_in(int tasks) noexcept {
    struct stat status {};
    if (::fstat(tasks, &status) != 0) return std::nullopt;
    return static_cast<std::size_t>(status.st_nlink) - kOwnLinks;
}

std::size_t count_running_threads() {
    const std::size_t threads = count_listed_threads() > 1 ? count_those_that_run() : 1;
#if defined(__SANITIZE_THREAD__)
    return threads > 1 ? threads - 1 : threads;  // the sanitizer's thread holds no lock that a child could meet
#else
    return threads;
#endif
}

bool has_one_thread() noexcept { return count_links(kOwnTasks) == 1U; }

}  // namespace vmcow::sys
