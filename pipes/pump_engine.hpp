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
    bool armed = false;  ///< for the engine: a request for it is in the kernel
};

/// How the pump waits: two forms, of which everything above knows nothing. What moves bytes is called directly in both
/// (`pump_calls.hpp`), because none of it waits: io_uring hands every splice to a thread of its own, which took 11 µs
/// for 64 KiB where the call takes 0.4.
///
/// Threads: one, from beginning to end.
class PumpEngine {
public:
    using Clock = std::chrono::steady_clock;

    PumpEngine() = default;
    PumpEngine(const PumpEngine&) = delete;
    PumpEngine& operator=(const PumpEngine&) = delete;
    virtual ~PumpEngine() = default;

    /// Waits until one of the watches has something to report or `until` has come.
    virtual void wait(std::span<Watch* const> watches, std::optional<Clock::time_point> until) = 0;
    /// Lets go of a watch: to be called before its descriptor is closed, which a request in the kernel would keep open.
    virtual void forget(Watch& watch) noexcept = 0;
};

/// What is left until `when`, never negative, as ppoll(2) takes it.
[[nodiscard]] timespec time_until(PumpEngine::Clock::time_point when);

/// On poll(2).
[[nodiscard]] std::unique_ptr<PumpEngine> make_poll_engine();
/// On io_uring's poll requests, which stay in the kernel from wait to wait. Throws: std::system_error -- EPERM, ENOSYS,
/// ENOMEM, EMFILE: the kernel or a container refuses it.
[[nodiscard]] std::unique_ptr<PumpEngine> make_ring_engine();

}  // namespace pipes
