#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace vmcow::sys {

/// Takes the first `bytes` off what is to be written. Pre: there are so many.
void drop_written(std::vector<iovec>& pieces, std::size_t bytes) noexcept;

/// Writes to files, many at a time, straight from the caller's memory.
///
/// The kernel may do the work in threads that belong to the thread which made the ring, and which stay until that one
/// ends: a thread of its own for the ring leaves nothing behind.
///
/// Threads: one, from beginning to end.
/// Source:  io_uring(7), Linux 5.10.
class IoRing {
public:
    /// So many writes are on their way at a time.
    static constexpr unsigned kDepth = 32;

    /// Throws: std::system_error -- EPERM, ENOSYS (the kernel or a container refuses), ENOMEM (RLIMIT_MEMLOCK), EMFILE.
    IoRing();
    /// Waits for what is on its way, because the kernel still reads the caller's memory.
    ~IoRing();
    IoRing(const IoRing&) = delete;
    IoRing& operator=(const IoRing&) = delete;

    /// Begins to write `pieces`, one behind the other, to `fd` from `offset` on. A short write is continued, an
    /// interrupted one begun again. When the queue is full it waits for one of the earlier writes.
    /// Pre:    at most IOV_MAX pieces; they stay as they are until `drain`.
    /// Throws: std::system_error -- what an earlier write has failed with.
    void write(int fd, std::vector<iovec> pieces, std::uint64_t offset);
    /// Waits until everything is written.
    /// Throws: std::system_error -- what one of the writes has failed with (ENOSPC, EFBIG, EIO).
    void drain();
    /// Waits for the writes and then for the disk: fsync(2). Throws: as `drain`.
    void sync(int fd);

private:
    class Queue;
    std::unique_ptr<Queue> queue_;
};

/// Writes `pieces`, one behind the other, to `fd` from `offset` on, with as many calls as it takes.
/// Pre: at most IOV_MAX pieces. Throws: std::system_error -- ENOSPC, EFBIG, EIO; part may have been written.
void write_pieces(int fd, std::vector<iovec> pieces, std::uint64_t offset);

}  // namespace vmcow::sys
