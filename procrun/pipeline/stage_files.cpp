#include "procrun/pipeline/stage_files.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

using vmcow::sys::throw_errno;
using vmcow::sys::UniqueFd;

namespace {

using Kind = Redirection::Kind;

constexpr std::chrono::milliseconds kFifoRetry{10};

struct stat status_of(int fd, const std::string& name) {
    struct stat status {};
    if (fstat(fd, &status) != 0) throw_errno(name);
    return status;
}

/// Waits until `fd` (-1: none) is readable, or until `until`. Returns an errno when a limit came first, otherwise 0.
int wait_within(int fd, const WaitLimits& limits, Deadline until) {
    std::array<pollfd, 2> wanted{pollfd{fd, POLLIN, 0}, pollfd{limits.stop_fd, POLLIN, 0}};
    poll_until(wanted, earlier(limits.deadline, until), "wait for a named pipe");
    if (wanted[1].revents != 0) return ECANCELED;
    if (wanted[0].revents != 0) return 0;
    return limits.deadline.passed() ? ETIMEDOUT : 0;
}

bool is_fifo(const std::string& path) {
    struct stat status {};
    return stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode);
}

void make_blocking(int fd, const std::string& name) {
    const int flags = fcntl(fd, F_GETFL);
    if (flags == -1 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == -1) throw_errno(name);
}

/// Opens a named pipe within `limits`. A plain open(2) waits for the other side, and heeds neither deadline nor stop.
UniqueFd open_fifo(const std::string& path, bool reading, const WaitLimits& limits) {
    const std::string name = fmt::format("open '{}'", path);
    const int flags = (reading ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_CLOEXEC;
    UniqueFd fd;
    int refusal = 0;
    for (;;) {
        fd = UniqueFd(open(path.c_str(), flags));
        if (fd) break;
        if (reading || errno != ENXIO) throw_errno(name);
        refusal = wait_within(-1, limits, Deadline::in(kFifoRetry));  // there is no event for a reader that comes
        if (refusal != 0) vmcow::sys::throw_error(refusal, name);
    }
    // A reader that comes before any writer would find the end of the file.
    if (reading) refusal = wait_within(fd.get(), limits, Deadline::never());
    if (refusal != 0) vmcow::sys::throw_error(refusal, name);
    make_blocking(fd.get(), name);
    return fd;
}

UniqueFd open_redirection(const Redirection& redirection, const WaitLimits& limits) {
    const bool reading = redirection.kind == Kind::read;
    if (is_fifo(redirection.file)) return open_fifo(redirection.file, reading, limits);
    int flags = reading ? O_RDONLY : O_WRONLY | O_CREAT;
    if (redirection.kind == Kind::append) flags |= O_APPEND;
    return vmcow::sys::open_file(redirection.file, flags | O_NOCTTY);
}

void empty_file(const Redirection& redirection, int fd) {
    const std::string name = fmt::format("truncate '{}'", redirection.file);
    if (!S_ISREG(status_of(fd, name).st_mode)) return;
    if (vmcow::sys::retry_interrupted([&] { return ftruncate(fd, 0); }) != 0) throw_errno(name);
}

}  // namespace

Outcome not_started(const std::system_error& error) {
    std::string text = error.what();
    const std::string description = ": " + error.code().message();
    if (text.ends_with(description)) text.resize(text.size() - description.size());
    return {.kind = OutcomeKind::not_started, .code = error.code().value(), .text = std::move(text)};
}

std::variant<std::vector<StageFiles>, FileRefusal> open_stage_files(const PipelineText& text,
                                                                    const WaitLimits& limits) {
    std::vector<StageFiles> files;
    for (const StageText& stage : text.stages) files.emplace_back(stage.redirections.size());

    std::size_t at = 0;
    const auto for_each = [&](auto&& action) {
        for (at = 0; at < text.stages.size(); ++at) {
            const auto& redirections = text.stages[at].redirections;
            for (std::size_t i = 0; i < redirections.size(); ++i) action(redirections[i], files[at][i]);
        }
    };
    try {
        for_each([&](const Redirection& redirection, UniqueFd& fd) {
            if (redirection.kind == Kind::read) fd = open_redirection(redirection, limits);
        });
        for_each([&](const Redirection& redirection, UniqueFd& fd) {
            const bool writes = redirection.kind == Kind::write || redirection.kind == Kind::append;
            if (writes) fd = open_redirection(redirection, limits);
        });
        for_each([&](const Redirection& redirection, UniqueFd& fd) {
            if (redirection.kind == Kind::write) empty_file(redirection, fd.get());
        });
    } catch (const std::system_error& error) {
        return FileRefusal{.stage = at, .outcome = not_started(error)};
    }
    return files;
}

}  // namespace procrun
