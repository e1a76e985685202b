#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "vmcow/merge_rules.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

struct MergeOptions {
    MergeRules rules = {};
    /// What the sides are called in a conflict, one name each; none at all for "side 0", "side 1" …
    std::vector<std::string> side_names = {};
};

/// The first place, from the image's start, where two sides made different bytes of the same ones and no rule says
/// what becomes of them.
struct MergeConflict {
    /// At most so many bytes of a conflict are kept.
    static constexpr std::size_t kMaxBytes = 16;

    /// One of the two who do not agree.
    struct Side {
        std::size_t index = 0;
        std::string name;
        std::vector<std::byte> bytes;
    };

    /// The name of the base's image.
    std::string image;
    std::uint64_t offset = 0;
    /// What lies there in the base: as many bytes as are in conflict from `offset` on, in one page.
    std::vector<std::byte> base_bytes;
    /// The first side that changed the byte at `offset`, and the first one after it that made another one of it.
    Side first;
    Side second;

    /// One line: "image 'index', byte 4711 in page 1: 'side 0' has 01 02, 'side 1' has 03 04, the base has 00 00".
    [[nodiscard]] std::string describe() const;
};

/// What it took to merge; up to the conflict if there is one.
struct MergeCounts {
    /// Pages that were compared with the base, of all sides.
    PageCount pages_compared;
    /// Pages that each side changed.
    std::vector<PageCount> pages_changed;
    /// Pages of the result that one side alone changed, and pages that were joined from several.
    PageCount pages_taken;
    PageCount pages_joined;
    /// Pages that were copied into the result: not the taken ones if the result is a side as it was.
    PageCount pages_copied;
    /// Elements under a rule that several sides changed.
    std::uint64_t elements_joined = 0;
};

/// What came of a merge: a snapshot or a conflict.
class MergeResult {
public:
    MergeResult(Snapshot merged, MergeCounts counts);
    MergeResult(MergeConflict conflict, MergeCounts counts);

    [[nodiscard]] bool ok() const noexcept { return std::holds_alternative<Snapshot>(outcome_); }
    /// Pre: ok().
    [[nodiscard]] const Snapshot& snapshot() const noexcept;
    /// Pre: !ok().
    [[nodiscard]] const MergeConflict& conflict() const noexcept;
    [[nodiscard]] const MergeCounts& counts() const noexcept { return counts_; }

private:
    std::variant<Snapshot, MergeConflict> outcome_;
    MergeCounts counts_;
};

/// Joins what several processes changed in copies of `base`, byte by byte: a byte that no side changed is the base's;
/// one that a side changed is that side's; one that several changed to the same is that; one that they made different
/// things of is a conflict. Under a rule the same holds for elements, and the rule decides instead of a conflict.
///
/// Shape:  the result is as long as the longest of all; bytes behind an extent count as zero. It is a relative of
///         `base`: one more delta, of the pages that differ (I6). Where nothing differs it is `base` itself, and where
///         one side did all the changes, that side itself. Without rules the order of the sides does not matter.
/// Throws: std::invalid_argument -- a rule that reaches past the result, or not one name for each side;
///         std::system_error -- EMFILE, ENOMEM. A conflict is a result.
/// Cost:   that of for_each_changed_page for each side; a page copy for each changed page; for one that several sides
///         changed, reading it twice on all of these. Memory, but for the result: some 40 bytes for each
///         page that a side changed, and one page.
[[nodiscard]] MergeResult merge(const Snapshot& base, const std::vector<Snapshot>& sides,
                                const MergeOptions& options = {});

}  // namespace vmcow
