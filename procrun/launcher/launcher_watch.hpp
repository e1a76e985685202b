#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>

namespace procrun::detail {

/// The programs that are to be killed when the caller ends. Each is kept until it has been reaped. There are at most
/// `kMaxWatched`, and no more than the launcher may have descriptors.
///
/// Threads: one. It runs in the launcher, and allocates nothing.
class WatchedPrograms {
public:
    static constexpr std::size_t kMaxWatched = 4096;

    /// Whether one more program can be watched.
    [[nodiscard]] bool has_room() noexcept;
    /// Watches a program and takes ownership of its pidfd. Pre: there is room.
    void add(int epoll_fd, int pidfd, pid_t pid, bool leads_group) noexcept;
    /// A program has ended: its pidfd is readable. epoll no longer watches it; the program stays listed until it is
    /// reaped.
    void note_end(int epoll_fd, int pidfd) noexcept;
    /// Removes the programs that were reaped, and closes their pidfds.
    void forget_reaped() noexcept;
    /// Sends SIGKILL to each program, and to the process group of each program that leads one.
    void kill_all() noexcept;
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }

private:
    struct Watched {
        int pidfd;
        pid_t pid;
        bool leads_group;
        bool silent;  // epoll does not watch the pidfd: whether the program was reaped has to be asked
    };

    std::array<Watched, kMaxWatched> watched_;
    std::size_t count_ = 0;
    std::size_t silent_ = 0;
};

}  // namespace procrun::detail
