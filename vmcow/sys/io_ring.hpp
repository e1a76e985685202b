#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace vmcow::sys {

/// Removes the first `bytes` from the pieces that are to be written.
/// Pre: the pieces have as many bytes.
void drop_written(std::vector<iovec>& pieces, std::size_t bytes) noexcept;

/// Writes to files, many at a time, straight from the caller's memory.
///
/// The kernel may do the work in threads that belong to the thread that made the ring, and that stay until that thread
/// ends. A thread of its own for the ring leaves nothing behind.
///
/// Threads: one makes, uses and ends the ring.
/// Source:  io_uring(7), Linux 5.10.
class IoRing {
public:
    /// At most this many writes are on their way at a time.
    static constexpr unsigned kDepth = 32;

    /// Throws: std::system_error -- EPERM, ENOSYS (the kernel or a container refuses), ENOMEM (RLIMIT_MEMLOCK), EMFILE.
    IoRing();
    /// Waits for the writes on their way, because the kernel still reads the caller's memory.
    ~IoRing();
    IoRing(const IoRing&) = delete;
    IoRing& operator=(const IoRing&) = delete;

    /// Begins to write `pieces`, one behind the other, to `fd` from `offset` on. A short write is continued, an
    /// interrupted write is repeated. When the queue is full, the call waits for one of the earlier writes.
    /// Pre:    at most IOV_MAX pieces; they stay as they are until `drain`.
    /// Throws: std::system_error -- the errno of an earlier write.
    void write(int fd, std::vector<iovec> pieces, std::uint64_t offset);
    /// Waits until everything is written.
    /// Throws: std::system_error -- the errno of one of the writes (ENOSPC, EFBIG, EIO).
    void drain();
    /// Waits for the writes and then for the disk: fsync(2).
    /// Throws: as `drain`.
    void sync(int fd);

private:
    class Queue;
    std::unique_ptr<Queue> queue_;
};

/// Writes `pieces`, one behind the other, to `fd` from `offset` on, with as many calls as it takes.
/// Pre:    at most IOV_MAX pieces.
/// Throws: std::system_error -- ENOSPC, EFBIG, EIO; part may have been written.
void write_pieces(int fd, std::vector<iovec> pieces, std::uint64_t offset);

}  // namespace vmcow::sys
