#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "procrun/stage_states.hpp"

namespace procrun {

/// A stage as the search for the bottleneck needs it.
struct StageLoad {
    std::string name;  ///< as a user knows it: the program's
    StageShares shares;
};

/// What holds a pipeline up, and a sentence that says why.
struct Bottleneck {
    enum class Kind {
        stage,    ///< `stage`
        input,    ///< what the first stage reads
        output,   ///< what the last stage writes to: a terminal, a disk, the reader of its pipe
        none,     ///< several hold it up alike, or each for a while
        unknown,  ///< too little could be seen
    };
    Kind kind = Kind::unknown;
    std::optional<std::size_t> stage;  ///< its index; only for Kind::stage
    std::string reason;                ///< stages are counted from 1 in it
};

/// The stage that is held up the least by its neighbours: in a pipeline that is what the others wait for. What counts
/// is how long it ran or waited for something of its own, as a share of the whole pipeline's time, so that a stage that
/// was busy all of a short life is not taken for it. What the first stage reads and what the last one writes to are
/// judged likewise, by how long those stages waited for them.
///
/// None is named when the first two differ by less than 5 points, which is what the shares are good for, or when the
/// first took less than half the time: then there is no one thing that would have to become faster.
///
/// Pre: at least one stage.
[[nodiscard]] Bottleneck find_bottleneck(std::span<const StageLoad> stages);

}  // namespace procrun
