#include "vmcow/sys/proc/tasks.hpp"

#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/field.hpp"

namespace vmcow::sys {
namespace {

struct CloseDirectory {
    void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

std::optional<pid_t> pid_in(std::string_view word) {
    pid_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    return error == std::errc() && end == word.data() + word.size() ? std::optional(number) : std::nullopt;
}

/// The entries of a folder that are numbers. nullopt, with errno, when it cannot be listed.
std::optional<std::vector<pid_t>> numbers_in(const std::string& path) {
    std::unique_ptr<DIR, CloseDirectory> folder(::opendir(path.c_str()));
    if (!folder) return std::nullopt;
    std::vector<pid_t> numbers;
    for (;;) {
        errno = 0;
        // Safe: no other thread has this DIR.
        // NOLINTNEXTLINE(concurrency-mt-unsafe)
        const dirent* const entry = ::readdir(folder.get());
        if (entry == nullptr) break;
        if (const auto number = pid_in(entry->d_name)) numbers.push_back(*number);
    }
    const int error = errno;
    folder.reset();
    errno = error;
    return error == 0 ? std::optional(std::move(numbers)) : std::nullopt;
}

}  // namespace

std::vector<pid_t> list_processes() {
    auto processes = try_list_processes();
    if (!processes) throw_errno("list '/proc'");
    return *std::move(processes);
}

std::optional<std::vector<pid_t>> try_list_processes() { return numbers_in("/proc"); }

std::optional<std::vector<pid_t>> try_list_threads(pid_t pid) {
    return numbers_in("/proc/" + std::to_string(pid) + "/task");
}

std::optional<std::vector<pid_t>> try_list_own_threads() { return numbers_in("/proc/self/task"); }

std::optional<std::vector<pid_t>> try_list_children(pid_t pid, pid_t thread) {
    std::string text;
    try {
        // The whole file is read: a thread may have more children than fit on the page that the kernel writes at once.
        text = read_text_file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(thread) + "/children");
    } catch (const std::system_error& error) {
        errno = error.code().value();
        return std::nullopt;
    }
    std::vector<pid_t> children;
    for (std::string_view rest = text; !rest.empty();) {
        if (const auto child = pid_in(take_word(rest))) children.push_back(*child);
    }
    return children;
}

bool has_children_files() noexcept {
    static const bool has = ::access("/proc/thread-self/children", R_OK) == 0;
    return has;
}

std::optional<pid_t> process_of_thread(pid_t thread) {
    try {
        const auto process = proc_number(read_text_file("/proc/" + std::to_string(thread) + "/status"), "Tgid");
        return process ? std::optional(static_cast<pid_t>(*process)) : std::nullopt;
    } catch (const std::system_error& error) {
        if (error.code().value() == ENOENT || error.code().value() == ESRCH) return std::nullopt;
        throw;
    }
}

}  // namespace vmcow::sys
