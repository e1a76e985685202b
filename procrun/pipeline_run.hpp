#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/pipeline_function.hpp"
#include "procrun/pipeline_mix.hpp"
#include "procrun/pipeline_stages.hpp"
#include "procrun/pipeline_start.hpp"
#include "procrun/pipeline_wiring.hpp"
#include "vmcow/page_store.hpp"

namespace procrun {

/// One run of a pipeline of programs and functions: start, wait, report.
///
///     pipes and channels are opened ── each stage is started, and gets its ends ── ours are closed
///
/// until then no other thread forks a function process, which would keep ends open. Bytes that several read or several
/// write are moved by a process of its own, for the same reason, and so that none of this process's threads is needed.
class MixedRun {
public:
    MixedRun(const std::deque<detail::MixedStage>& stages, const PipelineRunOptions& options);

    PipelineResult run();

private:
    [[nodiscard]] bool prepare();
    void start_all();
    [[nodiscard]] std::optional<Outcome> start_stage(std::size_t index);
    [[nodiscard]] std::optional<Outcome> start_function(std::size_t index, const StageStart& how, StageEnds& ends);
    void start_pump();
    void move_bytes(pipes::MessageSocket& notices);
    [[nodiscard]] std::string name_of_stage(std::size_t index) const;

    void listen();
    void receive_value(std::size_t index, Attended& attended);
    void receive_notice(Attended& attended);
    void receive_rest();
    void take_replies();
    void take_pump_reply();
    void fail(const std::string& reason);

    const std::deque<detail::MixedStage>& added_;
    const PipelineRunOptions& options_;
    PipelineText text_;
    std::vector<StageShape> shapes_;
    std::vector<StageFiles> files_;
    Wiring wiring_;
    std::vector<std::optional<FunctionStage>> functions_;
    std::optional<FunctionStage> pump_;
    pipes::MessageSocket notices_;
    std::vector<Attended> attended_;
    const vmcow::PageStore::Pin pin_;  // until the functions have been reaped: they read deltas where they lie
    const bool alone_;
    PipelineStages running_;
    PipelineResult result_;
};

}  // namespace procrun
