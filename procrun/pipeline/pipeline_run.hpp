#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/pipeline/function_stage.hpp"
#include "procrun/pipeline/pipeline_options.hpp"
#include "procrun/pipeline/pipeline_result.hpp"
#include "procrun/pipeline/pipeline_stages.hpp"
#include "procrun/pipeline/pipeline_start.hpp"
#include "procrun/pipeline/pipeline_wiring.hpp"
#include "procrun/pipeline/stage_spec.hpp"
#include "vmcow/image/page_store.hpp"

namespace procrun {

/// One run of a pipeline of programs and functions: start, wait, report.
///
///     what the pump and values need is opened ── each stage is started, and gets its ends ── ours are closed
///
/// Where this process forks for the pipeline, or values go through it, no other thread can fork a function process
/// until our ends are closed: that process would keep ends open. Bytes that several stages read or write are moved by a
/// separate process, for the same reason, and because this process then needs no thread for them.
class PipelineRun {
public:
    PipelineRun(const std::deque<StageSpec>& specs, const PipelineRunOptions& options);

    PipelineResult run();

private:
    [[nodiscard]] bool prepare();
    /// Whether this process forks for the pipeline, or values go through it.
    /// Pre: the wiring is open.
    [[nodiscard]] bool takes_part() const;
    void start_all();
    [[nodiscard]] std::optional<Outcome> start_stage(std::size_t index);
    [[nodiscard]] std::optional<Outcome> start_function(std::size_t index, const StageStart& how, StageEnds& ends);
    void start_pump();
    void move_bytes(pipes::MessageSocket& notices);
    [[nodiscard]] std::string name_of_stage(std::size_t index) const;

    void wait_once();
    void move_values();
    void finish_values();
    void tell_untaken() const;
    void listen();
    void receive_value(std::size_t index, Attended& attended);
    void receive_notice(Attended& attended);
    void receive_rest();
    void take_replies();
    void take_pump_reply();
    void fail(const std::string& reason);

    const std::deque<StageSpec>& specs_;
    const PipelineRunOptions& options_;
    PipelineText text_;
    std::vector<StageFiles> files_;
    Wiring wiring_;
    std::vector<std::optional<FunctionStage>> functions_;
    std::optional<FunctionStage> pump_;
    pipes::MessageSocket notices_;
    std::vector<Attended> attended_;
    std::optional<vmcow::PageStore::Pin> pin_;  // until the functions are reaped: they read deltas in the page store
    const bool alone_;
    PipelineStages running_;
    PipelineResult result_;
};

}  // namespace procrun
