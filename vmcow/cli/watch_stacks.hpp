#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vmcow/measure/copy_stacks.hpp"
#include "vmcow/measure/fault_sampler.hpp"
#include "vmcow/measure/process_family.hpp"

namespace vmcow::cli {

struct WatchStacksOptions {
    bool wanted = false;
    std::optional<std::uint64_t> period;  ///< one of so many faults is a sample; without, the kernel chooses
    bool with_children = true;
};

/// `--stacks`: which code made the copies of a watch.
class WatchStacks {
public:
    explicit WatchStacks(const WatchStacksOptions& options);

    /// Takes page faults of the family's processes as samples from now on, where it does not yet. What the kernel
    /// refuses is printed the first time and noted; the watch goes on without.
    void follow(const measure::ProcessFamily& family);
    /// To be called before a look, and after it.
    void before_look();
    void after_look(const measure::ProcessFamily& family);

    /// Adds what becomes readable when there is something to drain.
    void add_to(std::vector<pollfd>& polled) const;
    void take(const std::vector<pollfd>& polled);
    /// How long a wait may be without losing samples.
    [[nodiscard]] std::chrono::milliseconds patience() const;

    /// Whether the kernel refused to sample some process.
    [[nodiscard]] bool was_refused() const noexcept { return !refusals_.empty(); }
    /// Nothing where no process could be sampled.
    [[nodiscard]] std::optional<std::vector<measure::FunctionCopies>> functions();
    [[nodiscard]] std::string folded(const std::string& program);
    [[nodiscard]] std::vector<std::string> notes() const;

private:
    void note_refusal(pid_t pid, int error);

    measure::FaultSampler sampler_;
    bool sampled_;
    std::set<pid_t> asked_;
    std::set<int> hung_up_;
    std::uint64_t look_began_ns_ = 0;
    std::vector<std::string> refusals_;
};

/// The functions that made the most copies, a line for each, below a heading.
[[nodiscard]] std::vector<std::string> function_lines(const std::vector<measure::FunctionCopies>& functions,
                                                      std::size_t most);

}  // namespace vmcow::cli
