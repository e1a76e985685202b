#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>

#include "vmcow/sys/process/owner_process.hpp"

namespace vmcow::sys {

/// A forked child that runs a function and exits with the function's result. The child dies with this process. The
/// destructor kills the child, if it still runs, and reaps it.
///
/// Pre:        this process has one thread, so that the function may do as it likes.
/// After fork: the copy in a forked process leaves the child alone.
/// Throws:     std::system_error -- fork(2)'s errno.
/// Source:     fork(2), prctl(2) PR_SET_PDEATHSIG.
class ForkedChild {
public:
    explicit ForkedChild(const std::function<int()>& body);
    ForkedChild(ForkedChild&& other) noexcept;
    ForkedChild& operator=(ForkedChild&&) = delete;
    ForkedChild(const ForkedChild&) = delete;
    ForkedChild& operator=(const ForkedChild&) = delete;
    ~ForkedChild();

    /// Waits for the end of the child. Returns its status as waitpid(2) has it, or nullopt when somebody else has
    /// reaped it.
    [[nodiscard]] std::optional<int> wait() noexcept;

private:
    pid_t pid_;
    OwnerProcess owner_;
};

}  // namespace vmcow::sys
