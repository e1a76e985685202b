#pragma once

#include <fcntl.h>
#include <unistd.h>

#include "vmcow/sys/fd.hpp"

namespace tests {

/// The number of a descriptor that was just closed.
[[nodiscard]] inline int closed_descriptor() {
    const vmcow::sys::UniqueFd fd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 200));
    return fd.get();
}

}  // namespace tests
