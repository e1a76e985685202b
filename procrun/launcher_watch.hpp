#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>

namespace procrun::detail {

/// The programs that are to be killed when the caller ends, each until it has been reaped. At most `kMaxWatched`, and
/// as many as the launcher may have descriptors.
///
/// Threads: one. In the launcher: no allocation.
class WatchedPrograms {
public:
    static constexpr std::size_t kMaxWatched = 4096;

    /// Whether one more can be watched.
    [[nodiscard]] bool has_room() noexcept;
    /// Owns the pidfd from now on. Pre: there is room.
    void add(int epoll_fd, int pidfd, pid_t pid, bool leads_group) noexcept;
    /// Its pidfd has become readable: it stays until it is reaped, and says nothing any more.
    void note_end(int epoll_fd, int pidfd) noexcept;
    /// Closes the pidfds of those that were reaped.
    void forget_reaped() noexcept;
    /// SIGKILL for each, and for the process group of each that leads one.
    void kill_all() noexcept;
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }

private:
    struct Watched {
        int pidfd;
        pid_t pid;
        bool leads_group;
        bool silent;  // its pidfd says nothing (any more): whether it was reaped is asked
    };

    std::array<Watched, kMaxWatched> watched_;
    std::size_t count_ = 0;
    std::size_t silent_ = 0;
};

}  // namespace procrun::detail
