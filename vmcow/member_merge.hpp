#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <typeindex>
#include <utility>
#include <variant>
#include <vector>

#include "vmcow/value.hpp"
#include "vmcow/value/join_members.hpp"

namespace vmcow {

/// How the members of a T are joined that several sides have changed:
///
///     vmcow::MemberRules<Doc>()
///         .append(&Doc::lines)                                        // a sequence
///         .unite(&Doc::prices)                                        // a map or set
///         .sum([](auto& doc) -> auto& { return doc.totals.visits; })  // a number, anywhere in the value
///
/// A rule names its member by a pointer to it, or by a function that returns a reference to it. Without an argument the
/// rule is about the whole value.
template <class T>
class MemberRules {
public:
    using Rule = typename detail::MemberMerge<T>::Rule;

    /// What each side has appended comes one after the other, in the order of the sides, also where it is the same. The
    /// elements of the base are compared place by place. Where a side has removed elements, no other may have changed
    /// the sequence to something else.
    template <class Member = std::identity>
    MemberRules& append(Member member = {}) {
        return add(member, [](auto& result, const auto& base, auto sides, const std::string& place) {
            using M = std::remove_cvref_t<decltype(base)>;
            static_assert(detail::Sequence<M>, "append is for a vector, list, deque, string or array in blocks");
            return detail::merge_appended<M>(result, base, sides, place);
        });
    }
    /// Keys that sides have put in, changed or erased are so in the result. What one key has is not joined further.
    template <class Member = std::identity>
    MemberRules& unite(Member member = {}) {
        return add(member, [](auto& result, const auto& base, auto sides, const std::string& place) {
            using M = std::remove_cvref_t<decltype(base)>;
            static_assert(detail::KeyedContainer<M>, "unite is for a map or a set");
            return detail::merge_by_key<M>(result, base, sides, place);
        });
    }
    /// base + Σ (side − base). Integers wrap around; the result of floating-point numbers depends on the order.
    template <class Member = std::identity>
    MemberRules& sum(Member member = {}) {
        return add(member, [](auto& result, const auto& base, auto sides, const std::string& /*place*/) {
            using M = std::remove_cvref_t<decltype(base)>;
            static_assert(std::is_arithmetic_v<M> && !std::is_same_v<M, bool>, "sum is for numbers");
            detail::merge_sum<M>(result, base, sides);
            return detail::MaybeConflict();
        });
    }

    [[nodiscard]] const std::vector<Rule>& all() const noexcept { return rules_; }

private:
    template <class Member, class Join>
    MemberRules& add(Member member, Join join) {
        using M = std::remove_cvref_t<std::invoke_result_t<Member&, T&>>;
        static_assert(std::is_reference_v<std::invoke_result_t<Member&, const T&>>,
                      "a rule's function returns a reference to the member");
        Rule rule;
        rule.locate = [member](T& value) { return detail::RulePlace{&std::invoke(member, value), typeid(M)}; };
        rule.join = [member, join](T& result, const T& base, detail::Sides<T> sides, const std::string& place) {
            std::vector<const M*> members;
            for (const T* side : sides) members.push_back(&std::invoke(member, *side));
            return join(std::invoke(member, result), std::invoke(member, base), detail::Sides<M>(members), place);
        };
        rules_.push_back(std::move(rule));
        return *this;
    }

    std::vector<Rule> rules_;
};

/// The result of joining values by their members: a value, or a conflict.
template <class T>
class MergedMembers {
public:
    explicit MergedMembers(Value<T> merged) : outcome_(std::move(merged)) {}
    explicit MergedMembers(MemberConflict conflict) : outcome_(std::move(conflict)) {}

    [[nodiscard]] bool ok() const noexcept { return std::holds_alternative<Value<T>>(outcome_); }
    /// Pre: ok().
    [[nodiscard]] const Value<T>& value() const& { return std::get<Value<T>>(outcome_); }
    [[nodiscard]] Value<T> value() && { return std::get<Value<T>>(std::move(outcome_)); }
    /// Pre: !ok().
    [[nodiscard]] const MemberConflict& conflict() const { return std::get<MemberConflict>(outcome_); }

private:
    std::variant<Value<T>, MemberConflict> outcome_;
};

/// Joins what several processes have changed in copies of `base`, member by member. `merge` compares bytes; this looks
/// at what containers hold, not at where that lies, so that several processes may have made room.
///
/// A member, or an element of an array, that one side alone has changed is as on that side. One that several sides have
/// changed, not all to the same, is joined by the rule that names it; where there is none, that is a conflict.
///
///     auto joined = vmcow::merge_members(log, {a, b}, vmcow::MemberRules<Log>().append(&Log::lines));
///     log = std::move(joined).value();
///
/// Throws: std::invalid_argument -- a rule is about nothing that is a member, or about a member of a ruled member;
///         std::system_error -- as `Value::edit`; what copying elements throws.
/// Cost:   reads the members of all sides; a map or set takes a look-up for each key on each side. The result is a copy
///         of `base` in which the changes are made.
template <class T>
[[nodiscard]] MergedMembers<T> merge_members(const Value<T>& base, const std::vector<Value<T>>& sides,
                                             const MemberRules<T>& rules = {}) {
    std::vector<const T*> objects;
    objects.reserve(sides.size());
    for (const Value<T>& side : sides) objects.push_back(&side.read());
    Value<T> result = base;
    detail::MemberMerge<T> merge(rules.all());
    detail::MaybeConflict conflict;
    result.edit([&](T& object) { conflict = merge.run(object, base.read(), objects); });
    if (conflict) return MergedMembers<T>(*std::move(conflict));
    if (const auto unused = merge.unused_rule()) {
        throw std::invalid_argument("merge: rule " + std::to_string(*unused) + " is about no member of the value");
    }
    return MergedMembers<T>(std::move(result));
}

}  // namespace vmcow
