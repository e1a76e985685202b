#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "vmcow/diff.hpp"

namespace vmcow {

/// The type of the elements in a range of an image: integers by signedness and bits, IEEE 754 numbers by bits.
enum class ElementType { i8, i16, i32, i64, u8, u16, u32, u64, f32, f64 };

/// The element type of an array of T.
template <class T>
[[nodiscard]] constexpr ElementType element_type() {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> ||
                      (std::is_integral_v<T> && sizeof(T) <= sizeof(std::uint64_t)),
                  "a merge rule is for integers of 8 to 64 bits, float and double");
    if constexpr (std::is_floating_point_v<T>) return sizeof(T) == 4 ? ElementType::f32 : ElementType::f64;
    constexpr int kSize = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return static_cast<ElementType>(kSize + static_cast<int>(std::is_signed_v<T> ? ElementType::i8 : ElementType::u8));
}

/// What an element becomes that several sides changed. An element that one side alone changed is taken from that side
/// as it is.
enum class MergeBy {
    sum,        ///< base + Σ (side − base), the differences in the order of the sides; integers wrap around
    min,        ///< the least of the sides that changed it, whatever the base has; a NaN loses against a number
    max,        ///< the greatest of the sides that changed it, whatever the base has; a NaN loses against a number
    last_wins,  ///< the whole element of the last side that changed it
};

/// How the elements of one range are joined.
struct MergeRule {
    ByteRange range;
    ElementType element = ElementType::u8;
    MergeBy by = MergeBy::last_wins;
};

/// A rule for `count` objects of T, the first at `offset` of the image.
template <class T>
[[nodiscard]] constexpr MergeRule merge_rule(std::uint64_t offset, std::uint64_t count, MergeBy by) {
    return {{offset, count * sizeof(T)}, element_type<T>(), by};
}

/// Rules for disjoint ranges of an image, each of whole elements that are aligned to their size. So an element never
/// lies on two pages.
class MergeRules {
public:
    MergeRules() = default;
    /// Throws: std::invalid_argument -- an empty, misaligned or overlapping range, which the text names by its bytes.
    explicit MergeRules(std::vector<MergeRule> rules);

    /// All rules, their ranges ascending.
    [[nodiscard]] std::span<const MergeRule> all() const noexcept { return rules_; }
    /// The rules that have bytes in `range`. Cost: two binary searches.
    [[nodiscard]] std::span<const MergeRule> within(const ByteRange& range) const noexcept;

private:
    std::vector<MergeRule> rules_;
};

[[nodiscard]] std::size_t element_bytes(ElementType element) noexcept;

/// Joins one element that all of `sides` changed, and writes it to `result`.
/// Pre: at least two sides; `result` is none of them.
void join_element(const MergeRule& rule, const std::byte* base, std::span<const std::byte* const> sides,
                  std::byte* result) noexcept;

/// "bytes 8 to 16", for messages.
[[nodiscard]] std::string to_string(const ByteRange& range);

}  // namespace vmcow
