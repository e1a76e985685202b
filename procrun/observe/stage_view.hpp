#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace procrun {

/// What a stage does at one moment.
enum class StageState {
    unknown,
    running,        ///< on a processor, or ready for one
    blocked_read,   ///< asleep because there is no input
    blocked_write,  ///< asleep because its output takes no more
    waiting,        ///< asleep for another reason: a clock, a lock, a file or socket of its own
};

/// The share of its life that a stage spent in each state, from 0 to 1; nullopt where it is not known (I8). Where all
/// are known, they sum to 1.
struct StageShares {
    std::optional<double> running;
    std::optional<double> blocked_read;
    std::optional<double> blocked_write;
    std::optional<double> waiting;

    double life_seconds = 0;         ///< from its start to its end, or until it was last counted
    std::uint64_t looks = 0;         ///< looks that saw what the stage did
    std::uint64_t asleep_looks = 0;  ///< those of `looks` that found it asleep
};

/// With fewer looks than this, it is unknown how a stage's sleep divides.
inline constexpr std::uint64_t kFewestLooks = 20;

/// What lies in a pipe at one moment.
struct PipeLevel {
    std::size_t queued_bytes = 0;
    std::size_t capacity_bytes = 0;

    [[nodiscard]] bool empty() const noexcept { return queued_bytes == 0; }
    /// Whether nothing can be written without waiting. A pipe takes bytes as long as one of its pages is unused. Only
    /// when less than a page is missing is it certain that none is unused. A pipe whose pages hold little each is full
    /// long before; that is not seen.
    [[nodiscard]] bool full() const noexcept;

    bool operator==(const PipeLevel&) const = default;
};

/// Bytes that a process passed through read(2), write(2) and calls like these, and those of the children that it waited
/// for. Bytes that are spliced, sent with sendfile(2) past a buffer, or read and written through mappings do not count.
struct TransferredBytes {
    std::uint64_t read = 0;
    std::uint64_t written = 0;
};

/// What can be seen of a stage while it runs. The bytes, the level and the memory are at most 100 ms old, or as old as
/// the last look. After the stage's end, the view stays as it was last seen.
struct StageView {
    StageState state = StageState::unknown;
    std::optional<PipeLevel> input;  ///< of the pipe that it reads from
    std::optional<TransferredBytes> transferred;
    std::optional<std::uint64_t> resident_bytes;
};

}  // namespace procrun
