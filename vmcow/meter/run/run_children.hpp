#pragma once

#include <cstdint>
#include <vector>

#include "vmcow/meter/model/workload.hpp"
#include "vmcow/meter/run/run_view.hpp"
#include "vmcow/meter/run/written_image.hpp"
#include "vmcow/sys/page_scan_method.hpp"

namespace vmcow::meter {

/// The writes of child `index` of several: the workload with another seed, so that random patterns write elsewhere.
[[nodiscard]] Workload workload_of_child(const Workload& workload, std::uint64_t index);

/// Runs a workload in `children` forked processes, each with its own private view of the image. All of them hold their
/// copies at the same time: each child stays until the last one has reported its run.
///
/// Pre:    the workload is valid for the image; `children` > 0; this process has one thread.
/// Throws: std::system_error -- EAGAIN (fork), EMFILE, ENOMEM; std::runtime_error that names the child and says
///         how it ended before it reported its run, or what failed in it. No process is left behind.
/// Cost:   `memory_needed(workload, children)`.
[[nodiscard]] std::vector<ViewRun> run_children(const Workload& workload, std::uint64_t children,
                                                const WrittenImage& image, sys::PageScanMethod page_scan);

/// The sum of the runs. Pre: there is at least one.
[[nodiscard]] ViewRun sum_of(const std::vector<ViewRun>& runs) noexcept;

}  // namespace vmcow::meter
