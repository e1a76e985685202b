#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "pipes/pump.hpp"
#include "pipes/pump_engine.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/sys/fd.hpp"

namespace pipes {

/// What a flow has at hand while it makes a step.
struct PumpStep {
    PumpEngine& engine;
    PumpEngine::Clock::time_point now;
    std::chrono::milliseconds patience;
};

/// What a flow waits for, when a step has moved nothing.
struct PumpWait {
    std::vector<Watch*> watches;
    std::optional<PumpEngine::Clock::time_point> until;

    void no_later_than(std::optional<PumpEngine::Clock::time_point> when) noexcept {
        if (when && (!until || *when < *until)) until = when;
    }
};

/// Bytes on their way from some ends to others.
///
/// Threads: one.
class PumpFlow {
public:
    PumpFlow() = default;
    PumpFlow(const PumpFlow&) = delete;
    PumpFlow& operator=(const PumpFlow&) = delete;
    virtual ~PumpFlow() = default;

    /// Moves what can be moved without waiting, a pipe's worth or so. Returns whether anything was, or has ended.
    virtual bool step(const PumpStep& step) = 0;
    /// Adds what it waits for. Pre: `step` has just returned false, for the same moment.
    virtual void add_to(PumpWait& wait, const PumpStep& step) = 0;
    /// All ends are closed.
    [[nodiscard]] virtual bool is_done() const noexcept = 0;
    /// Closes all ends.
    virtual void stop(PumpEngine& engine) noexcept = 0;
    [[nodiscard]] virtual FlowReport report() = 0;
};

/// `number` is that of the flow, for notices; `options` outlive the flow.
[[nodiscard]] std::unique_ptr<PumpFlow> make_tee_flow(vmcow::sys::UniqueFd in, std::vector<vmcow::sys::UniqueFd> outs,
                                                      const PumpOptions& options, std::size_t number);
[[nodiscard]] std::unique_ptr<PumpFlow> make_join_flow(std::vector<vmcow::sys::UniqueFd> ins, vmcow::sys::UniqueFd out,
                                                       Join order, const PumpOptions& options, std::size_t number);
/// Pre: the file does not change, and has as many bytes.
[[nodiscard]] std::unique_ptr<PumpFlow> make_send_flow(vmcow::sys::UniqueFd file, std::uint64_t offset,
                                                       std::uint64_t bytes, vmcow::sys::UniqueFd out);
[[nodiscard]] std::unique_ptr<PumpFlow> make_receive_flow(vmcow::sys::UniqueFd in, vmcow::Arena& arena);

}  // namespace pipes
