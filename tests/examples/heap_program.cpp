// Structures that share in the heap: copies are O(1), what nobody shares is changed in place.
#include <fmt/core.h>

#include <cstdio>
#include <exception>
#include <utility>

#include "vmcow/heap/list.hpp"
#include "vmcow/heap/map.hpp"
#include "vmcow/heap/string.hpp"

namespace {

namespace heap = vmcow::heap;

void run() {
    using Numbers = heap::list<long, heap::Options{.counted = true}>;
    Numbers a;
    for (long i = 0; i < 1'000'000; ++i) a = std::move(a).push(i);  // in place
    heap::counters() = {};
    Numbers b = a;                // O(1)
    a = std::move(a).set(7, 70);  // copies, once: b stays
    a = std::move(a).set(8, 80);  // in place
    auto tail = b.slice(999'990, 10).reverse().to_list();
    const heap::Counters counts = heap::counters();
    fmt::print("{} {} {}, copies: {}, {} bytes\n", a[7], b[7], tail[0], counts.copies, counts.copied_bytes);

    heap::map<heap::string, Numbers> rows{{"first", tail.take(2)}, {"all", b}};
    const auto before = rows;
    rows = std::move(rows).update("first", [](Numbers& row) { row = std::move(row).push(5); }).remove("all");
    fmt::print("{} of {} rows, {} {}\n", rows.size(), before.size(), rows["first"].size(), before["first"].size());
}

}  // namespace

int main() {
    try {
        run();
        return 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "heap_program: %s\n", error.what()));
        return 1;
    }
}
