#include "procrun/observe/pipe_gauge.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <climits>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

/// Whether a descriptor is an end of a pipe made by pipe(2). A named pipe lies in another file system.
bool is_anonymous_pipe(int fd) {
    struct statfs system {};
    return vmcow::sys::retry_interrupted([&] { return fstatfs(fd, &system); }) == 0 && system.f_type == PIPEFS_MAGIC;
}

UniqueFd open_path(const std::string& path, int flags) {
    return UniqueFd(vmcow::sys::retry_interrupted([&] { return open(path.c_str(), flags | O_CLOEXEC); }));
}

}  // namespace

bool PipeLevel::full() const noexcept {
    return capacity_bytes > 0 && queued_bytes + vmcow::kPageBytes > capacity_bytes;
}

PipeGauge::PipeGauge(int fd) : name_(name_of_descriptor("/proc/self", fd)) {
    if (!is_anonymous_pipe(fd)) return;
    path_ = open_path(fmt::format("/proc/self/fd/{}", fd), O_PATH);
    reopen_path_ = fmt::format("/proc/self/fd/{}", path_.get());
}

std::optional<PipeLevel> PipeGauge::level() const {
    if (!path_) return std::nullopt;
    const UniqueFd reader = open_path(reopen_path_, O_RDONLY | O_NONBLOCK);
    if (!reader) return std::nullopt;
    int queued = 0;
    if (ioctl(reader.get(), FIONREAD, &queued) != 0) return std::nullopt;
    const int capacity = fcntl(reader.get(), F_GETPIPE_SZ);
    if (capacity < 0) return std::nullopt;
    return PipeLevel{.queued_bytes = static_cast<std::size_t>(queued),
                     .capacity_bytes = static_cast<std::size_t>(capacity)};
}

std::string name_of_descriptor(const std::string& process_folder, int fd) {
    std::array<char, PATH_MAX> name{};
    const std::string path = fmt::format("{}/fd/{}", process_folder, fd);
    const ssize_t length = readlink(path.c_str(), name.data(), name.size());
    return length > 0 ? std::string(name.data(), static_cast<std::size_t>(length)) : std::string();
}

}  // namespace procrun
