#pragma once

#include <atomic>
#include <cstdint>

namespace procrun::detail {

/// How long to spin for the other side before going to sleep: as long as a sleep and a wake-up cost if messages have
/// lately come within that time, next to nothing if they have not. The time at which a message came counts, not whether
/// spinning found it: so a side that goes to sleep too early learns of it, too.
///
/// Units:  nanoseconds.
/// Source: the competitive argument of Karlin et al., "Competitive randomized algorithms for non-uniform problems":
///         spinning as long as blocking costs is never worse than twice the best.
class SpinBudget {
public:
    static constexpr std::int64_t kMostNs = 50'000;
    static constexpr std::int64_t kLeastNs = 2'000;

    [[nodiscard]] std::int64_t ns() const noexcept { return soon_ >= 2 ? kMostNs : kLeastNs; }
    /// Notes that a message has come `gap_ns` after the wait for it began.
    void record_wait(std::int64_t gap_ns) noexcept {
        if (gap_ns < kMostNs) {
            soon_ += soon_ < 3 ? 1 : 0;
        } else {
            soon_ -= soon_ > 0 ? 1 : 0;
        }
    }

private:
    int soon_ = 3;  // 0 to 3: one exception from either end does not change the budget
};

/// Waits for `word` to become `wanted`, for `ns` at most, without sleeping. False when the time has passed.
[[nodiscard]] bool spin_until(const std::atomic<std::uint64_t>& word, std::uint64_t wanted, std::int64_t ns) noexcept;

/// Sets `word` and, if the other side sleeps, wakes it by a byte into its pipe. A full pipe has woken it already.
/// Returns 0 or the errno of the write (EPIPE, EBADF). Async-signal-safe.
/// Pre: there is a reader, or SIGPIPE may end this process.
int ring(std::atomic<std::uint64_t>& word, std::uint64_t number, std::atomic<std::uint32_t>& asleep, int fd) noexcept;

/// Announces that this side goes to sleep on its pipe. False if `word` is `wanted` already: then it must not sleep.
[[nodiscard]] bool announce_sleep(const std::atomic<std::uint64_t>& word, std::uint64_t wanted,
                                  std::atomic<std::uint32_t>& asleep) noexcept;
/// Takes the bytes that have woken this side out of its pipe. False at the end of file: the other side is gone.
[[nodiscard]] bool end_sleep(std::atomic<std::uint32_t>& asleep, int fd) noexcept;

/// The processor that this thread runs on; 0 where the kernel does not say. Cost: a few ns (rseq).
[[nodiscard]] std::uint32_t this_processor() noexcept;
/// How many processors this process may use; 1 where the kernel does not say. Source: sched_getaffinity(2).
[[nodiscard]] unsigned usable_processors() noexcept;

}  // namespace procrun::detail
