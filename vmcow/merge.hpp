#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "vmcow/merge/merge_rules.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

struct MergeOptions {
    MergeRules rules = {};
    /// The names of the sides in a conflict, one for each; empty for "side 0", "side 1" …
    std::vector<std::string> side_names = {};
};

/// The first place, from the image's start, where two sides changed the same bytes to different values and no rule
/// decides between them.
struct MergeConflict {
    /// At most this many bytes of a conflict are kept.
    static constexpr std::size_t kMaxBytes = 16;

    /// One of the two sides that disagree.
    struct Side {
        std::size_t index = 0;
        std::string name;
        std::vector<std::byte> bytes;
    };

    /// The name of the base's image.
    std::string image;
    std::uint64_t offset = 0;
    /// The bytes of the base: as many as are in conflict from `offset` on, within one page.
    std::vector<std::byte> base_bytes;
    /// The first side that changed the byte at `offset`.
    Side first;
    /// The first side after `first` that changed the byte at `offset` to another value.
    Side second;

    /// One line: "image 'index', byte 4711 in page 1: 'side 0' has 01 02, 'side 1' has 03 04, the base has 00 00".
    [[nodiscard]] std::string describe() const;
};

/// The work of a merge; up to the conflict if there is one.
struct MergeCounts {
    /// Pages that were compared with the base, of all sides.
    PageCount pages_compared;
    /// Pages that each side changed.
    std::vector<PageCount> pages_changed;
    /// Pages of the result that one side alone changed.
    PageCount pages_taken;
    /// Pages of the result that were joined from several sides.
    PageCount pages_joined;
    /// Pages that were copied into the result. Taken pages are not among them if the result is a side as it was.
    PageCount pages_copied;
    /// Elements under a rule that several sides changed.
    std::uint64_t elements_joined = 0;
};

/// The result of a merge: a snapshot, or a conflict.
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

/// Joins what several processes changed in copies of `base`, byte by byte. A byte that no side changed is the base's; a
/// byte that one side changed is that side's; a byte that several sides changed to one value has that value; a byte
/// that they changed to different values is a conflict. Under a rule this holds for elements instead of bytes, and the
/// rule decides instead of a conflict.
///
/// Shape:  the result is as long as the longest of `base` and the sides; bytes behind an extent count as zero. It is a
///         relative of `base`: one more block, of the pages that differ (I6). Where nothing differs it is `base`
///         itself; where one side made all the changes, it is that side. Without rules the order of the sides does not
///         matter.
/// Throws: std::invalid_argument -- a rule that reaches past the result, or not one name for each side;
///         std::system_error -- EMFILE, ENOMEM. A conflict is a result.
/// Cost:   that of for_each_changed_page for each side, and a page copy for each changed page. A page that several
///         sides changed is read twice on each of these sides. Memory besides the result: some 40 bytes for each page
///         that a side changed, and one page.
[[nodiscard]] MergeResult merge(const Snapshot& base, const std::vector<Snapshot>& sides,
                                const MergeOptions& options = {});

}  // namespace vmcow
