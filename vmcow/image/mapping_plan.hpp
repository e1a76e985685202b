#pragma once

#include <cstddef>
#include <vector>

#include "vmcow/image/delta.hpp"
#include "vmcow/image/page_tree.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// How the pages of a tree get into a mapping of the base: a long run is a mapping of its block, a page of a short run
/// is copied into place, which costs less than a mapping.
///
///     base     [0][1][2][3][4][5][6][7] …      one mapping of the base's memfd, private
///     block a     [1][2][3]             …      a long run: a mapping of the block's file over it
///     block b           [3]      [6]    …      short runs: copied into place
///
/// Immutable. Cost: 40 bytes a run.
class MappingPlan {
public:
    /// Runs past this number are copied, however long they are: vm.max_map_count is 65 530 for the whole process.
    static constexpr std::size_t kMaxMappedRuns = 256;

    /// Pre:    the tree outlives the plan.
    /// Throws: std::bad_alloc.
    explicit MappingPlan(const PageTree& tree);

    /// Puts all pages into the private mapping of the base at `address`. Returns 0 or the errno. Async-signal-safe.
    /// Cost: a mapping for each long run, a page copy for each page of a short one.
    [[nodiscard]] int apply(std::byte* address) const noexcept;
    /// The pages that `apply` copies, ascending. They are private from the start, although nobody wrote to them.
    [[nodiscard]] const std::vector<PageRun>& placed() const noexcept { return placed_; }

private:
    /// Neighbouring pages that lie one after the other in one block.
    struct Piece {
        PageRun run;
        PageIndex stored;
        const Delta* block;
        bool mapped;
    };

    void add_page(PageIndex page, const PageTree::Place& place);
    void choose_mapped();

    std::vector<Piece> pieces_;  // ascending, disjoint
    std::vector<PageRun> placed_;
};

}  // namespace vmcow
