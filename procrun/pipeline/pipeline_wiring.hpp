#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "pipes/pump/pump_options.hpp"
#include "procrun/observe/pipe_gauge.hpp"
#include "procrun/pipeline/bounded_channel.hpp"
#include "procrun/pipeline/pipeline_options.hpp"
#include "procrun/pipeline/stage_spec.hpp"
#include "procrun/pipeline/value_relay.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

/// The ends that one stage gets. No descriptor: there is nothing to read or to write.
struct StageEnds {
    vmcow::sys::UniqueFd in;
    vmcow::sys::UniqueFd out;
    SharedGauge in_gauge;
    SharedGauge out_gauge;
    std::optional<std::uint64_t> pipe_bytes;  ///< capacity of the pipe that it writes to
    std::vector<BoundedReceiver> takes;
    std::vector<BoundedSender> gives;
    vmcow::sys::UniqueFd values;  ///< a program's end of its connection for values
};

/// Bytes that the pump moves between pipes: from one end to several, from several to one, or from one to one whose
/// reader may have to wait for something else (Pump::hold).
struct WiredFlow {
    bool is_tee = false;
    bool holds = false;
    std::vector<vmcow::sys::UniqueFd> ins;
    std::vector<vmcow::sys::UniqueFd> outs;
    pipes::Join join = pipes::Join::in_order;
    std::size_t stage = 0;            ///< the one writer, or the one reader
    std::vector<std::size_t> others;  ///< its readers, or its writers
};

/// The pipes and channels of a pipeline.
///
///     one writer with one reader           a pipe from stage to stage
///     several readers                      a pipe to the pump, which has a pipe to each of them
///     several writers                      a pipe from each to the pump, which has one to the reader
///
/// A program's bytes go to all stages that read it. A function's bytes go to the programs that read it, and where there
/// are none, to the functions. Between two functions there is also a channel for values. Each program that takes values
/// is connected to the relay, and so are the functions next to it. Before a stage that may wait for values from the
/// relay, the pump holds the bytes.
///
/// A pipe from stage to stage is opened when its writer starts, and the writer's end is closed here right after that.
/// So however long a row of programs is, no more than two of its pipes are open here at one time. Everything else is
/// opened before the first stage starts.
struct Wiring {
    std::vector<StageEnds> stages;                        ///< the open ends of stages that have not been started
    std::vector<std::optional<std::size_t>> next_stages;  ///< for each stage: the reader of its pipe, without the pump
    std::vector<WiredFlow> flows;
    std::vector<std::optional<BoundedReceiver>> outputs;  ///< for each stage: its values for the caller
    std::unique_ptr<ValueRelay> relay;                    ///< null: no program takes values

    /// Opens everything but the pipes from stage to stage.
    /// Pre:    `specs` are in the order in which they were added: a stage reads earlier ones only.
    /// Throws: std::system_error -- EMFILE, ENFILE.
    [[nodiscard]] static Wiring open(const std::deque<StageSpec>& specs, const PipelineOptions& options);
    /// Takes the ends with which a stage is to be started, and opens the pipe to the next stage.
    /// Pre:    the ends of the stages before it have been taken.
    /// Throws: std::system_error -- EMFILE, ENFILE.
    [[nodiscard]] StageEnds take_ends(std::size_t stage, const PipelineOptions& options);

    /// Closes all ends in a forked child, which has moved its own ends elsewhere. Async-signal-safe (I7).
    void close_all() noexcept;
};

/// For each stage, the stages that read it.
/// Pre: a stage reads earlier ones only.
[[nodiscard]] std::vector<std::vector<std::size_t>> readers_of(const std::deque<StageSpec>& specs);

}  // namespace procrun
