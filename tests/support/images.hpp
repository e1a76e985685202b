#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"
#include "vmcow/view.hpp"

namespace tests {

/// A set of page numbers, written as {1, 2, 5} in a test.
using Pages = std::set<std::uint64_t>;

[[nodiscard]] inline Pages pages_in(const std::vector<vmcow::PageRun>& runs) {
    Pages pages;
    for (const vmcow::PageRun& run : runs) {
        for (std::uint64_t page = run.first.value; page < run.end().value; ++page) pages.insert(page);
    }
    return pages;
}

/// Whether the runs ascend, none is empty, and none could be joined with the next one.
[[nodiscard]] inline bool is_maximal(const std::vector<vmcow::PageRun>& runs) {
    for (std::size_t i = 0; i < runs.size(); ++i) {
        if (runs[i].count.value == 0) return false;
        if (i > 0 && runs[i].first <= runs[i - 1].end()) return false;
    }
    return true;
}

[[nodiscard]] inline vmcow::Arena arena_of(std::span<const std::byte> content, vmcow::ArenaOptions options = {}) {
    vmcow::Arena arena(std::move(options));
    arena.append(content);
    return arena;
}

[[nodiscard]] inline vmcow::Snapshot snapshot_of(std::span<const std::byte> content, vmcow::ArenaOptions options = {}) {
    return arena_of(content, std::move(options)).freeze();
}

/// A snapshot of `pages` pages of zeros, which take no memory until they are read.
[[nodiscard]] inline vmcow::Snapshot zeros(std::size_t pages) {
    vmcow::Arena arena({.pages = vmcow::PagePolicy::small});
    arena.allocate_sparse(pages * vmcow::kPageBytes);
    return std::move(arena).freeze();
}

/// Writes one byte in each of `pages`; `mark` must not be 0, or the page would not change.
inline void write_pages(vmcow::View& view, const Pages& pages, std::byte mark = std::byte{1}) {
    for (const std::uint64_t page : pages) view.bytes()[page * vmcow::kPageBytes + 17] = mark;
}

/// Writes to each of `pages` the byte that it already holds.
inline void touch_pages(vmcow::View& view, const Pages& pages) {
    for (const std::uint64_t page : pages) {
        volatile std::byte& byte = view.bytes()[page * vmcow::kPageBytes + 17];
        byte = byte;
    }
}

/// The pages from `first` to `first + count`, end excluded.
[[nodiscard]] inline Pages run_of(std::uint64_t first, std::uint64_t count) {
    Pages pages;
    for (std::uint64_t page = first; page < first + count; ++page) pages.insert(page);
    return pages;
}

[[nodiscard]] inline bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

[[nodiscard]] inline std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
    return {bytes.begin(), bytes.end()};
}

}  // namespace tests
