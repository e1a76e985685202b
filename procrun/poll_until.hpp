#pragma once

#include <poll.h>

#include <span>
#include <string>

#include "procrun/deadline.hpp"

namespace procrun {

/// The one that comes first.
[[nodiscard]] Deadline earlier(Deadline a, Deadline b);

/// Waits until one of the descriptors is ready, whose number is returned, or until the deadline: 0. Entries with a
/// negative descriptor are passed over.
/// Throws: std::system_error -- EINVAL (more entries than RLIMIT_NOFILE), ENOMEM, with `what`.
/// Source: ppoll(2); started again after EINTR.
int poll_until(std::span<pollfd> entries, Deadline deadline, const std::string& what);

}  // namespace procrun
