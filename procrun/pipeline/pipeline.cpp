#include "procrun/pipeline.hpp"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "procrun/pipeline/pipeline_run.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

// ---- one stage

StageSpec& PipelineStage::stage() const { return pipeline_->stages_[index_]; }

PipelineStage& PipelineStage::reads(const PipelineStage& writer) {
    std::vector<std::size_t>& reads = stage().reads;
    if (writer.pipeline_ != pipeline_) {
        throw std::invalid_argument(fmt::format("stage {} reads a stage of another pipeline", index_ + 1));
    }
    if (writer.index_ == index_) throw std::invalid_argument(fmt::format("stage {} reads itself", index_ + 1));
    if (writer.index_ > index_) {
        throw std::invalid_argument(
            fmt::format("stage {} reads stage {}, which was added later: add the one that writes first, as in `auto "
                        "writer = pipeline.program(…); pipeline.program(…).reads(writer);`",
                        index_ + 1, writer.index_ + 1));
    }
    if (std::find(reads.begin(), reads.end(), writer.index_) != reads.end()) {
        throw std::invalid_argument(fmt::format("stage {} reads stage {} twice", index_ + 1, writer.index_ + 1));
    }
    reads.push_back(writer.index_);
    return *this;
}

PipelineStage& PipelineStage::join(pipes::Join order) {
    stage().join = order;
    return *this;
}

PipelineStage& PipelineStage::takes_values() {
    VMCOW_ASSERT(!stage().function && "a function takes values anyway");
    stage().text.values = true;
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
    VMCOW_ASSERT(bounds.under_way > 0 && bounds.under_way <= BoundedChannel::kMostUnderWay &&
                 "from 1 to kMostUnderWay are under way");
    stage().bounds = bounds;
    return *this;
}

// ---- the pipeline

Pipeline::Pipeline() = default;
Pipeline::~Pipeline() = default;

PipelineStage Pipeline::add(StageSpec stage) {
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
    VMCOW_ASSERT(!text.argv.empty() && "a program has a word");
    StageSpec stage;
    stage.text = std::move(text);
    return add(std::move(stage));
}

PipelineStage Pipeline::function(StageFunction function) {
    VMCOW_ASSERT(function != nullptr && "a function stage runs something");
    StageSpec stage;
    stage.function = std::move(function);
    return add(std::move(stage));
}

PipelineStage Pipeline::given(std::vector<vmcow::TypedSnapshot> values) {
    return function([values = std::move(values)](StageIo& io) {
        for (const vmcow::TypedSnapshot& value : values) io.give(value);
    });
}

PipelineStage Pipeline::output(const PipelineStage& stage) {
    if (stage.pipeline_ != this) throw std::invalid_argument("output: the stage is of another pipeline");
    if (stage.stage().function || stage.stage().text.values.value_or(false)) {
        stage.stage().to_caller = true;
        return stage;
    }
    PipelineStage all = function([](StageIo& io) { io.give(io.read_all()); });
    all.reads(stage);
    all.stage().to_caller = true;
    return all;
}

PipelineResult Pipeline::run(const PipelineRunOptions& options) {
    VMCOW_ASSERT(!stages_.empty() && "a pipeline has a stage");
    return PipelineRun(stages_, options).run();
}

// ---- a text

namespace {

/// Whether the stage has a connection for values.
bool takes_values(const StageText& stage, const PipelineOptions& options) {
    return stage.values.value_or(!options.values.empty() || options.keep_values);
}

std::deque<StageSpec> specs_of(const PipelineText& text, const PipelineOptions& options) {
    std::deque<StageSpec> specs;
    for (const StageText& stage : text.stages) {
        StageSpec spec;
        spec.text = stage;
        spec.text.values = takes_values(stage, options);
        if (stage.from) {
            spec.reads = stage.from->stages;
            if (stage.from->by_line) spec.join = pipes::Join::by_line;
        } else if (!specs.empty()) {
            spec.reads = {specs.size() - 1};
        }
        specs.push_back(std::move(spec));
    }
    return specs;
}

}  // namespace

PipelineReport run_pipeline(const PipelineText& text, const PipelineOptions& options) {
    VMCOW_ASSERT(!text.stages.empty() && "a pipeline has a stage");
    const std::deque<StageSpec> specs = specs_of(text, options);
    PipelineRunOptions run_options;
    static_cast<PipelineOptions&>(run_options) = options;
    PipelineResult result = PipelineRun(specs, run_options).run();
    return std::move(result.report_);
}

}  // namespace procrun
