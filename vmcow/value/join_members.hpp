#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <typeindex>
#include <utility>
#include <vector>

#include "vmcow/image/type_members.hpp"
#include "vmcow/value/container_access.hpp"

namespace vmcow {

/// The first place where two sides have changed the same to something different, and no rule decides between them.
struct MemberConflict {
    std::string place;  ///< as in "member 1, element 7"
    std::size_t first_side = 0;
    std::size_t second_side = 0;

    /// One line: "member 1, element 7: side 0 and side 2 have changed it to different values".
    [[nodiscard]] std::string describe() const {
        return place + ": side " + std::to_string(first_side) + " and side " + std::to_string(second_side) +
               " have changed it to different values";
    }
};

namespace detail {

template <class M>
using Sides = std::span<const M* const>;
using MaybeConflict = std::optional<MemberConflict>;

/// One thing in the base, on each side and in the result, which begins as the base. nullptr stands for a thing that is
/// not there.
template <class M>
class ThreeWay {
public:
    ThreeWay(const M* base, Sides<M> sides) : base_(base), sides_(sides) {
        for (std::size_t i = 0; i < sides.size(); ++i) {
            if (!is_same(base_, sides_[i])) changed_.push_back(i);
        }
    }

    [[nodiscard]] bool is_changed() const noexcept { return !changed_.empty(); }
    [[nodiscard]] std::size_t changed_sides() const noexcept { return changed_.size(); }
    /// The first side that has changed it. Pre: is_changed().
    [[nodiscard]] std::size_t first() const noexcept { return changed_.front(); }
    /// What the sides have changed it to. Pre: is_changed(), and there is no conflict.
    [[nodiscard]] const M* winner() const noexcept { return sides_[first()]; }
    [[nodiscard]] MaybeConflict conflict(const std::string& place) const {
        for (const std::size_t other : changed_) {
            if (!is_same(winner(), sides_[other])) return MemberConflict{place, first(), other};
        }
        return std::nullopt;
    }

private:
    static bool is_same(const M* a, const M* b) {
        if (a == nullptr || b == nullptr) return a == b;
        return is_same_value(*a, *b);
    }

    const M* base_;
    Sides<M> sides_;
    std::vector<std::size_t> changed_;
};

/// A thing that no rule is about: at most one change is possible.
template <class M>
MaybeConflict merge_whole(M& result, const M& base, Sides<M> sides, const std::string& place) {
    const ThreeWay<M> all(&base, sides);
    if (!all.is_changed()) return std::nullopt;
    if (auto conflict = all.conflict(place)) return conflict;
    result = *all.winner();
    return std::nullopt;
}

/// The elements of the base place by place, and behind them what each side has appended.
template <Sequence C>
MaybeConflict merge_appended(C& result, const C& base, Sides<C> sides, const std::string& place) {
    const ThreeWay<C> whole(&base, sides);
    if (!whole.is_changed()) return std::nullopt;
    const auto is_shorter = [&](const C* side) { return side->size() < base.size(); };
    const bool shorter = std::any_of(sides.begin(), sides.end(), is_shorter);
    if (shorter || whole.changed_sides() == 1) {
        if (auto conflict = whole.conflict(place + ", where elements were removed")) return conflict;
        result = *whole.winner();
        return std::nullopt;
    }
    using Element = typename C::value_type;
    std::vector<decltype(base.begin())> at;
    for (const C* side : sides) at.push_back(side->begin());
    std::vector<const Element*> elements(sides.size());
    std::size_t index = 0;
    for (const Element& below : base) {
        for (std::size_t i = 0; i < sides.size(); ++i) elements[i] = &*at[i]++;
        const ThreeWay<Element> each(&below, elements);
        if (each.is_changed()) {
            if (auto conflict = each.conflict(place + ", element " + std::to_string(index))) return conflict;
            set_element(result, index, *each.winner());
        }
        ++index;
    }
    for (std::size_t i = 0; i < sides.size(); ++i) {
        for (; at[i] != sides[i]->end(); ++at[i]) append_element(result, *at[i]);
    }
    return std::nullopt;
}

/// What each side has put in, changed or erased, key by key.
template <KeyedContainer C>
MaybeConflict merge_by_key(C& result, const C& base, Sides<C> sides, const std::string& place) {
    std::vector<const MappedOf<C>*> mapped(sides.size());
    /// Joins one key, unless an earlier side than `side` has changed it: then it is joined already.
    const auto join = [&](const KeyOf<C>& key, std::size_t side) -> MaybeConflict {
        for (std::size_t i = 0; i < sides.size(); ++i) mapped[i] = find_mapped(*sides[i], key);
        const ThreeWay<MappedOf<C>> each(find_mapped(base, key), mapped);
        if (!each.is_changed() || each.first() != side) return std::nullopt;
        if (auto conflict = each.conflict(place + ", key" + text_of_key(key))) return conflict;
        if (each.winner() == nullptr) {
            erase_key(result, key);
        } else {
            set_mapped(result, key, *each.winner());
        }
        return std::nullopt;
    };
    for (std::size_t side = 0; side < sides.size(); ++side) {
        for (const auto& entry : *sides[side]) {
            if (auto conflict = join(key_of(entry), side)) return conflict;
        }
        for (const auto& entry : base) {
            if (find_mapped(*sides[side], key_of(entry)) != nullptr) continue;
            if (auto conflict = join(key_of(entry), side)) return conflict;
        }
    }
    return std::nullopt;
}

/// base + Σ (side − base). Integers wrap around.
template <class N>
requires std::is_arithmetic_v<N>
void merge_sum(N& result, const N& base, Sides<N> sides) {
    if constexpr (std::is_floating_point_v<N>) {
        for (const N* side : sides) result += *side - base;
    } else {
        using Wrapping = std::make_unsigned_t<N>;
        auto sum = static_cast<Wrapping>(base);
        for (const N* side : sides) {
            sum = static_cast<Wrapping>(sum + static_cast<Wrapping>(*side) - static_cast<Wrapping>(base));
        }
        result = static_cast<N>(sum);
    }
}

/// What a rule is about, found by its place in the result.
struct RulePlace {
    const void* address;
    std::type_index type;
    bool operator==(const RulePlace&) const = default;
};

/// Joins values of T: member by member, as far as members can be seen, and by rules where there are some.
template <class T>
class MemberMerge {
public:
    struct Rule {
        std::function<RulePlace(T&)> locate;
        std::function<MaybeConflict(T& result, const T& base, Sides<T> sides, const std::string& place)> join;
    };

