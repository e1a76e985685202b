#pragma once

#include <optional>
#include <vector>

#include "procrun/input_progress.hpp"
#include "procrun/stage_states.hpp"

namespace procrun {

/// A stage of a pipeline at one moment.
struct StageSample {
    bool running = false;  ///< it has not ended; the view of one that has is as it was last seen
    StageView view;
};

/// A pipeline at one moment.
struct PipelineSample {
    double seconds = 0;  ///< since it was started
    std::vector<StageSample> stages;
    std::optional<FilePosition> input;  ///< how far the first stage is in the file that it reads
};

}  // namespace procrun
