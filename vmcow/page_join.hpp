#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmcow/merge_rules.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// The three-way join of one page at a time, 64 bytes at a time where the sides differ from the base.
class PageJoin {
public:
    /// The byte of the page that two of the sides made different things of.
    struct Clash {
        std::size_t at = 0;
        std::size_t first = 0;
        std::size_t second = 0;
    };

    /// `rules` must outlive this.
    explicit PageJoin(const MergeRules& rules) : rules_(rules) {}

    /// Joins the `sides` of page `index` into `page()`, or says where that fails first.
    [[nodiscard]] std::optional<Clash> join(PageIndex index, const std::byte* base,
                                            std::span<const std::byte* const> sides);
    /// Valid until the next join.
    [[nodiscard]] const std::byte* page() const noexcept { return page_.data(); }
    /// Elements under a rule that several sides changed, of all joins so far.
    [[nodiscard]] std::uint64_t elements_joined() const noexcept { return elements_joined_; }

private:
    struct Block;

    [[nodiscard]] std::uint64_t apply_rules(const Block& block);
    void join_elements(const Block& block, const MergeRule& rule, std::size_t first, std::size_t end);
    [[nodiscard]] std::optional<Clash> take_bytes(const Block& block, std::uint64_t ruled);

    alignas(64) std::array<std::byte, kPageBytes> page_{};
    const MergeRules& rules_;
    std::uint64_t elements_joined_ = 0;
    std::vector<std::uint64_t> changed_;             // of the block at hand, for each side
    std::vector<const std::byte*> changed_element_;  // where the sides have an element that they changed
};

}  // namespace vmcow
