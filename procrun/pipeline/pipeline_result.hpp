#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "procrun/pipeline/pipeline_report.hpp"
#include "procrun/pipeline/pipeline_stage.hpp"
#include "procrun/pipeline/stage_io.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

struct PipelineOptions;
struct PipelineText;

/// A pipeline that has ended: its report, and the values that its outputs gave.
class PipelineResult {
public:
    [[nodiscard]] const PipelineReport& report() const noexcept { return report_; }
    [[nodiscard]] const StageReport& stage(const PipelineStage& stage) const {
        return report_.stages.at(stage.index());
    }
    /// The values that went through a function stage; nullopt if it could not tell, and for other stages.
    [[nodiscard]] const std::optional<ValueTraffic>& traffic(const PipelineStage& stage) const {
        return traffic_.at(stage.index());
    }
    /// Whether every stage ended well or was excused, no bytes were lost between stages, and the run was not stopped.
    [[nodiscard]] bool ok() const noexcept { return report_.status == 0 && !report_.stopped; }
    /// Takes the next one of the values that the output has given; nullopt when there are no more.
    /// Throws: std::system_error -- EBADMSG: it is of another type. std::invalid_argument -- the stage is no output.
    template <StageValue V>
    [[nodiscard]] std::optional<V> take(const PipelineStage& output) {
        std::deque<vmcow::TypedSnapshot>& values = values_of(output.index());
        if (values.empty()) return std::nullopt;
        vmcow::TypedSnapshot value = std::move(values.front());
        values.pop_front();
        return StageIo::value_of<V>(std::move(value));
    }

private:
    friend class PipelineRun;
    friend PipelineReport run_pipeline(const PipelineText& text, const PipelineOptions& options);
    [[nodiscard]] std::deque<vmcow::TypedSnapshot>& values_of(std::size_t stage);

    PipelineReport report_;
    std::vector<std::optional<ValueTraffic>> traffic_;
    std::vector<std::optional<std::deque<vmcow::TypedSnapshot>>> values_;
};

}  // namespace procrun
