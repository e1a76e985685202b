#include "vmcow/merge/merge_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

/// Calls `call` with a T{}, T being the type that `element` stands for.
template <class Call>
auto with_type(ElementType element, Call&& call) {
    switch (element) {
        case ElementType::i8:
            return call(std::int8_t{});
        case ElementType::i16:
            return call(std::int16_t{});
        case ElementType::i32:
            return call(std::int32_t{});
        case ElementType::i64:
            return call(std::int64_t{});
        case ElementType::u8:
            return call(std::uint8_t{});
        case ElementType::u16:
            return call(std::uint16_t{});
        case ElementType::u32:
            return call(std::uint32_t{});
        case ElementType::u64:
            return call(std::uint64_t{});
        case ElementType::f32:
            return call(float{});
        case ElementType::f64:
            break;
    }
    VMCOW_ASSERT(element == ElementType::f64);
    return call(double{});
}

template <class T>
T load(const std::byte* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

template <class T>
T sum_of(const std::byte* base, std::span<const std::byte* const> sides) noexcept {
    // Integers are added in 64 unsigned bits, because signed ones must not overflow; what is cut off at the end is a
    // multiple of 2^n.
    using Sum = std::conditional_t<std::is_integral_v<T>, std::uint64_t, T>;
    // NOLINTNEXTLINE(bugprone-signed-char-misuse): the sign is to be extended.
    const auto widened = [](const std::byte* at) { return static_cast<Sum>(load<T>(at)); };
    const Sum below = widened(base);
    Sum changes{};
    for (const std::byte* side : sides) changes += widened(side) - below;
    return static_cast<T>(below + changes);
}

template <class T, class Better>
T best_of(std::span<const std::byte* const> sides, Better better) noexcept {
    T best = load<T>(sides.front());
    for (const std::byte* side : sides.subspan(1)) {
        const T other = load<T>(side);
        bool replace = better(other, best);
        if constexpr (std::is_floating_point_v<T>) replace = replace || std::isnan(best);
        if (replace) best = other;
    }
    return best;
}

template <class T>
T joined(MergeBy by, const std::byte* base, std::span<const std::byte* const> sides) noexcept {
    switch (by) {
        case MergeBy::sum:
            return sum_of<T>(base, sides);
        case MergeBy::min:
            return best_of<T>(sides, std::less<T>());
        case MergeBy::max:
            return best_of<T>(sides, std::greater<T>());
        case MergeBy::last_wins:
            break;
    }
    VMCOW_ASSERT(by == MergeBy::last_wins);
    return load<T>(sides.back());
}

[[noreturn]] void reject(const MergeRule& rule, const std::string& why) {
    throw std::invalid_argument(fmt::format("merge rule for {}: {}", to_string(rule.range), why));
}

void check(const MergeRule& rule) {
    const std::size_t each = element_bytes(rule.element);
    if (rule.range.bytes == 0) reject(rule, "it is empty");
    if (rule.range.bytes > std::numeric_limits<std::uint64_t>::max() - rule.range.offset) {
        reject(rule, "it ends past the last offset there is");
    }
    if (rule.range.offset % each != 0 || rule.range.bytes % each != 0) {
        reject(rule, fmt::format("it is not of aligned elements of {} bytes", each));
    }
}

}  // namespace

MergeRules::MergeRules(std::vector<MergeRule> rules) : rules_(std::move(rules)) {
    for (const MergeRule& rule : rules_) check(rule);
    std::sort(rules_.begin(), rules_.end(),
              [](const MergeRule& a, const MergeRule& b) { return a.range.offset < b.range.offset; });
    const auto clash = std::adjacent_find(rules_.begin(), rules_.end(), [](const MergeRule& a, const MergeRule& b) {
        return b.range.offset < a.range.end();
    });
    if (clash != rules_.end())
        reject(*std::next(clash), fmt::format("it overlaps that for {}", to_string(clash->range)));
}

std::span<const MergeRule> MergeRules::within(const ByteRange& range) const noexcept {
    const auto first = std::partition_point(rules_.begin(), rules_.end(),
                                            [&](const MergeRule& rule) { return rule.range.end() <= range.offset; });
    const auto last = std::partition_point(first, rules_.end(),
                                           [&](const MergeRule& rule) { return rule.range.offset < range.end(); });
    return {first, last};
}

std::size_t element_bytes(ElementType element) noexcept {
    return with_type(element, [](auto value) { return sizeof(value); });
}

void join_element(const MergeRule& rule, const std::byte* base, std::span<const std::byte* const> sides,
                  std::byte* result) noexcept {
    with_type(rule.element, [&](auto type) {
        const auto value = joined<decltype(type)>(rule.by, base, sides);
        std::memcpy(result, &value, sizeof(value));
    });
}

std::string to_string(const ByteRange& range) { return fmt::format("bytes {} to {}", range.offset, range.end()); }

}  // namespace vmcow
