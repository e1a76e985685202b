#pragma once

#include <cstddef>
#include <vector>

#include "procrun/launcher_protocol.hpp"
#include "procrun/program_child.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// A request as it travels. `fds` are the caller's own, but for `body_file`.
struct LaunchMessage {
    std::vector<std::byte> bytes;
    std::vector<int> fds;
    vmcow::sys::UniqueFd body_file;
};

/// Writes a plan as a request. Of `request` the caller has set what is not in the plan: `watched`, `death_signal`.
/// Throws: std::system_error -- EMFILE, ENOSPC for a body that is too long for a message.
[[nodiscard]] LaunchMessage write_request(const ChildPlan& plan, LaunchRequest request);

}  // namespace procrun::detail
