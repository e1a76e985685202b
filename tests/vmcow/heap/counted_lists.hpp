#pragma once

#include "vmcow/heap/list.hpp"
#include "vmcow/heap/sharing.hpp"

/// Structures that count their copies, and a function that counts those of an action.
namespace tests {

inline constexpr vmcow::heap::Options kCounted{.counted = true};
using CountedList = vmcow::heap::list<long, kCounted>;
using CountedSlice = vmcow::heap::slice<long, kCounted>;

/// The copies and allocations that `action` makes.
template <class Action>
vmcow::heap::Counters counted(Action&& action) {
    vmcow::heap::counters() = {};
    action();
    return vmcow::heap::counters();
}

/// A list of 0, 1, 2 and so on.
[[nodiscard]] inline CountedList numbers(long count) {
    CountedList made;
    for (long i = 0; i < count; ++i) made.push_in_place(i);
    return made;
}

}  // namespace tests
