#include <liburing.h>
#include <poll.h>

#include <cerrno>
#include <cstdint>
#include <ctime>

#include "pipes/pump/pump_engine.hpp"
#include "vmcow/sys/error.hpp"

namespace pipes {
namespace {

constexpr unsigned kEntries = 64;
/// The data of a cancellation. The data of a watch is its address, which is even.
constexpr std::uint64_t kCancellation = 1;

class RingEngine final : public PumpEngine {
public:
    RingEngine() {
        if (const int error = ::io_uring_queue_init(kEntries, &ring_, 0); error != 0) {
            vmcow::sys::throw_error(-error, "set up an io_uring");
        }
    }
    ~RingEngine() override {
        if (error_ == 0) ::io_uring_queue_exit(&ring_);
    }

    void wait(std::span<Watch* const> watches, std::optional<Clock::time_point> until) override {
        if (error_ != 0) vmcow::sys::throw_error(error_, "wait for the ends of a pump");
        for (Watch* const watch : watches) {
            watch->found = 0;
            if (!watch->armed) arm(*watch);
        }
        io_uring_cqe* completion = nullptr;
        int error = 0;
        do {
            const timespec left = until ? time_until(*until) : timespec{};
            __kernel_timespec timeout{.tv_sec = left.tv_sec, .tv_nsec = left.tv_nsec};
            error = ::io_uring_submit_and_wait_timeout(&ring_, &completion, 1, until ? &timeout : nullptr, nullptr);
        } while (error == -EINTR || error == -EAGAIN);
        if (error < 0 && error != -ETIME && error != -EBUSY) {
            vmcow::sys::throw_error(-error, "wait for the ends of a pump");
        }
        collect();
    }

    /// Waits until the request has ended. A request holds its file open, and the other side would not see it closed.
    void forget(Watch& watch) noexcept override {
        watch.found = 0;
        if (!watch.armed || error_ != 0) return;
        io_uring_sqe* const entry = next_entry();
        ::io_uring_prep_poll_remove(entry, reinterpret_cast<std::uintptr_t>(&watch));
        ::io_uring_sqe_set_data64(entry, kCancellation);
        while (watch.armed) {
            const int error = ::io_uring_submit_and_wait(&ring_, 1);
            if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) return give_up(-error);
            collect();
        }
        watch.found = 0;
    }

private:
    /// Closes a ring that the kernel no longer serves (ENOMEM), and with it all requests, so that no completion writes
    /// to a watch that is gone. The next wait throws `error`.
    void give_up(int error) noexcept {
        error_ = error;
        ::io_uring_queue_exit(&ring_);
    }

    io_uring_sqe* next_entry() noexcept {
        io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
        while (entry == nullptr) {
            static_cast<void>(::io_uring_submit(&ring_));
            entry = ::io_uring_get_sqe(&ring_);
        }
        return entry;
    }

    void arm(Watch& watch) noexcept {
        io_uring_sqe* const entry = next_entry();
        ::io_uring_prep_poll_add(entry, watch.fd, static_cast<unsigned>(watch.events));
        ::io_uring_sqe_set_data64(entry, reinterpret_cast<std::uintptr_t>(&watch));
        watch.armed = true;
    }

    /// Takes all completions that there are.
    void collect() noexcept {
        unsigned head = 0;
        unsigned count = 0;
        io_uring_cqe* completion = nullptr;
        io_uring_for_each_cqe(&ring_, head, completion) {
            ++count;
            const std::uint64_t data = ::io_uring_cqe_get_data64(completion);
            if (data == kCancellation || data == LIBURING_UDATA_TIMEOUT) continue;
            auto* const watch = reinterpret_cast<Watch*>(static_cast<std::uintptr_t>(data));
            watch->armed = false;
            // A descriptor that cannot be polled is reported as poll(2) reports it.
            watch->found = completion->res < 0 ? short{POLLNVAL} : static_cast<short>(completion->res);
        }
        ::io_uring_cq_advance(&ring_, count);
    }

    io_uring ring_{};
    int error_ = 0;  // if not 0: why the ring is gone
};

}  // namespace

std::unique_ptr<PumpEngine> make_ring_engine() { return std::make_unique<RingEngine>(); }

}  // namespace pipes
