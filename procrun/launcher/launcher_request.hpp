#pragma once

#include <cstddef>
#include <vector>

#include "procrun/launcher/launcher_protocol.hpp"
#include "procrun/program/program_child.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// A request as it is sent. `fds` are descriptors of the caller, and first among them `body_file` if there is one.
struct LaunchMessage {
    std::vector<std::byte> bytes;
    std::vector<int> fds;
    vmcow::sys::UniqueFd body_file;
};

/// Writes a plan as a request. In `request` the caller has set what is not in the plan: `watched`, `death_signal`.
/// Pre:    the plan has at least one word.
/// Throws: std::system_error -- EMFILE, ENOSPC when the body is too long for a message and needs a memfd.
[[nodiscard]] LaunchMessage write_request(const ChildPlan& plan, LaunchRequest request);

}  // namespace procrun::detail
