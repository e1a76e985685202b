#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "pipes/pump.hpp"
#include "procrun/pipe_gauge.hpp"
#include "procrun/pipeline_channel.hpp"
#include "procrun/stage_io.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

/// Who reads whom, in the order in which the stages were added: a stage reads earlier ones only.
struct StageShape {
    bool is_function = false;
    std::vector<std::size_t> reads;
    pipes::Join join = pipes::Join::in_order;
    bool to_caller = false;  ///< a function whose values the caller takes
    ValueBounds bounds{};
};

/// The ends that one stage gets. No descriptor: there is nothing to read or to write.
struct StageEnds {
    vmcow::sys::UniqueFd in;
    vmcow::sys::UniqueFd out;
    SharedGauge in_gauge;
    SharedGauge out_gauge;
    std::optional<std::uint64_t> pipe_bytes;  ///< of the pipe that it writes to
    std::vector<BoundedReceiver> takes;
    std::vector<BoundedSender> gives;
};

/// Bytes that are moved between pipes: from one end to several, or from several to one.
struct WiredFlow {
    bool is_tee = false;
    std::vector<vmcow::sys::UniqueFd> ins;
    std::vector<vmcow::sys::UniqueFd> outs;
    pipes::Join join = pipes::Join::in_order;
    std::size_t stage = 0;            ///< the one writer, or the one reader
    std::vector<std::size_t> others;  ///< its readers, or its writers
};

/// The pipes and channels of a pipeline.
///
///     writes to one, who reads from one    a pipe from stage to stage
///     several readers                      a pipe to the pump, which has a pipe to each of them
///     several writers                      a pipe from each to the pump, which has one to the reader
///
/// A program's bytes go to all who read it; a function's to the programs that read it, and where there are none to the
/// functions. Between two functions there is a channel for values besides.
struct Wiring {
    std::vector<StageEnds> stages;
    std::vector<WiredFlow> flows;
    std::vector<std::optional<BoundedReceiver>> outputs;  ///< for each stage: of its values, to the caller

    /// Throws: std::system_error -- EMFILE, ENFILE.
    [[nodiscard]] static Wiring open(const std::vector<StageShape>& shapes, std::optional<std::size_t> pipe_bytes);

    /// Closes all ends, in a forked child, which has its own elsewhere. Async-signal-safe (I7).
    void close_all() noexcept;
};

/// The stages that read each stage.
[[nodiscard]] std::vector<std::vector<std::size_t>> readers_of(const std::vector<StageShape>& shapes);

}  // namespace procrun
