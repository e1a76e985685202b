#pragma once

#include <cstdint>
#include <vector>

#include "vmcow/measure/view_run.hpp"
#include "vmcow/measure/workload.hpp"
#include "vmcow/measure/written_image.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow::measure {

/// What child `index` of several writes: the same workload with another seed, so that random patterns go elsewhere.
[[nodiscard]] Workload workload_of_child(const Workload& workload, std::uint64_t index);

/// Runs a workload in so many forked processes, each with a private view of the image of its own. All of them hold
/// their copies at the same time: each stays until the last one has told what it did.
///
/// Pre:    the workload is valid for the image; `children` > 0; this process has one thread.
/// Throws: std::system_error -- EAGAIN (fork), EMFILE, ENOMEM; std::runtime_error that names the child which ended
///         before it told what it did, or what failed in it. No process is left behind.
/// Cost:   `memory_needed(workload, children)`.
[[nodiscard]] std::vector<ViewRun> run_children(const Workload& workload, std::uint64_t children,
                                                const WrittenImage& image, sys::PageScanMethod page_scan);

/// The runs together. Pre: there is one.
[[nodiscard]] ViewRun sum_of(const std::vector<ViewRun>& runs) noexcept;

}  // namespace vmcow::measure
