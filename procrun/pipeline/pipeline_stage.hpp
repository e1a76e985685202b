#pragma once

#include <cstddef>
#include <string>

#include "pipes/pump/pump_options.hpp"

namespace procrun {

class Pipeline;
struct StageLimits;
struct StageSpec;
struct ValueBounds;

/// The handle of one stage of a pipeline, by which it is connected and described. Copies refer to the same stage, as
/// long as the pipeline lives.
class PipelineStage {
public:
    /// Makes this stage read `writer`, which was added before it, in addition to the stages that it reads already.
    /// Several stages may read one.
    /// Throws: std::invalid_argument -- `writer` is of another pipeline, was added later, or is read already. In
    ///         `pipeline.program(a).reads(pipeline.program(b))` C++ adds a first: add b in a statement before it.
    PipelineStage& reads(const PipelineStage& writer);
    template <class... Stages>
    requires(sizeof...(Stages) > 1) PipelineStage& reads(const Stages&... writers) {
        (static_cast<void>(reads(writers)), ...);
        return *this;
    }
    /// How the output of several stages becomes one input: in their order, which is the default, or bytes by line and
    /// values as they come.
    PipelineStage& join(pipes::Join order);
    /// Connects a program that uses vmcow/program_values.hpp for values: it takes and gives them as a function does.
    /// Values that it does not take go on to its readers. If it reads nothing, its arguments are
    /// PipelineOptions::values.
    /// Pre: the stage is a program.
    PipelineStage& takes_values();
    /// Sets the name that reports use.
    PipelineStage& name(std::string name);
    PipelineStage& limits(const StageLimits& limits);
    /// Sets how far the values that this stage gives may be ahead of its readers.
    /// Pre: at least one under way, and at most BoundedChannel::kMostUnderWay.
    PipelineStage& bounds(const ValueBounds& bounds);

    /// The number of the stage, in the order in which stages were added. Reports have the same order.
    [[nodiscard]] std::size_t index() const noexcept { return index_; }

private:
    friend class Pipeline;
    PipelineStage(Pipeline& pipeline, std::size_t index) noexcept : pipeline_(&pipeline), index_(index) {}
    [[nodiscard]] StageSpec& stage() const;

    Pipeline* pipeline_;
    std::size_t index_;
};

}  // namespace procrun
