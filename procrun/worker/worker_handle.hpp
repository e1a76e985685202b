#pragma once

#include <poll.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/call/payload.hpp"
#include "procrun/deadline.hpp"
#include "procrun/limits/limit_watch.hpp"
#include "procrun/limits/memory_cgroup.hpp"
#include "procrun/limits/process_counters.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pool_options.hpp"
#include "procrun/process/callers_ends.hpp"
#include "procrun/worker/call_memory.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "procrun/worker/doorbell.hpp"
#include "procrun/worker/erased_call.hpp"
#include "procrun/worker/known_images.hpp"
#include "procrun/worker/zygote_client.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {

/// The state of a worker after a call.
enum class Delivery : std::uint8_t {
    worker_stays,     ///< the worker can be given the next call
    worker_is_spent,  ///< the worker has ended or is being ended; it may have run the call
    call_was_missed,  ///< the worker has ended or is being ended, and has not run the call: another worker can
};

/// The caller's side of one worker: one call at a time.
///
/// Threads:    one at a time; which one may change.
/// After fork: the destructor ends no process in the child.
class WorkerHandle final : private CallersEnds {
public:
    /// Forks a worker. Throws: std::system_error, also ETIMEDOUT; nothing is left behind.
    WorkerHandle(ZygoteClient& zygote, const PoolOptions& options, Deadline deadline);
    /// Kills the worker and waits up to 50 ms for its end; up to 1 s if it may still write to a moved image.
    ~WorkerHandle();

    /// Kills the worker without waiting for its end.
    void kill() noexcept;

    /// Marks the worker busy. False when it has retired: its idle time has passed, and it is ending.
    [[nodiscard]] bool take_if_idle() noexcept;
    [[nodiscard]] bool has_retired() const noexcept { return call_memory()->state.load() == WorkerState::retired; }
    void set_idle() noexcept { call_memory()->state.store(WorkerState::idle, std::memory_order_release); }

    /// Gives the worker a call. A call that cannot be given is done at once (`is_done()`), with the reason in `result`.
    /// May throw std::bad_alloc.
    /// Pre: no call is going on; `call` and `result` stay where they are until this one is done.
    void start(ErasedCall& call, ErasedResult& result);
    /// Waits without sleeping, if the worker runs on another processor, and finishes the call if it is done.
    void spin();
    /// Waits until the call is done: spins, then sleeps between looks.
    void wait_until_done();
    /// Ends the call by killing the worker.
    void cancel();
    [[nodiscard]] bool is_done() const noexcept { return call_ == nullptr; }

    /// For a thread that waits for several workers. Finishes the call if it is done or has to be ended, and returns
    /// false then. Otherwise tells the worker that its caller sleeps: until one of `wakers` can be read, or until
    /// `next_look` at the latest.
    [[nodiscard]] bool look_before_sleep();
    [[nodiscard]] std::array<pollfd, 2> wakers() const noexcept;
    [[nodiscard]] Deadline next_look() const;

    /// After a call: whether the worker cannot be used any more.
    [[nodiscard]] bool is_spent() const noexcept { return delivery_ != Delivery::worker_stays; }
    /// After a call: whether the worker has not run it, so that another worker can.
    [[nodiscard]] bool missed_call() const noexcept { return delivery_ == Delivery::call_was_missed; }

    /// Has the worker unmap all images that were moved to it. False when the worker had to be killed instead, because
    /// it has not answered before the deadline or within a second, or still has one of the files mapped writable (I3).
    bool unmap_moved(Deadline deadline) noexcept;
    [[nodiscard]] bool has_moved_but(const ErasedCall& call) const noexcept {
        return known_images_.has_moved_but(call.images);
    }
    [[nodiscard]] bool knows(const ImageArgument& image) const noexcept { return known_images_.knows(image); }
    [[nodiscard]] pid_t pid() const noexcept { return process_.pid; }

private:
    /// The wait for a killed process whose end nothing depends on: one with much memory takes longer to end.
    static constexpr std::chrono::milliseconds kMoment{50};

