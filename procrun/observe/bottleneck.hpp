#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "procrun/observe/stage_view.hpp"

namespace procrun {

/// A stage as the search for the bottleneck needs it.
struct StageLoad {
    std::string name;  ///< what a user calls it: the name of the program
    StageShares shares;
};

/// What holds a pipeline up, and a sentence that says why.
struct Bottleneck {
    enum class Kind {
        stage,    ///< the one with the index `stage`
        input,    ///< what the first stage reads
        output,   ///< what the last stage writes to: a terminal, a disk, the reader of its pipe
        none,     ///< several hold it up equally, or each for a while
        unknown,  ///< too little could be seen
    };
    Kind kind = Kind::unknown;
    std::optional<std::size_t> stage;  ///< the stage's index; only for Kind::stage
    std::string reason;                ///< the sentence, which counts stages from 1
};

/// Finds the stage that is held up the least by its neighbours: in a pipeline, the other stages wait for that one. What
/// counts is how long a stage ran or waited for something other than its neighbours, as a share of the whole pipeline's
/// time, so that a stage that was busy during a short life is not taken for the bottleneck. The input of the first
/// stage and the output of the last one are judged likewise, by how long those stages waited for them.
///
/// No bottleneck is named when the two largest shares differ by less than 5 points, because the shares are no more
/// precise, or when the largest is less than half: then there is no one thing that would have to become faster.
///
/// Pre: at least one stage.
[[nodiscard]] Bottleneck find_bottleneck(std::span<const StageLoad> stages);

}  // namespace procrun