    explicit MemberMerge(std::span<const Rule> rules) : rules_(rules), used_(rules.size()) {}

    /// Pre: `result` is a copy of `base`.
    MaybeConflict run(T& result, const T& base, Sides<T> sides) {
        for (const Rule& rule : rules_) places_.push_back(rule.locate(result));
        const auto join = [&](std::size_t rule, const std::string& place) {
            return rules_[rule].join(result, base, sides, place);
        };
        return walk(result, base, sides, "", join);
    }
    /// The first rule that is about nothing in the value; nullopt when there is none. Pre: `run` found no conflict.
    [[nodiscard]] std::optional<std::size_t> unused_rule() const {
        for (std::size_t i = 0; i < used_.size(); ++i) {
            if (!used_[i]) return i;
        }
        return std::nullopt;
    }

private:
    template <class M, class Join>
    MaybeConflict walk(M& result, const M& base, Sides<M> sides, const std::string& place, const Join& join) {
        const std::string name = place.empty() ? "the value" : place;
        for (std::size_t i = 0; i < rules_.size(); ++i) {
            if (used_[i] || places_[i] != RulePlace{&result, typeid(M)}) continue;
            used_[i] = true;
            return join(i, name);
        }
        if constexpr (std::is_array_v<M>) {
            return walk_elements(result, base, sides, place, join);
        } else if constexpr (HasVisibleMembers<M>) {
            return walk_members(result, base, sides, place, join);
        } else {
            return merge_whole(result, base, sides, name);
        }
    }

    template <class M, class Join>
    MaybeConflict walk_elements(M& result, const M& base, Sides<M> sides, const std::string& place, const Join& join) {
        using Element = std::remove_extent_t<M>;
        std::vector<const Element*> elements(sides.size());
        for (std::size_t at = 0; at < std::extent_v<M>; ++at) {
            for (std::size_t i = 0; i < sides.size(); ++i) elements[i] = &(*sides[i])[at];
            const std::string inner = within(place, "element ", at);
            if (auto conflict = walk<Element>(result[at], base[at], elements, inner, join)) return conflict;
        }
        return std::nullopt;
    }

    template <class M, class Join>
    MaybeConflict walk_members(M& result, const M& base, Sides<M> sides, const std::string& place, const Join& join) {
        const auto pointers = [](auto& object) {
            return with_members(object, [](auto&... members) { return std::tuple(&members...); });
        };
        using Pointers = decltype(pointers(base));
        std::vector<Pointers> of_sides;
        for (const M* side : sides) of_sides.push_back(pointers(*side));
        const auto to = pointers(result);
        const Pointers from = pointers(base);
        MaybeConflict conflict;
        const auto one = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
            using Member = std::remove_cvref_t<decltype(*std::get<I>(from))>;
            std::vector<const Member*> members;
            for (const Pointers& side : of_sides) members.push_back(std::get<I>(side));
            conflict = walk<Member>(*std::get<I>(to), *std::get<I>(from), members, within(place, "member ", I), join);
            return !conflict;
        };
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            static_cast<void>((one(std::integral_constant<std::size_t, I>()) && ...));
        }
        (std::make_index_sequence<std::tuple_size_v<Pointers>>());
        return conflict;
    }

    static std::string within(const std::string& place, const char* what, std::size_t at) {
        return (place.empty() ? "" : place + ", ") + what + std::to_string(at);
    }

    std::span<const Rule> rules_;
    std::vector<RulePlace> places_;
    std::vector<bool> used_;
};

}  // namespace detail
}  // namespace vmcow
