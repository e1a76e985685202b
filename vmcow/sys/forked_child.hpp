#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>

namespace vmcow::sys {

/// A forked child that runs a function, and exits with what that returns. It dies with this process; its owner's
/// destructor kills it, if it still runs, and reaps it.
///
/// Pre:    this process has one thread, so that the function may do as it likes.
/// Throws: std::system_error -- fork(2)'s errno. Source: fork(2), prctl(2) PR_SET_PDEATHSIG.
class ForkedChild {
public:
    explicit ForkedChild(const std::function<int()>& body);
    ForkedChild(ForkedChild&& other) noexcept;
    ForkedChild& operator=(ForkedChild&&) = delete;
    ForkedChild(const ForkedChild&) = delete;
    ForkedChild& operator=(const ForkedChild&) = delete;
    ~ForkedChild();

    /// Waits for its end: its status as waitpid(2) has it, or nothing where somebody else has reaped it.
    [[nodiscard]] std::optional<int> wait() noexcept;

private:
    pid_t pid_;
};

}  // namespace vmcow::sys
