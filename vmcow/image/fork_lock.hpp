#pragma once

#include <mutex>

namespace vmcow {

/// The one lock over what this process has reserved and mapped: the book of slots and the list of images.
///
/// The lock is recursive, because preparing a fork maps images itself. A thread that calls fork(2) takes it first, so
/// the child finds the book and the list whole. In the child the lock is made anew, since a recursive lock remembers a
/// thread that the child does not have.
[[nodiscard]] std::recursive_mutex& fork_lock();

}  // namespace vmcow
