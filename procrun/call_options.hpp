#pragma once

#include "procrun/deadline.hpp"
#include "procrun/limits.hpp"

namespace procrun {

struct CallOptions {
    /// The function process is killed if it still runs at that time.
    Deadline deadline = Deadline::never();
    /// What the call may use. The function process is killed when it uses more.
    CallLimits limits{};
    /// Whether changed bytes are counted, and not only changed pages. Cost: reads each changed page twice.
    bool count_bytes = false;
};

}  // namespace procrun
