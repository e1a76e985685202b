#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vmcow/meter/stacks/copy_stacks.hpp"
#include "vmcow/meter/stacks/fault_sampler.hpp"
#include "vmcow/meter/watch/process_family.hpp"

namespace vmcow::cli {

struct WatchStacksOptions {
    bool wanted = false;
    std::optional<std::uint64_t> period;  ///< one of so many faults is sampled; nullopt: the kernel chooses
    bool with_children = true;
};

/// `--stacks`: finds the code that made the copies of a watch.
class WatchStacks {
public:
    explicit WatchStacks(const WatchStacksOptions& options);

    /// Samples the page faults of all processes of the family from now on. The first refusal of the kernel is printed,
    /// and refusals are noted; the watch goes on without the samples.
    void follow(const meter::ProcessFamily& family);
    /// Call before each look.
    void before_look();
    /// Call after each look: the pages now tell which faults have made copies.
    void after_look(const meter::ProcessFamily& family);

    /// Adds the descriptors that become readable when there are samples to take.
    void add_to(std::vector<pollfd>& polled) const;
    void take(const std::vector<pollfd>& polled);
    /// How long samples may wait for `take` before some are lost.
    [[nodiscard]] std::chrono::milliseconds longest_wait() const;

    /// Whether the kernel refused to sample some process.
    [[nodiscard]] bool was_refused() const noexcept { return !refusals_.empty(); }
    /// The functions that made copies; nullopt if no process could be sampled.
    [[nodiscard]] std::optional<std::vector<meter::FunctionCopies>> functions();
    [[nodiscard]] std::string folded(const std::string& program);
    [[nodiscard]] std::vector<std::string> notes() const;

private:
    void note_refusal(pid_t pid, int error);

    meter::FaultSampler sampler_;
    bool sampled_;
    std::set<pid_t> asked_;
    std::set<int> hung_up_;
    std::uint64_t look_began_ns_ = 0;
    std::vector<std::string> refusals_;
};

/// The functions that made the most copies, a line for each, below a heading.
[[nodiscard]] std::vector<std::string> function_lines(const std::vector<meter::FunctionCopies>& functions,
                                                      std::size_t most);

}  // namespace vmcow::cli
