#pragma once

#include "vmcow/measure/change_record.hpp"
#include "vmcow/measure/watch_sample.hpp"
#include "vmcow/measure/watched_process.hpp"

namespace vmcow::measure {

/// Compares the copied pages of `process` with the pages of `relative` at the same addresses, as they are now, and
/// those that are copies of a file's pages with the file, if it is still there by its name. Adds what it finds to
/// `sample`, the blocks that differ among it: pages that cannot be compared are left out of PageFigures::compared. What
/// differs goes into `record`, if there is one.
///
/// Cost:   two reads of each copied page, at most 256 KiB at a time; no page is changed, and none is brought into
///         memory that was not there.
/// Throws: std::system_error -- EMFILE. A process that may not be read (ptrace) or has ended leaves all unknown.
void compare_copied(const WatchedProcess& process, const WatchedProcess* relative, ProcessSample& sample,
                    ChangeRecord* record = nullptr);

}  // namespace vmcow::measure
