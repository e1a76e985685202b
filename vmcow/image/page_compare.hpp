#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmcow/page_changes.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// How many bytes of two pages differ.
/// Cost: one memcmp if none differs.
[[nodiscard]] std::uint64_t differing_bytes(const std::byte* a, const std::byte* b) noexcept;

/// Counts `runs` as copied pages of the image at `now`, and compares each page with `before(page)`, the page that it
/// was copied from.
template <class Before>
[[nodiscard]] PageChanges compare_runs(const std::vector<PageRun>& runs, const std::byte* now, Before&& before) {
    PageChanges changes;
    for (const PageRun& run : runs) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
            const std::uint64_t bytes = differing_bytes(now + page.byte_offset(), before(page));
            changes += {{1}, {bytes == 0 ? 1u : 0u}, bytes};
        }
    }
    VMCOW_ASSERT(changes.identical <= changes.copied && "I6: a page that was not copied is counted as identical");
    return changes;
}

/// The pages of `runs` that are not in `without`.
/// Pre: both are ascending and disjoint.
[[nodiscard]] std::vector<PageRun> subtract(const std::vector<PageRun>& runs, const std::vector<PageRun>& without);

}  // namespace vmcow
