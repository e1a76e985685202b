// Structures that share memory in the heap: a copy is O(1), and a structure that is not shared is changed in place.
#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <system_error>
#include <utility>

#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/string.hpp"

namespace {

namespace heap = vmcow::heap;

void run() {
    using Numbers = heap::list<long, heap::Options{.counted = true}>;
    Numbers a;
    for (long i = 0; i < 1'000'000; ++i) a.push_in_place(i);
    heap::counters() = {};
    Numbers b = a;                // O(1)
    a.set_in_place(7, 70);        // copies, once: b stays
    a.set_in_place(8, 80);        // in place
    a = std::move(a).set(8, 81);  // the same, in a form that chains
    auto tail = b.slice(999'990, 10).reverse().to_list();
    const heap::Counters counts = heap::counters();
    fmt::print("{} {} {}, copies: {}, {} bytes\n", a[7], b[7], tail[0], counts.copies, counts.copied_bytes);

    heap::map<heap::string, Numbers> rows{{"first", tail.take(2)}, {"all", b}};
    const auto before = rows;
    rows.update_in_place("first", [](Numbers& row) { row.push_in_place(5); });
    rows.remove_in_place("all");
    fmt::print("{} of {} rows, {} {}\n", rows.size(), before.size(), rows["first"].size(), before["first"].size());
}

}  // namespace

int main() {
    try {
        run();
        if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "standard output");
        return 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "heap_program: %s\n", error.what()));
        return 1;
    }
}
