#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>

namespace pipes {

/// How the pump waits for its ends.
enum class PumpWay {
    automatic,  ///< io_uring, or poll where the kernel refuses it; the report says which and why
    io_uring,
    poll,
};

/// How bytes of several writers become one stream.
enum class Join {
    in_order,  ///< all of the first, then all of the second, as cat(1)
    by_line,   ///< whole lines, from whichever writer has one; each writer's lines stay in order
};

/// Given once for each end, when its bytes begin to go to a file.
struct SpillNotice {
    std::size_t flow;  ///< number of the flow, in the order in which they were added
    std::size_t end;   ///< the number of the reader of a tee, or of the writer of a join
    std::string directory;
    std::uint64_t held_bytes;  ///< bytes in memory when the file was opened
};

struct PumpOptions {
    PumpWay way = PumpWay::automatic;
    /// How long an end that is full may stand still before others go on without it.
    std::chrono::milliseconds stall_limit{50};
    /// Bytes held in memory for each end that others went on without; further bytes are held in a file.
    std::size_t memory_bytes = std::size_t{1} << 20;
    /// Bytes held in the file at one time, for each end. Past this limit the end fails with EDQUOT.
    std::uint64_t spill_bytes = std::numeric_limits<std::uint64_t>::max();
    /// The directory of these files, which have no name; empty: $TMPDIR, or /tmp.
    std::string spill_directory{};
    /// Called in the thread of the pump, not in the one that called `run`; the pump stands still meanwhile. What this
    /// function throws comes out of `run`.
    std::function<void(const SpillNotice&)> notice{};
    /// A descriptor that ends the run when it becomes readable or its other side closes; -1: none. The caller keeps it.
    int stop_fd = -1;
    std::optional<std::chrono::steady_clock::time_point> deadline{};
};

}  // namespace pipes
