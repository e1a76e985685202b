#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pipes/message_socket.hpp"
#include "pipes/value_message.hpp"
#include "procrun/call_options.hpp"
#include "procrun/channel_mapping.hpp"
#include "procrun/doorbell.hpp"
#include "procrun/image_mirror.hpp"
#include "procrun/limits.hpp"
#include "procrun/memory_cgroup.hpp"
#include "procrun/payload.hpp"
#include "procrun/pool_options.hpp"
#include "procrun/zygote.hpp"

namespace procrun::detail {

/// A call without its types.
// NOLINTNEXTLINE(bugprone-exception-escape): as MessageWriter.
struct ErasedCall {
    Trampoline function = nullptr;
    pipes::MessageWriter arguments;
    std::vector<ImageArgument> images;  ///< at most kMaxImages
    CallOptions options;
    std::int64_t asked_ns = 0;          ///< CLOCK_MONOTONIC
    bool may_spin = false;              ///< there are processors enough
    bool waited = false;                ///< for a worker
    std::shared_ptr<vmcow::Loan> loan;  ///< of the arena that is moved, when its worker has it already
    /// What keeps lent arenas from being frozen by somebody who has a handle of them; of the thread that waits.
    std::vector<std::unique_lock<std::recursive_mutex>> locks;
    bool waits = false;  ///< the caller does, so that what it has can be lent
};

/// What came of it.
struct ErasedResult {
    Outcome outcome{OutcomeKind::not_started, 0, {}};
    CallCost cost;
    std::optional<Payload> payload;
    std::vector<vmcow::sys::UniqueFd> fds;
    std::optional<vmcow::Snapshot> applied;   ///< of the argument that was to be changed
    std::optional<vmcow::SnapshotPart> part;  ///< which part of a value `applied` is the image of
    std::optional<vmcow::Arena> moved_back;
};

/// The caller's side of one worker: one call at a time.
///
/// Threads: one at a time; which one may change.
class WarmProcess {
public:
    /// Forks a worker. Throws: std::system_error; nothing is left behind.
    WarmProcess(Zygote& zygote, const PoolOptions& options);
    ~WarmProcess();
    WarmProcess(const WarmProcess&) = delete;
    WarmProcess& operator=(const WarmProcess&) = delete;

    /// Takes it out of its idleness; false when it has ended by itself.
    [[nodiscard]] bool occupy() noexcept;
    [[nodiscard]] bool has_retired() const noexcept { return channel()->state.load() == WorkerState::retired; }
    void set_idle() noexcept { channel()->state.store(WorkerState::idle, std::memory_order_release); }

    /// Gives it a call; `call` and `result` stay where they are until the call is done. Whether it could be given is
    /// told by `is_done()`. May throw std::bad_alloc.
    void start(ErasedCall& call, ErasedResult& result);
    /// Waits without sleeping, if that makes sense, and finishes the call if it is done.
    void spin();
    /// Looks whether the call is done, or has to be ended; finishes it then.
    void look();
    /// Ends the call: the process is killed.
    void cancel();
    [[nodiscard]] bool is_done() const noexcept { return call_ == nullptr; }

    /// What to wait for before the next `look`. Announces the sleep; false when there is no need to sleep.
    [[nodiscard]] bool lie_down() noexcept;
    [[nodiscard]] int reply_fd() const noexcept { return reply_pipe_.get(); }
    [[nodiscard]] int pidfd() const noexcept { return process_.pidfd.get(); }
    [[nodiscard]] Deadline next_look() const;

    /// After a call: it cannot be used any more.
    [[nodiscard]] bool is_spent() const noexcept { return spent_; }
    /// After a call: it died before it saw that call, which can be given to another worker.
    [[nodiscard]] bool missed_call() const noexcept { return missed_; }

    /// Has everything unmapped that was moved there. False when it had to be killed for that.
    bool let_go();
    [[nodiscard]] bool has_moved_but(const ErasedCall& call) const noexcept {
        return mirror_.has_moved_but(call.images);
    }
    [[nodiscard]] bool knows(const ImageArgument& image) const noexcept { return mirror_.knows(image); }
    [[nodiscard]] pid_t pid() const noexcept { return process_.pid; }

private:
    void write_request(const ErasedCall& call, bool& told);
    void watch_limits(const ErasedCall& call);
    [[nodiscard]] bool limit_by_cgroup(std::uint64_t bytes);
    void finish_with_reply();
    void finish_with(Outcome outcome);
    void finish_with_death();
    [[nodiscard]] bool has_ended() const noexcept;
    void count(const Reply& reply);
    void take_result(const Reply& reply);
    [[nodiscard]] std::vector<vmcow::sys::UniqueFd> take_fds(const Reply& reply);
    [[nodiscard]] Payload payload_of(const Reply& reply, std::vector<vmcow::sys::UniqueFd>& fds) const;
    void take_changes(const Reply& reply, std::vector<vmcow::sys::UniqueFd>& fds);
    [[nodiscard]] static std::uint64_t checked_extent(std::uint64_t said, std::uint64_t before, std::uint64_t most);
    [[nodiscard]] vmcow::Snapshot changed_snapshot(const vmcow::Snapshot& before, std::uint64_t extent_bytes,
                                                   const Reply& reply, std::vector<vmcow::sys::UniqueFd>& fds) const;
    [[nodiscard]] bool has_replied() const noexcept {
        return channel()->reply_number.load(std::memory_order_acquire) == number_;
    }
    [[nodiscard]] const ChannelMapping& channel() const noexcept { return *channel_; }
    Outcome kill() noexcept;

    Zygote& zygote_;
    const PoolOptions& options_;
    std::optional<ChannelMapping> channel_;
    vmcow::sys::UniqueFd request_pipe_;
    vmcow::sys::UniqueFd request_reader_;  // so that ringing at a worker that has died is no SIGPIPE
    vmcow::sys::UniqueFd reply_pipe_;
    pipes::MessageSocket socket_;
    Zygote::Forked process_;
    ImageMirror mirror_;
    std::optional<MemoryCgroup> cgroup_;
    bool asked_for_cgroup_ = false;
    std::uint64_t oom_kills_ = 0;
    std::optional<ProcessCounters> counters_;
    std::optional<LimitWatch> watch_;
    SpinBudget spin_;
    std::uint64_t number_ = kFirstNumber;
    ErasedCall* call_ = nullptr;
    ErasedResult* result_ = nullptr;
    std::array<std::uint8_t, kMaxImages> entries_{};
    std::int64_t started_ns_ = 0;
    std::int64_t done_ns_ = 0;
    bool spent_ = false;
    bool missed_ = false;
};

}  // namespace procrun::detail