    /// How far the worker is with its last request.
    enum class Progress : std::uint8_t { working, replied, ended, late, cannot_be_woken };

    void write_request(const ErasedCall& call);
    [[nodiscard]] ImageRequest write_sent(const ImageArgument& image, std::size_t& at) const noexcept;
    void watch_limits(const ErasedCall& call);
    [[nodiscard]] bool limit_by_cgroup(std::uint64_t bytes);
    void finish_with_reply();
    void finish_with(Outcome outcome);
    void finish_with_death();
    void look();
    void end_what_cannot_go_on();
    [[nodiscard]] bool announce_sleep() noexcept;
    void sleep_until(Deadline latest) noexcept;
    [[nodiscard]] Progress progress_by(Deadline deadline) noexcept;
    [[nodiscard]] bool has_ended() const noexcept;
    void note_if_missed() noexcept;
    void count(const Reply& reply);
    void take_result(Reply& reply);
    [[nodiscard]] std::vector<vmcow::sys::UniqueFd> take_fds(const Reply& reply);
    [[nodiscard]] Payload payload_of(const Reply& reply, std::vector<vmcow::sys::UniqueFd>& fds) const;
    void take_changes(Reply& reply, std::vector<vmcow::sys::UniqueFd>& fds);
    [[nodiscard]] static std::uint64_t checked_extent(std::uint64_t said, std::uint64_t before, std::uint64_t most);
    /// How far a reply's changed pages have been read. Pages in the outbox and files follow each other in the order of
    /// the images.
    struct ChangesRead {
        std::span<vmcow::sys::UniqueFd> files;
        vmcow::PageCount outbox_pages;
    };
    void take_sent(const ImageArgument& image, const ImageReply& said, ChangesRead& read, ChangedImage& changed) const;
    [[nodiscard]] vmcow::Snapshot changed_snapshot(const vmcow::Snapshot& before, const ImageReply& said,
                                                   ChangesRead& read) const;
    [[nodiscard]] bool has_replied() const noexcept {
        return call_memory()->reply_number.load(std::memory_order_acquire) == number_;
    }
    [[nodiscard]] const MappedCallMemory& call_memory() const noexcept { return *call_memory_; }
    /// Kills the worker and waits until it has ended. False when it has not ended within `longest`.
    bool end(std::chrono::milliseconds longest) noexcept;
    [[nodiscard]] bool wake_again() noexcept;
    [[nodiscard]] bool is_told_to_unmap(Deadline deadline) noexcept;
    void close_inherited() noexcept override;

    ZygoteClient& zygote_;
    const PoolOptions& options_;
    std::optional<MappedCallMemory> call_memory_;
    vmcow::sys::UniqueFd request_pipe_;
    vmcow::sys::UniqueFd request_reader_;  // so that ringing a worker that has died raises no SIGPIPE
    vmcow::sys::UniqueFd reply_pipe_;
    pipes::MessageSocket socket_;
    ZygoteClient::Forked process_;
    KnownImages known_images_;
    std::optional<MemoryCgroup> cgroup_;
    bool asked_for_cgroup_ = false;
    std::uint64_t oom_kills_ = 0;
    std::optional<ProcessCounters> counters_;
    std::optional<LimitWatch> watch_;
    SpinBudget spin_;
    std::uint64_t number_ = kFirstNumber;
    ErasedCall* call_ = nullptr;
    ErasedResult* result_ = nullptr;
    std::array<std::uint16_t, kMaxImages> entries_{};
    std::int64_t started_ns_ = 0;
    std::int64_t done_ns_ = 0;
    Delivery delivery_ = Delivery::worker_stays;
    int wake_failures_ = 0;  // failed rings in a row
    int wake_error_ = 0;     // the errno of the last ring
    unsigned looks_ = 0;
};

}  // namespace procrun::detail
