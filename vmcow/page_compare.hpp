#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmcow/mapped_image.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// How many bytes of two pages differ. Cost: one memcmp when none does.
[[nodiscard]] std::uint64_t differing_bytes(const std::byte* a, const std::byte* b) noexcept;

/// Counts `runs` as copied pages of the image at `now` and compares each with `before(page)`, where it came from.
template <class Before>
[[nodiscard]] PageChanges compare_runs(const std::vector<PageRun>& runs, const std::byte* now, Before&& before) {
    PageChanges changes;
    for (const PageRun& run : runs) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
            const std::uint64_t bytes = differing_bytes(now + page.byte_offset(), before(page));
            changes += {{1}, {bytes == 0 ? 1u : 0u}, bytes};
        }
    }
    return changes;
}

/// The pages of `runs` that are not in `without`. Both are ascending and disjoint.
[[nodiscard]] std::vector<PageRun> subtract(const std::vector<PageRun>& runs, const std::vector<PageRun>& without);

}  // namespace vmcow
