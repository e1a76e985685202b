#include "vmcow/sys/fd.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/size_signal.hpp"

namespace vmcow::sys {

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
        reset();
        fd_ = other.release();
    }
    return *this;
}

int UniqueFd::release() noexcept { return std::exchange(fd_, -1); }

void UniqueFd::reset() noexcept {
    if (const int fd = release(); fd >= 0) ::close(fd);
}

UniqueFd open_file(const std::string& path, int flags, unsigned mode) {
    UniqueFd fd(retry_interrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); }));
    if (!fd) throw_errno("open '" + path + "'");
    return fd;
}

UniqueFd duplicate(int fd) {
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) throw_errno("duplicate descriptor " + std::to_string(fd));
    return copy;
}

void write_all(int fd, std::span<const std::byte> bytes, const std::string& name) {
    while (!bytes.empty()) {
        const ssize_t written = without_size_signal(
            [&] { return retry_interrupted([&] { return ::write(fd, bytes.data(), bytes.size()); }); });
        if (written < 0) throw_errno("write '" + name + "'");
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

std::size_t read_full(int fd, std::span<std::byte> bytes, const std::string& name) {
    std::size_t filled = 0;
    while (filled < bytes.size()) {
        const ssize_t got = retry_interrupted([&] { return ::read(fd, bytes.data() + filled, bytes.size() - filled); });
        if (got < 0) throw_errno("read '" + name + "'");
        if (got == 0) break;
        filled += static_cast<std::size_t>(got);
    }
    return filled;
}

std::string read_text_file(const std::string& path) {
    const UniqueFd fd = open_file(path, O_RDONLY);
    std::string text;
    std::array<char, 16384> buffer{};
    for (;;) {
        const std::size_t got = read_full(fd.get(), std::as_writable_bytes(std::span(buffer)), path);
        text.append(buffer.data(), got);
        if (got < buffer.size()) return text;
    }
}

}  // namespace vmcow::sys
