#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipes/pump/pump_options.hpp"

namespace pipes {

/// How one end of a flow ended.
enum class EndState {
    finished,      ///< all bytes have gone through: up to the end of file, or as many as were to be sent
    reader_gone,   ///< no reader is left (EPIPE); of a source: at none of its sinks
    stopped,       ///< by the stop descriptor or the deadline
    failed,        ///< a call failed with `error`
    spill_failed,  ///< bytes could not be held: `error` is ENOSPC, EDQUOT, EFBIG, or the errno of open(2)
};

struct EndReport {
    EndState state = EndState::stopped;
    int error = 0;
    std::uint64_t bytes = 0;          ///< taken from a source, or by a sink
    std::uint64_t copied_bytes = 0;   ///< those that went through a buffer, because splice(2) refuses this end
    std::uint64_t spilled_bytes = 0;  ///< that went through the file
    std::uint64_t held_bytes = 0;     ///< the most that was held in memory at one time

    /// "end of file", "reader gone", "stopped", or the errno's name and text, as in "ENOSPC: No space left on device".
    [[nodiscard]] std::string reason() const;
};

struct FlowReport {
    std::vector<EndReport> ins;
    std::vector<EndReport> outs;
    std::uint64_t added_newlines = 0;  ///< Join::by_line: put between a last line without newline and the next line
};

enum class PumpStop { none, stop_descriptor, deadline };

struct PumpReport {
    PumpWay way = PumpWay::poll;  ///< never automatic
    int io_uring_error = 0;       ///< the errno with which io_uring was refused, or 0
    PumpStop stop = PumpStop::none;
    std::vector<FlowReport> flows;
};

}  // namespace pipes
