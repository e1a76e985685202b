#include "procrun/pipeline_mix.hpp"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "procrun/pipeline_run.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

// ---- one stage

detail::MixedStage& PipelineStage::stage() const { return pipeline_->stages_[index_]; }

PipelineStage& PipelineStage::reads(const PipelineStage& writer) {
    std::vector<std::size_t>& reads = stage().reads;
    if (writer.pipeline_ != pipeline_) throw std::invalid_argument("a stage reads a stage of another pipeline");
    if (writer.index_ >= index_) throw std::invalid_argument("a stage reads one that was not added before it");
    if (std::find(reads.begin(), reads.end(), writer.index_) != reads.end()) {
        throw std::invalid_argument("a stage reads the same one twice");
    }
    reads.push_back(writer.index_);
    return *this;
}

PipelineStage& PipelineStage::join(pipes::Join order) {
    stage().join = order;
    return *this;
}

PipelineStage& PipelineStage::name(std::string name) {
    stage().text.name = std::move(name);
    return *this;
}

PipelineStage& PipelineStage::limits(const StageLimits& limits) {
    stage().text.limits = limits;
    return *this;
}

PipelineStage& PipelineStage::bounds(const ValueBounds& bounds) {
    VMCOW_ASSERT(bounds.under_way > 0 && bounds.under_way <= BoundedChannel::kMostUnderWay);
    stage().bounds = bounds;
    return *this;
}

// ---- the pipeline

Pipeline::Pipeline() = default;
Pipeline::~Pipeline() = default;

PipelineStage Pipeline::add(detail::MixedStage stage) {
    if (stage.function) stage.text.name = fmt::format("function {}", stages_.size() + 1);
    stages_.push_back(std::move(stage));
    return {*this, stages_.size() - 1};
}

PipelineStage Pipeline::program(std::vector<std::string> argv) {
    StageText text;
    text.argv = std::move(argv);
    return program(std::move(text));
}

PipelineStage Pipeline::program(StageText text) {
    VMCOW_ASSERT(!text.argv.empty());
    detail::MixedStage stage;
    stage.text = std::move(text);
    return add(std::move(stage));
}

PipelineStage Pipeline::function(StageFunction function) {
    VMCOW_ASSERT(function != nullptr);
    detail::MixedStage stage;
    stage.function = std::move(function);
    return add(std::move(stage));
}

PipelineStage Pipeline::given(std::vector<vmcow::TypedSnapshot> values) {
    return function([values = std::move(values)](StageIo& io) {
        for (const vmcow::TypedSnapshot& value : values) io.give(value);
    });
}

PipelineStage Pipeline::output(const PipelineStage& stage) {
    if (stage.pipeline_ != this) throw std::invalid_argument("an output is a stage of another pipeline");
    if (stage.stage().function) {
        stage.stage().to_caller = true;
        return stage;
    }
    PipelineStage all = function([](StageIo& io) { io.give(io.read_all()); });
    all.reads(stage);
    all.stage().to_caller = true;
    return all;
}

PipelineResult Pipeline::run(const PipelineRunOptions& options) {
    VMCOW_ASSERT(!stages_.empty());
    return MixedRun(stages_, options).run();
}

PipelineReport detail::run_branched(const PipelineText& text, const PipelineOptions& options) {
    std::deque<MixedStage> stages;
    for (std::size_t i = 0; i < text.stages.size(); ++i) {
        MixedStage stage;
        stage.text = text.stages[i];
        if (const auto& from = stage.text.from) {
            stage.reads = from->stages;
            if (from->by_line) stage.join = pipes::Join::by_line;
        } else if (i > 0) {
            stage.reads = {i - 1};
        }
        stages.push_back(std::move(stage));
    }
    PipelineRunOptions run_options;
    static_cast<PipelineOptions&>(run_options) = options;
    return std::move(MixedRun(stages, run_options).run().report_);
}

std::deque<vmcow::TypedSnapshot>& PipelineResult::values_of(std::size_t stage) {
    if (stage >= values_.size() || !values_[stage]) throw std::invalid_argument("that stage is no output");
    return *values_[stage];
}

}  // namespace procrun
