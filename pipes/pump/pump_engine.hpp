#pragma once

#include <chrono>
#include <ctime>
#include <memory>
#include <optional>
#include <span>

namespace pipes {

/// A descriptor whose state is waited for.
struct Watch {
    int fd = -1;
    short events = 0;    ///< as in poll(2); POLLERR and POLLHUP are always among what is reported
    short found = 0;     ///< what was reported last
    bool armed = false;  ///< set by the engine: a request for the watch is in the kernel
};

/// How the pump waits. There are two forms, and the flows do not know which one they use. In both, the calls that move
/// bytes are made directly (`pump_calls.hpp`), because none of them waits: io_uring hands every splice to a thread of
/// the kernel, which took 11 µs for 64 KiB where the call takes 0.4 µs.
///
/// Threads: one for the whole life of the engine.
class PumpEngine {
public:
    using Clock = std::chrono::steady_clock;

    PumpEngine() = default;
    PumpEngine(const PumpEngine&) = delete;
    PumpEngine& operator=(const PumpEngine&) = delete;
    virtual ~PumpEngine() = default;

    /// Waits until one of the watches has something to report or `until` has come.
    virtual void wait(std::span<Watch* const> watches, std::optional<Clock::time_point> until) = 0;
    /// Takes back the request for a watch. To be called before the watch's descriptor is closed: a request in the
    /// kernel would keep the file open.
    virtual void forget(Watch& watch) noexcept = 0;
};

/// The time left until `when`, never negative, in the form that ppoll(2) takes.
[[nodiscard]] timespec time_until(PumpEngine::Clock::time_point when);

/// An engine on poll(2).
[[nodiscard]] std::unique_ptr<PumpEngine> make_poll_engine();
/// An engine on io_uring's poll requests, which stay in the kernel from one wait to the next.
/// Throws: std::system_error -- EPERM, ENOSYS, ENOMEM, EMFILE: the kernel or a container refuses io_uring.
[[nodiscard]] std::unique_ptr<PumpEngine> make_ring_engine();

}  // namespace pipes
