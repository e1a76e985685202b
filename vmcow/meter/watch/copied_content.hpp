#pragma once

#include "vmcow/meter/watch/change_record.hpp"
#include "vmcow/meter/watch/watch_sample.hpp"
#include "vmcow/meter/watch/watched_process.hpp"

namespace vmcow::meter {

/// Compares the copied pages of `process` with the pages of `relative` at the same addresses, as they are now. Copies
/// of a file's pages are compared with the file, if its name still leads to it. Adds the result to `sample`, including
/// the blocks that differ. Pages that cannot be compared are left out of PageFigures::compared. The bytes that differ
/// go into `record`, if there is one.
///
/// Cost:   two reads of each copied page, at most 256 KiB at a time. No page is changed or brought into memory.
/// Throws: std::system_error -- EMFILE. If the process may not be read (ptrace) or has ended, everything stays unknown.
void compare_copied(const WatchedProcess& process, const WatchedProcess* relative, ProcessSample& sample,
                    ChangeRecord* record = nullptr);

}  // namespace vmcow::meter
