#pragma once

#include <csignal>
#include <optional>

#include "vmcow/sys/fd.hpp"

namespace vmcow::cli {

/// While it lives, SIGINT, SIGTERM and SIGHUP do not end this process but make `fd` readable. One that is ignored, as
/// nohup(1) leaves SIGHUP, stays ignored. What arrives a second time is forgotten at the end.
///
/// Threads: those of the calling thread are blocked; there should be no other.
/// Source:  signalfd(2).
class StopSignals {
public:
    /// Throws: std::system_error -- EMFILE, ENFILE; nothing is blocked then.
    StopSignals();
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;
    ~StopSignals();

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// A signal that has arrived; nullopt when there is none.
    [[nodiscard]] std::optional<int> take() noexcept;

private:
    sigset_t previous_{};
    sys::UniqueFd fd_;
};

}  // namespace vmcow::cli
