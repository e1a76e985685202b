#pragma once

#include <cstddef>
#include <vector>

#include "pipes/pump/pump_options.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/pipeline/stage_io.hpp"

namespace procrun {

/// One stage of a pipeline, as it is to be run.
struct StageSpec {
    StageText text;
    StageFunction function;          ///< none: a program
    std::vector<std::size_t> reads;  ///< numbers of earlier stages
    pipes::Join join = pipes::Join::in_order;
    ValueBounds bounds{};
    bool to_caller = false;  ///< its values go to the caller; for a function, or a program that takes values

    [[nodiscard]] bool is_function() const noexcept { return function != nullptr; }
    /// Whether the stage is a program that has a connection for values.
    [[nodiscard]] bool takes_values() const noexcept { return !is_function() && text.values.value_or(false); }
};

}  // namespace procrun
