// The first program of the README: a gigabyte passed by value to a function in another process.
#include <fmt/core.h>

#include <cstdio>
#include <numeric>
#include <span>
#include <utility>

#include "procrun/fork_call.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/view.hpp"

int main() {
    vmcow::Arena arena({.name = "numbers"});
    std::span<long> numbers = arena.allocate_array<long>(std::size_t{1} << 27);  // 1 GiB, in huge pages
    std::iota(numbers.begin(), numbers.end(), 0L);
    vmcow::Snapshot frozen = std::move(arena).freeze();  // sealed: it never changes again

    vmcow::View mine = frozen.map_private();                        // by value: one mmap, nothing copied
    auto result = procrun::fork_call([&] {                          // in a process of its own
        mine.as<long>()[7] = 1'000'000;                             // its own copy: the kernel copies one page
        return std::make_pair(mine.as<long>()[7], mine.capture());  // only what changed comes back
    });
    if (!result.ok()) {
        fmt::print(stderr, "{}\n", result.outcome().describe());
        return 1;
    }
    auto [seven, changed] = result.value();
    fmt::print("there: {}, here: {}, copied: {} page of {}, in the new value: {}\n", seven, mine.as<long>()[7],
               result.cost().copied.value_or(vmcow::PageCount{}).value, frozen.page_count().value,
               changed.map_private().as<long>()[7]);
    return 0;
}
