#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "procrun/call_cost.hpp"
#include "vmcow/copy_costs.hpp"
#include "vmcow/units.hpp"

namespace procrun {

struct PoolOptions {
    /// Function processes at the most; 0: as many as there are processors to use.
    std::size_t workers = 0;
    /// Calls that may wait for a worker; one more is refused (EAGAIN).
    std::size_t queue = 1024;
    /// A worker that has had nothing to do for so long ends, and gives back what it has kept.
    std::chrono::milliseconds idle_time = std::chrono::seconds(10);
    /// Private pages of images that a worker may keep from call to call.
    vmcow::PageCount resident_budget{16384};
    /// What the choice between refreshing and mapping anew begins with; nullopt: what is measured when the pool is
    /// made.
    std::optional<vmcow::CopyCosts> copy_costs{};
    /// Whether memory limits are the kernel's task where a cgroup is delegated; polled otherwise.
    bool use_cgroup = true;
    /// Below which cgroup; empty: the own one.
    std::string cgroup_directory{};
    /// Called in the worker at each step of a call, for tests and tracing. A plain function: the worker is a copy of
    /// this process as it was when the pool was made.
    void (*at_step)(CallStep) = nullptr;
};

}  // namespace procrun
