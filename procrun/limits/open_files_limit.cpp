#include "procrun/limits/open_files_limit.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

namespace procrun {

OpenFilesLimit::OpenFilesLimit(std::optional<std::uint32_t> more) noexcept {
    if (!more) return;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == -1) {
        error_ = errno;
        return;
    }
    previous_ = limit.rlim_cur;
    if (*more >= previous_) return;
    rlim_t lowered = 0;
    for (std::uint32_t free = 0; lowered < previous_; ++lowered) {
        const bool is_free = ::fcntl(static_cast<int>(lowered), F_GETFD) == -1 && errno == EBADF;
        // The limit goes above open descriptors that follow the last free number: dup2(2) and poll(2) heed it as well.
        if (is_free && free == *more) break;
        if (is_free) ++free;
    }
    if (lowered == previous_) return;
    limit.rlim_cur = lowered;
    in_force_ = ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
    if (!in_force_) error_ = errno;
}

OpenFilesLimit::~OpenFilesLimit() {
    if (!in_force_) return;
    // The function may have lowered the hard limit, and the soft limit cannot be above it.
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == -1) return;
    limit.rlim_cur = std::min(previous_, limit.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

bool OpenFilesLimit::is_reason_of(const std::system_error& error) const noexcept {
    return in_force_ && error.code() == std::errc::too_many_files_open;
}

std::string OpenFilesLimit::reason(std::uint32_t more) { return fmt::format("open files: at most {}", more); }

}  // namespace procrun
