#pragma once

#include <atomic>
#include <cstdint>

namespace procrun::detail {

/// How long to spin for the other side before going to sleep: as long as a sleep and a wake-up cost when what one
/// waited for has lately come within that time, next to nothing when it has not. What counts is when it came, not
/// whether spinning found it: who has gone to sleep too early learns of it, too.
///
/// Units: nanoseconds. Source: the competitive argument of Karlin et al., "Competitive randomized algorithms for
/// non-uniform problems": spinning as long as blocking costs is never worse than twice the best.
class SpinBudget {
public:
    static constexpr std::int64_t kMostNs = 50'000;
    static constexpr std::int64_t kLeastNs = 2'000;

    [[nodiscard]] std::int64_t ns() const noexcept { return soon_ >= 2 ? kMostNs : kLeastNs; }
    /// It came `gap_ns` after one had begun to wait.
    void learn(std::int64_t gap_ns) noexcept {
        if (gap_ns < kMostNs) {
            soon_ += soon_ < 3 ? 1 : 0;
        } else {
            soon_ -= soon_ > 0 ? 1 : 0;
        }
    }

private:
    int soon_ = 3;  // 0 to 3: a lone exception changes nothing
};

/// Waits for `word` to become `wanted`, for `ns` at most, without giving the processor away.
[[nodiscard]] bool spin_until(const std::atomic<std::uint64_t>& word, std::uint64_t wanted, std::int64_t ns) noexcept;

/// Sets `word` and wakes the other side up if it sleeps: one byte into its pipe. A full pipe has woken it already.
/// Returns 0 or the errno of the write (EPIPE, EBADF). Async-signal-safe. Pre: there is a reader, or SIGPIPE may end
/// this process.
int ring(std::atomic<std::uint64_t>& word, std::uint64_t number, std::atomic<std::uint32_t>& asleep, int fd) noexcept;

/// Announces that this side goes to sleep on its pipe: false if `word` is there already, and it must not.
[[nodiscard]] bool lie_down(const std::atomic<std::uint64_t>& word, std::uint64_t wanted,
                            std::atomic<std::uint32_t>& asleep) noexcept;
/// Takes the bytes out of the pipe that woke this side up. Returns false at the end of file: the other side is gone.
[[nodiscard]] bool get_up(std::atomic<std::uint32_t>& asleep, int fd) noexcept;

/// The processor that this thread runs on, and how many this process may use. Cost: a few ns (rseq).
[[nodiscard]] std::uint32_t this_processor() noexcept;
[[nodiscard]] unsigned usable_processors() noexcept;

}  // namespace procrun::detail
