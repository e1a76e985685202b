#pragma once

#include <utility>

#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/ordered_map.hpp"
#include "vmcow/heap/set.hpp"
#include "vmcow/heap/string.hpp"

namespace equivalence {

/// The structures of vmcow/heap with these options, in memory of that allocator.
template <vmcow::heap::Options kOptions, template <class> class Allocator>
struct Whole {
    using Entries = Allocator<std::pair<const long, long>>;

    using List = vmcow::heap::list<long, kOptions, Allocator<long>>;
    using Slice = vmcow::heap::slice<long, kOptions, Allocator<long>>;
    using Text = vmcow::heap::basic_string<kOptions, Allocator<char>>;
    using Map = vmcow::heap::map<long, long, kOptions, Entries>;
    using Ordered = vmcow::heap::ordered_map<long, long, kOptions, Entries>;
    using Set = vmcow::heap::set<long, kOptions, Allocator<long>>;
};

}  // namespace equivalence
