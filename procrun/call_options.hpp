#pragma once

#include "procrun/deadline.hpp"
#include "procrun/limits.hpp"

namespace procrun {

struct CallOptions {
    /// The function process is killed when it still runs then.
    Deadline deadline = Deadline::never();
    /// What it may use meanwhile; it is killed when it uses more.
    CallLimits limits{};
    /// Whether the bytes that differ are counted, not only the pages. Cost: reads each changed page twice.
    bool count_bytes = false;
};

}  // namespace procrun
