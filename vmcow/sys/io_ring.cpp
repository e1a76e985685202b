#include "vmcow/sys/io_ring.hpp"

#include <liburing.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <ctime>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/size_signal.hpp"

namespace vmcow::sys {
namespace {

/// Counts the rings that have ended. A ring may get the memory of one that another thread has ended. Tools that watch
/// threads do not see that the kernel orders the two; reading the count after a ring was made shows them.
std::atomic<unsigned> ended_rings{0};

}  // namespace

void drop_written(std::vector<iovec>& pieces, std::size_t bytes) noexcept {
    auto whole = pieces.begin();
    for (; whole != pieces.end() && whole->iov_len <= bytes; ++whole) bytes -= whole->iov_len;
    pieces.erase(pieces.begin(), whole);
    VMCOW_ASSERT((bytes == 0 || !pieces.empty()) && "no more was written than there was");
    if (bytes > 0) {
        pieces.front().iov_base = static_cast<std::byte*>(pieces.front().iov_base) + bytes;
        pieces.front().iov_len -= bytes;
    }
}

class IoRing::Queue {
public:
    Queue() {
        if (const int error = ::io_uring_queue_init(kDepth, &ring_, 0); error != 0) {
            throw_error(-error, "set up an io_uring");
        }
        static_cast<void>(ended_rings.load(std::memory_order_acquire));
        for (unsigned i = 0; i < kDepth; ++i) free_.push_back(i);
    }
    ~Queue() {
        stop_after_error_ = true;
        while (in_flight() > 0) reap();
        ended_rings.fetch_add(1, std::memory_order_release);
        ::io_uring_queue_exit(&ring_);
    }
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    void write(int fd, std::vector<iovec> pieces, std::uint64_t offset) {
        while (free_.empty()) reap();
        report();
        const unsigned slot = take();
        operations_[slot] = {fd, offset, std::move(pieces), false};
        submit(slot);
    }

    void sync(int fd) {
        drain();
        const unsigned slot = take();
        operations_[slot] = {fd, 0, {}, true};
        submit(slot);
        drain();
    }

    void drain() {
        while (in_flight() > 0) reap();
        report();
    }

private:
    struct Operation {
        int fd = -1;
        std::uint64_t offset = 0;
        std::vector<iovec> pieces;
        bool is_sync = false;
    };

    [[nodiscard]] std::size_t in_flight() const noexcept { return kDepth - free_.size(); }

    unsigned take() noexcept {
        const unsigned slot = free_.back();
        free_.pop_back();
        return slot;
    }

    /// Throws the first error, if there was one. Later errors do not count: they concern a file that is lost anyway.
    /// The caller gets its memory back with the exception, so the writes that are on their way are waited for.
    void report() {
        if (error_ == 0) return;
        while (in_flight() > 0) reap();
        throw_error(error_, "write through an io_uring");
    }

    /// Hands an operation to the kernel. An operation that the kernel does not take has failed, and no other is handed
    /// over after it.
    void submit(unsigned slot) noexcept {
        const Operation& operation = operations_[slot];
        io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);
        VMCOW_ASSERT(entry != nullptr && "there are as many entries as slots");
        if (operation.is_sync) {
            ::io_uring_prep_fsync(entry, operation.fd, 0);
        } else {
            ::io_uring_prep_writev(entry, operation.fd, operation.pieces.data(),
                                   static_cast<unsigned>(operation.pieces.size()), operation.offset);
        }
        ::io_uring_sqe_set_data64(entry, slot);
        int taken = 0;
        do {
            taken = ::io_uring_submit(&ring_);
        } while (taken == 0 || taken == -EINTR || taken == -EAGAIN || taken == -EBUSY);
        if (taken < 0) {
            fail(-taken);
            free_.push_back(slot);
        }
    }

    /// Waits for one operation to end. When the kernel refuses to wait (ENOMEM), it still reads the caller's memory:
    /// then the ring, which is shared with the kernel, is polled until the operation has ended.
    void reap() noexcept {
        constexpr timespec kBetweenLooks{.tv_sec = 0, .tv_nsec = 1'000'000};
        io_uring_cqe* completion = nullptr;
        for (int error = -EINTR; error != 0;) {
            error = ::io_uring_wait_cqe(&ring_, &completion);
            if (error == 0 || error == -EINTR || error == -EAGAIN) continue;
            fail(-error);
            error = ::io_uring_peek_cqe(&ring_, &completion);
            if (error != 0) ::nanosleep(&kBetweenLooks, nullptr);
        }
        const auto slot = static_cast<unsigned>(::io_uring_cqe_get_data64(completion));
        const int result = completion->res;
        ::io_uring_cqe_seen(&ring_, completion);
        finish(slot, result);
    }

    void finish(unsigned slot, int result) noexcept {
        Operation& operation = operations_[slot];
        const bool again = result == -EINTR || result == -EAGAIN;
        if (result < 0 && !again) {
            if (result == -EFBIG) size_signal_.take();
            fail(-result);
        } else if (!operation.is_sync && result == 0) {
            fail(EIO);  // a regular file never returns 0 for a write of some bytes: do not retry for ever
        } else if (result > 0) {
            drop_written(operation.pieces, static_cast<std::size_t>(result));
            operation.offset += static_cast<std::uint64_t>(result);
        }
        const bool complete = operation.is_sync ? !again : operation.pieces.empty();
        if (!complete && error_ == 0 && !stop_after_error_) {
            submit(slot);
            return;
        }
        operation.pieces.clear();
        free_.push_back(slot);
    }

    void fail(int error) noexcept {
        if (error_ == 0) error_ = error;
    }

    SizeSignalBlock size_signal_;  // the kernel writes in the thread that submits, which is the one that made this ring
    io_uring ring_{};
    std::array<Operation, kDepth> operations_;
    std::vector<unsigned> free_;
    int error_ = 0;
    bool stop_after_error_ = false;
};

IoRing::IoRing() : queue_(std::make_unique<Queue>()) {}

IoRing::~IoRing() = default;

void IoRing::write(int fd, std::vector<iovec> pieces, std::uint64_t offset) {
    drop_written(pieces, 0);  // drops pieces of 0 bytes
    VMCOW_ASSERT(pieces.size() <= IOV_MAX && "the kernel takes no more pieces at once");
    if (!pieces.empty()) queue_->write(fd, std::move(pieces), offset);
}

void IoRing::drain() { queue_->drain(); }

void IoRing::sync(int fd) { queue_->sync(fd); }

void write_pieces(int fd, std::vector<iovec> pieces, std::uint64_t offset) {
    drop_written(pieces, 0);
    VMCOW_ASSERT(pieces.size() <= IOV_MAX && "the kernel takes no more pieces at once");
    while (!pieces.empty()) {
        const auto write = [&] {
            return ::pwritev(fd, pieces.data(), static_cast<int>(pieces.size()), static_cast<off_t>(offset));
        };
        const ssize_t written = without_size_signal([&] { return retry_interrupted(write); });
        if (written < 0) throw_errno("write at offset " + std::to_string(offset));
        if (written == 0) throw_error(EIO, "write at offset " + std::to_string(offset));
        drop_written(pieces, static_cast<std::size_t>(written));
        offset += static_cast<std::uint64_t>(written);
    }
}

}  // namespace vmcow::sys
