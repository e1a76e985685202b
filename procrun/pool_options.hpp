#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "procrun/call_cost.hpp"
#include "vmcow/image/copy_costs.hpp"
#include "vmcow/units.hpp"

namespace procrun {

struct PoolOptions {
    /// The largest number of function processes; 0: as many as there are processors to use.
    std::size_t workers = 0;
    /// How many calls may wait for a worker; a further call is refused (EAGAIN).
    std::size_t queue = 1024;
    /// A worker that has had no call for so long ends, and gives back the pages that it has kept.
    std::chrono::milliseconds idle_time = std::chrono::seconds(10);
    /// How many private pages of images a worker may keep from call to call.
    vmcow::PageCount resident_budget{16384};
    /// How many bytes of memory each worker's book of the images that it knows may take, 256 for an image, in the
    /// worker and in this process. The images that were used longest ago are forgotten first, and learnt again when
    /// they are used.
    std::size_t known_budget = std::size_t{16} << 20;
    /// The costs by which a worker first chooses between refreshing and mapping anew; nullopt: they are measured when
    /// the pool is made.
    std::optional<vmcow::CopyCosts> copy_costs{};
    /// Whether the kernel enforces memory limits where a cgroup is delegated. Otherwise they are polled.
    bool use_cgroup = true;
    /// The directory below which these cgroups are made; empty: the cgroup of this process.
    std::string cgroup_directory{};
    /// Called in the worker at each step of a call, for tests and tracing. A plain function: the worker is a copy of
    /// this process as it was when the pool was made.
    void (*at_step)(CallStep) = nullptr;
};

}  // namespace procrun
