#include "vmcow/sys/proc/file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {

UniqueFd try_open_proc(const std::string& path) noexcept {
    return UniqueFd(retry_interrupted([&]() noexcept { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
}

std::optional<std::string_view> read_proc(int fd, std::span<char> room) noexcept {
    const ssize_t got = retry_interrupted([&]() noexcept { return ::pread(fd, room.data(), room.size(), 0); });
    if (got < 0) return std::nullopt;
    return std::string_view(room.data(), static_cast<std::size_t>(got));
}

std::optional<std::string_view> try_read_proc(const std::string& path, std::span<char> room) noexcept {
    UniqueFd fd = try_open_proc(path);
    if (!fd) return std::nullopt;
    const auto text = read_proc(fd.get(), room);
    const int error = errno;
    fd.reset();
    errno = error;
    return text;
}

}  // namespace vmcow::sys
