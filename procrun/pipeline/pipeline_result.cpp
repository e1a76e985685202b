#include "procrun/pipeline/pipeline_result.hpp"

#include <stdexcept>

namespace procrun {

std::deque<vmcow::TypedSnapshot>& PipelineResult::values_of(std::size_t stage) {
    if (stage >= values_.size() || !values_[stage]) {
        throw std::invalid_argument("take a value: the stage is no output, see Pipeline::output");
    }
    return *values_[stage];
}

}  // namespace procrun
