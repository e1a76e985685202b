#pragma once

#include <poll.h>

#include <span>
#include <string>

#include "procrun/deadline.hpp"

namespace procrun {

/// The deadline that comes first.
[[nodiscard]] Deadline earlier(Deadline a, Deadline b);

/// Waits until a descriptor is ready, or until the deadline. Returns the number of entries that are ready, 0 at the
/// deadline. Entries with a negative descriptor are passed over.
/// Throws: std::system_error -- EINVAL (more entries than RLIMIT_NOFILE), ENOMEM, with `what`.
/// Source: ppoll(2); started again after EINTR.
int poll_until(std::span<pollfd> entries, Deadline deadline, const std::string& what);

/// Waits as `poll_until` does, but without exceptions, for a caller that goes on whatever ppoll(2) says. Returns -1
/// when ppoll(2) has failed, at once after EINTR and after a sleep of a millisecond otherwise. No entry is ready then,
/// and the caller has to look itself whether what it waits for has happened.
int poll_or_sleep(std::span<pollfd> entries, Deadline deadline) noexcept;

}  // namespace procrun
