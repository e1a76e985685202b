#pragma once

#include "vmcow/meter/stacks/fault_sampler.hpp"
#include "vmcow/meter/watch/process_family.hpp"

namespace vmcow::meter {

/// Tells from the last look at a family which page faults were copies: faults of a process on a page that it copied,
/// and faults of a parent on a page that it copied away from a child. If the writer of a copy is unknown, the process
/// that had a fault there is taken to be the writer.
class LineageJudge : public CopyJudge {
public:
    explicit LineageJudge(const ProcessFamily& family) : family_(family) {}

    [[nodiscard]] FaultVerdict verdict(pid_t pid, std::uint64_t page) const override;
    [[nodiscard]] bool has_private_page(pid_t pid, std::uint64_t page) const override;

private:
    const ProcessFamily& family_;
};

}  // namespace vmcow::meter
