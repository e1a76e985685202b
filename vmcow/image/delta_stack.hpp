#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "vmcow/image/delta.hpp"
#include "vmcow/image/page_tree.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// The pages of a tree in a few deltas, one over the other, which is how another process gets them. Of several that
/// have a page, the newest one counts.
///
/// Immutable.
class DeltaStack {
public:
    /// One delta more than this is merged with those below instead of being stacked.
    static constexpr std::size_t kMaxDeltas = 4;
    /// The bytes of one page of the image that the stack is to show.
    using Content = std::function<const std::byte*(PageIndex)>;

    DeltaStack() = default;

    /// A stack of the pages of `wanted`, whose bytes `content` returns. The blocks of the tree themselves, if they are
    /// few. Otherwise this stack and a delta with what differs from it; at the largest depth, one delta takes the
    /// place of the newest ones that are not much larger than what is merged.
    /// Throws: std::system_error -- ENOMEM; std::bad_alloc.
    /// Cost:   a look at each page of the tree, or a copy of each page that differs.
    [[nodiscard]] DeltaStack leading_to(const PageTree& wanted, const Content& content) const;

    /// The oldest one first.
    [[nodiscard]] const std::vector<std::shared_ptr<const Delta>>& deltas() const noexcept { return deltas_; }

private:
    DeltaStack(std::vector<std::shared_ptr<const Delta>> deltas, PageTree tree);
    [[nodiscard]] static std::vector<std::shared_ptr<const Delta>> few_blocks_of(const PageTree& wanted);
    [[nodiscard]] std::size_t kept_below(std::size_t pages) const noexcept;

    std::vector<std::shared_ptr<const Delta>> deltas_;
    PageTree tree_;  // what the deltas show, in the blocks of the image that they were made of
};

/// One delta with what `to` has elsewhere than `from`: the block of these pages itself if there is one, else a copy in
/// the page store. nullptr where nothing differs.
/// Throws: std::system_error -- ENOMEM; std::bad_alloc.
[[nodiscard]] std::shared_ptr<const Delta> delta_between(const PageTree& from, const PageTree& to,
                                                         const DeltaStack::Content& content);

}  // namespace vmcow
