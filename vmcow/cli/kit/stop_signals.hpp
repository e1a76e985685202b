#pragma once

#include <optional>

#include "vmcow/sys/process/signals.hpp"

namespace vmcow::cli {

/// While this object lives, SIGINT, SIGTERM and SIGHUP do not end the process but make `fd` readable. A signal that is
/// ignored, as SIGHUP is under nohup(1), stays ignored. The destructor drops signals that were not taken.
///
/// Threads: blocks the signals in the calling thread alone; the process should have no other thread.
/// Source:  signalfd(2).
class StopSignals {
public:
    /// Throws: std::system_error -- EMFILE, ENFILE; no signal is blocked then.
    StopSignals();
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;
    ~StopSignals();

    [[nodiscard]] int fd() const noexcept { return signals_.fd(); }
    /// Takes a signal that has arrived; nullopt when there is none.
    [[nodiscard]] std::optional<int> take() noexcept { return signals_.take(); }

private:
    sys::SignalDescriptor signals_;
};

}  // namespace vmcow::cli
