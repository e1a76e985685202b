#pragma once

#include <span>

#include "vmcow/meter/watch/watch_sample.hpp"
#include "vmcow/meter/watch/watched_process.hpp"

namespace vmcow::meter {

/// A process, and the sample that was just counted for it.
struct CountedProcess {
    const WatchedProcess* process = nullptr;
    ProcessSample* sample = nullptr;
};

/// Finds the copies that children of one process have in common, and counts them in PageFigures::copied_with_sibling of
/// all children but the first.
///
/// When a process writes to a page that it shares with several children, the kernel makes one copy, for the writer.
/// Each child no longer shares the page with its parent, and goes on sharing the old page with the other children. So
/// the page counts as copied in each child, but in their sum it must count once. Two children share a page if neither
/// has it alone and, if the kernel tells page frame numbers, these are equal. If it does not, children that were forked
/// before and after a first write to the page are taken to share a page.
///
/// Cost: looks at the pages of 2 MiB chunks in which at least two of the children have copies.
/// Pre:  all of them were forked from the same process, and were looked at one after the other.
void count_sibling_copies(std::span<const CountedProcess> children);

}  // namespace vmcow::meter
