#pragma once

#include <optional>
#include <vector>

#include "procrun/observe/input_progress.hpp"
#include "procrun/observe/stage_view.hpp"

namespace procrun {

/// A stage of a pipeline at one moment.
struct StageSample {
    bool running = false;  ///< it has not ended; after its end, the view is as it was last seen
    StageView view;
};

/// A pipeline at one moment.
struct PipelineSample {
    double seconds = 0;  ///< since the pipeline was started
    std::vector<StageSample> stages;
    std::optional<FilePosition> input;  ///< how far the first stage has read its file
};

}  // namespace procrun
