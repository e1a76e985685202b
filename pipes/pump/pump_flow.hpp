#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "pipes/pump/pump_engine.hpp"
#include "pipes/pump/pump_options.hpp"
#include "pipes/pump/pump_report.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow {
class Arena;
}

namespace pipes {

/// What a flow is given for one step.
struct PumpStep {
    PumpEngine& engine;
    PumpEngine::Clock::time_point now;
    std::chrono::milliseconds stall_limit;
};

/// What a flow waits for, when a step has moved nothing.
struct PumpWait {
    std::vector<Watch*> watches;
    std::optional<PumpEngine::Clock::time_point> until;

    void no_later_than(std::optional<PumpEngine::Clock::time_point> when) noexcept {
        if (when && (!until || *when < *until)) until = when;
    }
};

/// One flow: bytes on their way from some ends to others.
///
/// Threads: one.
class PumpFlow {
public:
    PumpFlow() = default;
    PumpFlow(const PumpFlow&) = delete;
    PumpFlow& operator=(const PumpFlow&) = delete;
    virtual ~PumpFlow() = default;

    /// Moves what can be moved without waiting, about as much as a pipe holds. Returns whether anything moved or ended.
    virtual bool step(const PumpStep& step) = 0;
    /// Adds what the flow waits for.
    /// Pre: `step` has just returned false, for the same moment.
    virtual void add_to(PumpWait& wait, const PumpStep& step) = 0;
    /// Whether all ends are closed.
    [[nodiscard]] virtual bool is_done() const noexcept = 0;
    /// Closes all ends.
    virtual void stop(PumpEngine& engine) noexcept = 0;
    [[nodiscard]] virtual FlowReport report() = 0;
};

/// From one end to several. `number` is the flow's number, for notices; `options` outlives the flow. `holds`: past the
/// stall_limit the writer goes on even if no reader can.
[[nodiscard]] std::unique_ptr<PumpFlow> make_tee_flow(vmcow::sys::UniqueFd in, std::vector<vmcow::sys::UniqueFd> outs,
                                                      bool holds, const PumpOptions& options, std::size_t number);
/// From several ends to one. `number` and `options` are as for `make_tee_flow`.
[[nodiscard]] std::unique_ptr<PumpFlow> make_join_flow(std::vector<vmcow::sys::UniqueFd> ins, vmcow::sys::UniqueFd out,
                                                       Join order, const PumpOptions& options, std::size_t number);
/// Out of a file.
/// Pre: the file does not change (I1), and has these bytes.
[[nodiscard]] std::unique_ptr<PumpFlow> make_send_flow(vmcow::sys::UniqueFd file, std::uint64_t offset,
                                                       std::uint64_t bytes, vmcow::sys::UniqueFd out);
/// Into an arena, which outlives the flow.
[[nodiscard]] std::unique_ptr<PumpFlow> make_receive_flow(vmcow::sys::UniqueFd in, vmcow::Arena& arena);

}  // namespace pipes
