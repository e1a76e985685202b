#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmcow/merge/merge_rules.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// The three-way join of pages, one at a time. Where the sides differ from the base, it goes by blocks of 64 bytes.
class PageJoin {
public:
    /// The byte `at` of the page, which the sides `first` and `second` changed to different values.
    struct Clash {
        std::size_t at = 0;
        std::size_t first = 0;
        std::size_t second = 0;
    };

    /// Pre: `rules` outlive this object.
    explicit PageJoin(const MergeRules& rules) : rules_(rules) {}

    /// Joins page `index` of `sides` into `page()`. Returns the first byte on which two sides clash, if there is one.
    [[nodiscard]] std::optional<Clash> join(PageIndex index, const std::byte* base,
                                            std::span<const std::byte* const> sides);
    /// The joined page, valid until the next join.
    [[nodiscard]] const std::byte* page() const noexcept { return page_.data(); }
    /// Elements under a rule that several sides changed, in all joins so far.
    [[nodiscard]] std::uint64_t elements_joined() const noexcept { return elements_joined_; }

private:
    struct Block;

    [[nodiscard]] std::uint64_t apply_rules(const Block& block);
    void join_elements(const Block& block, const MergeRule& rule, std::size_t first, std::size_t end);
    [[nodiscard]] std::optional<Clash> take_bytes(const Block& block, std::uint64_t ruled);

    alignas(64) std::array<std::byte, kPageBytes> page_{};
    const MergeRules& rules_;
    std::uint64_t elements_joined_ = 0;
    std::vector<std::uint64_t> changed_;             // for each side, the mask of the bytes that it changed in a block
    std::vector<const std::byte*> changed_element_;  // where the sides that changed an element have it
};

}  // namespace vmcow
