#include "vmcow/cli/kit/output_place.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow::cli {
namespace {

bool same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

/// The status of the file at `path`; nullopt if there is no such file yet.
std::optional<struct stat> status_of(const std::string& path, const std::string& message) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) return status;
    if (errno != ENOENT) sys::throw_errno(message);
    return std::nullopt;
}

/// The descriptor that `path` names. Its file has been opened already and is written where the descriptor stands, not
/// replaced.
std::optional<int> descriptor_at(std::string_view path) {
    if (path == "/dev/stderr") return STDERR_FILENO;
    for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
        if (!path.starts_with(folder)) continue;
        const std::string_view digits = path.substr(folder.size());
        int fd = -1;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), fd);
        if (error == std::errc() && end == digits.data() + digits.size()) return fd;
    }
    return std::nullopt;
}

}  // namespace

OutputPlace place_of(const std::string& path) {
    using Kind = OutputPlace::Kind;
    if (path == "-") return {.kind = Kind::standard_output};
    const std::string message = "write '" + path + "'";
    if (path.empty()) sys::throw_error(ENOENT, message);
    const auto status = status_of(path, message);
    if (!status) return {.kind = Kind::file};
    if (S_ISDIR(status->st_mode)) sys::throw_error(EISDIR, message);
    struct stat stdout_status {};
    if (::fstat(STDOUT_FILENO, &stdout_status) == 0 && same_file(*status, stdout_status)) {
        return {.kind = Kind::standard_output};
    }
    if (const auto fd = descriptor_at(path); fd && S_ISREG(status->st_mode)) {
        sys::UniqueFd copy(::fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
        if (!copy) sys::throw_errno(message);
        return {.kind = Kind::direct, .direct = std::move(copy)};
    }
    if (S_ISREG(status->st_mode)) return {.kind = Kind::file};
    return {.kind = Kind::direct, .direct = sys::open_file(path, O_WRONLY | O_NOCTTY)};
}

}  // namespace vmcow::cli
