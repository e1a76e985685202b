#pragma once

#include <chrono>

#include "procrun/call_cost.hpp"
#include "vmcow/image/copy_costs.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {

/// The settings of a pool that each of its workers starts with.
struct WorkerConfig {
    std::chrono::nanoseconds idle_time{};
    vmcow::PageCount resident_budget;
    vmcow::CopyCosts costs;
    void (*at_step)(CallStep) = nullptr;  ///< called in the worker at each step
};

/// The descriptors that a worker starts with: its ends of the connections to its caller.
struct WorkerEnds {
    vmcow::sys::UniqueFd call_memory;
    vmcow::sys::UniqueFd request_pipe;  ///< read end
    vmcow::sys::UniqueFd reply_pipe;    ///< write end
    vmcow::sys::UniqueFd socket;
};

/// Runs a worker: serves calls until its caller is gone, or until it has been idle for `idle_time`. Returns the exit
/// status.
int worker_main(WorkerEnds ends, const WorkerConfig& config) noexcept;

}  // namespace procrun::detail
