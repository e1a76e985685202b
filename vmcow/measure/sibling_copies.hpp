#pragma once

#include <span>

#include "vmcow/measure/watch_sample.hpp"
#include "vmcow/measure/watched_process.hpp"

namespace vmcow::measure {

/// A process, and what has just been counted of it.
struct CountedProcess {
    const WatchedProcess* process = nullptr;
    ProcessSample* sample = nullptr;
};

/// Finds the copies that children of one process have in common, and counts them in PageFigures::copied_with_sibling of
/// all children but the first.
///
/// When a process writes to a page that it shares with several children, one copy is made, for itself; each child has
/// parted with it all the same, and goes on sharing the old page with the others. So the page counts as copied in each
/// of them, and in their sum it must count once. Children share a page if neither has it alone, and, where the kernel
/// tells the pages' numbers, if these are the same; where it does not, children that were forked before and after a
/// first write to the page are taken to share one.
///
/// Cost: looks at the pages of 2 MiB chunks in which at least two of the children have copies.
/// Pre:  all of them were forked from the same process, and were looked at one after the other.
void count_sibling_copies(std::span<const CountedProcess> children);

}  // namespace vmcow::measure
