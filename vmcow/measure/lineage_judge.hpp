#pragma once

#include "vmcow/measure/fault_sampler.hpp"
#include "vmcow/measure/process_family.hpp"

namespace vmcow::measure {

/// Tells from the last look at a family which page faults were copies: those of a process on a page that it has copied,
/// and those of a parent on a page that it has copied away from a child. Where the writer of a copy is not known, the
/// one that had a fault there is taken for it.
class LineageJudge : public CopyJudge {
public:
    explicit LineageJudge(const ProcessFamily& family) : family_(family) {}

    [[nodiscard]] FaultVerdict verdict(pid_t pid, std::uint64_t page) const override;
    [[nodiscard]] bool has_private_page(pid_t pid, std::uint64_t page) const override;

private:
    const ProcessFamily& family_;
};

}  // namespace vmcow::measure
