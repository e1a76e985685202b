#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/equivalence/program.hpp"

namespace equivalence {

/// The document of a program's variable, made of the structures of one family.
template <class F>
struct Document {
    using Family = F;

    typename F::List lists[2];
    typename F::Slice slice;
    typename F::Text texts[2];
    typename F::Map maps[2];
    typename F::Ordered ordered;
    typename F::Set sets[2];
};

// The content of structures, in an order that does not depend on how they are made.

template <class Elements>
void flatten_elements(const Elements& elements, Trace& into) {
    into.push_back(static_cast<long>(elements.size()));
    for (const auto& each : elements) into.push_back(static_cast<long>(each));
}
template <class Entries>
void flatten_entries(const Entries& entries, bool sorted, Trace& into) {
    std::vector<std::pair<long, long>> all;
    for (const auto& [key, value] : entries) all.emplace_back(key, value);
    if (sorted) std::ranges::sort(all);
    into.push_back(static_cast<long>(all.size()));
    for (const auto& [key, value] : all) into.insert(into.end(), {key, value});
}
/// The entries of an ordered map, or a row that it makes of them.
template <class Ordered>
decltype(auto) in_order(const Ordered& ordered) {
    if constexpr (requires { ordered.sorted(); }) {
        return ordered.sorted();
    } else {
        return (ordered);
    }
}
template <class Set>
std::vector<long> values_of(const Set& set) {
    if constexpr (requires { set.values(); }) {
        return set.values();
    } else {
        return {set.begin(), set.end()};
    }
}
template <class F>
Trace flatten(const Document<F>& document) {
    Trace flat;
    for (const auto& list : document.lists) flatten_elements(list, flat);
    flatten_elements(document.slice, flat);
    for (const auto& text : document.texts) flatten_elements(text.view(), flat);
    for (const auto& map : document.maps) flatten_entries(map, true, flat);
    flatten_entries(in_order(document.ordered), false, flat);
    for (const auto& set : document.sets) {
        std::vector<long> all = values_of(set);
        std::ranges::sort(all);
        flatten_elements(all, flat);
    }
    return flat;
}
/// One number for the whole content.
template <class F>
long digest(const Document<F>& document) {
    std::uint64_t sum = 14'695'981'039'346'656'037U;
    for (const long each : flatten(document)) sum = (sum ^ static_cast<std::uint64_t>(each)) * 1'099'511'628'211U;
    return static_cast<long>(sum);
}

/// Whether a list and a slice hold equal elements. Uses their own operators from both sides, where they exist.
template <class A, class B>
bool are_equal(const A& a, const B& b) {
    if constexpr (requires { a == b; }) {
        return a == b && b == a && !(a != b);
    } else {
        return std::equal(a.begin(), a.end(), b.begin(), b.end());
    }
}
template <class A, class B>
bool is_less(const A& a, const B& b) {
    if constexpr (requires { a < b; }) {
        return a < b && b > a && (a <=> b) < 0;
    } else {
        return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
    }
}

/// Two forms of an operation for `Operator::become`: the value form, and the in-place form, which returns whether it
/// exists. The structures of vmcow/heap have every in-place form.
#define EQUIVALENCE_FORMS(operation, ...)                                                                \
    [&](auto&& x) { return std::forward<decltype(x)>(x).operation(__VA_ARGS__); }, [&](auto& x) {        \
        constexpr bool kHas = requires { x.operation##_in_place(__VA_ARGS__); };                         \
        static_assert(kHas || !requires { typename std::remove_cvref_t<decltype(x)>::allocator_type; }); \
        if constexpr (kHas) x.operation##_in_place(__VA_ARGS__);                                         \
        return kHas;                                                                                     \
    }

/// Does operations to a document, and records what they show.
template <class F>
class Operator {
public:
    Operator(Document<F>& document, Trace& trace) : document_(document), trace_(trace) {}

    void run(std::span<const Op> ops) {
        for (std::size_t i = 0; i < ops.size(); ++i) {
            if (ops[i].action == Action::call) {
                const std::size_t count = std::min<std::size_t>(1 + ops[i].at % 4, ops.size() - i - 1);
                call(document_, ops.subspan(i + 1, count), trace_);
                i += count;
            } else {
                run_one(ops[i]);
            }
        }
    }

private:
    static constexpr long kRefused = -1;
    static constexpr std::size_t kMostElements = 3000;

    static void call(Document<F> by_value, std::span<const Op> ops, Trace& trace) {
        Operator(by_value, trace).run(ops);
        trace.push_back(digest(by_value));
    }

    void run_one(const Op& op) {
        try {
            op_ = op;
            if (op.action <= Action::concat_slice) {
                on_list(document_.lists[op.which % 2], document_.lists[1 - op.which % 2]);
            } else if (op.action <= Action::slice_to_list) {
                on_slice(document_.slice, document_.lists[op.which % 2]);
            } else if (op.action <= Action::text_from_other) {
                on_text(document_.texts[op.which % 2], document_.texts[1 - op.which % 2]);
            } else if (op.action <= Action::map_from_other) {
                on_map(document_.maps[op.which % 2], document_.maps[1 - op.which % 2]);
            } else if (op.action <= Action::ordered_update) {
                on_ordered(document_.ordered);
            } else {
                on_set(document_.sets[op.which % 2], document_.sets[1 - op.which % 2]);
            }
        } catch (const std::out_of_range&) {
            trace_.push_back(kRefused);
        }
    }

    /// Sets `operand` to `change(operand)`, which gets it as the form of the operation says, or lets `in_place` change
    /// it.
    template <class Operand, class Change, class InPlace>
    void become(Operand& operand, const Change& change, const InPlace& in_place) {
        if (op_.form == Form::kept) {
            Operand made = change(std::as_const(operand));
            operand = std::move(made);
        } else if (op_.form == Form::moved || !in_place(operand)) {
            operand = change(std::move(operand));
        }
        trace_.push_back(static_cast<long>(operand.size()));
    }
    /// An index that lies outside in few cases.
    [[nodiscard]] std::size_t index(std::size_t size) const { return op_.at % (size + 2); }
    void note(long seen) { trace_.push_back(seen); }

    template <class List>
    void on_list(List& list, List& other) {
        using L = List;
        const auto add = [by = op_.number](long& element) { element += by; };
        const std::size_t at = index(list.size());
        switch (op_.action) {
            case Action::push:
                return become(list, EQUIVALENCE_FORMS(push, op_.number));
            case Action::fill:
                for (std::uint32_t i = 0; i < op_.at % 700 && list.size() < kMostElements; ++i) {
                    list = std::move(list).push(static_cast<long>(i % 5) + op_.number);
                }
                return note(static_cast<long>(list.size()));
            case Action::pop:
                return become(list, EQUIVALENCE_FORMS(pop));
            case Action::insert:
                return become(list, EQUIVALENCE_FORMS(insert, at, op_.number));
            case Action::remove:
                return become(list, EQUIVALENCE_FORMS(remove, at));
            case Action::set:
                return become(list, EQUIVALENCE_FORMS(set, at, op_.number));
            case Action::update:
                return become(list, EQUIVALENCE_FORMS(update, at, add));
            case Action::reverse:
                return become(list, EQUIVALENCE_FORMS(reverse));
            case Action::sort:
                return become(list, EQUIVALENCE_FORMS(sort));
            case Action::concat_self:
                if (list.size() > kMostElements) return;
                return become(list, EQUIVALENCE_FORMS(concat, list));
            case Action::concat_other:
                if (list.size() + other.size() > kMostElements) return;
                return become(list, EQUIVALENCE_FORMS(concat, other));
            case Action::concat_slice:
                if (list.size() + document_.slice.size() > kMostElements) return;
                return become(list, EQUIVALENCE_FORMS(concat, document_.slice));
            case Action::list_moved:
                other = std::move(list);
                note(static_cast<long>(list.size()));
                // A moved-from list can be used again.
                return become(list, EQUIVALENCE_FORMS(push, op_.number));
            case Action::take:
                return become(list, EQUIVALENCE_FORMS(take, at));
            case Action::drop:
                return become(list, EQUIVALENCE_FORMS(drop, at));
            case Action::read:
                note(list.contains(static_cast<long>(op_.number)) ? 1 : 0);
                note(list.at(at));
                note(list.first());
                return note(list.last());
            case Action::iterate: {
                long sum = 0;
                for (const long each : list) sum = (sum * 31 + each) % 1'000'003;
                return note(sum);
            }
            default: {
                const L& from = other;
                list = from;
            }
        }
    }
    template <class Slice, class List>
    void on_slice(Slice& slice, List& list) {
        const auto add = [by = op_.number](long& element) { element += by; };
        const std::size_t at = index(slice.size());
        switch (op_.action) {
            case Action::slice: {
                const std::size_t first = index(list.size());
                const auto count = static_cast<std::size_t>(std::abs(op_.number)) % 300;
                slice = op_.form != Form::kept ? std::exchange(list, List{}).slice(first, count)
                                               : std::as_const(list).slice(first, count);
                return note(static_cast<long>(slice.size()));
            }
            case Action::slice_set:
                return become(slice, EQUIVALENCE_FORMS(set, at, op_.number));
            case Action::slice_update:
                return become(slice, EQUIVALENCE_FORMS(update, at, add));
            case Action::slice_push:
                return become(slice, EQUIVALENCE_FORMS(push, op_.number));
            case Action::slice_pop:
                return become(slice, EQUIVALENCE_FORMS(pop));
            case Action::slice_insert:
                return become(slice, EQUIVALENCE_FORMS(insert, at, op_.number));
            case Action::slice_remove:
                return become(slice, EQUIVALENCE_FORMS(remove, at));
            case Action::slice_concat:
                if (list.size() + slice.size() > kMostElements) return;
                return become(slice, EQUIVALENCE_FORMS(concat, list));
            case Action::slice_concat_self:
                if (slice.size() > kMostElements) return;
                return become(slice, EQUIVALENCE_FORMS(concat, slice));
            case Action::slice_compare:
                note(are_equal(slice, list) ? 1 : 0);
                return note(is_less(slice, list) ? 1 : 0);
            case Action::slice_reverse:
                return become(slice, EQUIVALENCE_FORMS(reverse));
            case Action::slice_sort:
                return become(slice, EQUIVALENCE_FORMS(sort));
            case Action::slice_cut:
                if (op_.number % 2 == 0) {
                    return become(slice, EQUIVALENCE_FORMS(take, at));
                }
                return become(slice, EQUIVALENCE_FORMS(drop, at));
            default:
                if (op_.form != Form::kept) {
                    list = std::exchange(slice, Slice{}).to_list();
                } else {
                    list = std::as_const(slice).to_list();
                }
                note(static_cast<long>(list.size()));
        }
    }
    template <class Text>
    void on_text(Text& text, Text& other) {
        static constexpr std::string_view kWords = "  by value, for almost nothing: a page at a time  ";
        const std::size_t at = index(text.size());
        const auto count = static_cast<std::size_t>(std::abs(op_.number)) % 40;
        const std::string_view word = kWords.substr(op_.at % kWords.size(), count);
        switch (op_.action) {
            case Action::text_concat:
                if (text.size() > kMostElements) return;
                return become(text, EQUIVALENCE_FORMS(concat, word));
            case Action::text_concat_self:
                if (text.size() > kMostElements) return;
                return become(text, EQUIVALENCE_FORMS(concat, text.view()));
            case Action::text_substring:
                return become(text, EQUIVALENCE_FORMS(substring, at, count));
            case Action::text_trim:
                return become(text, EQUIVALENCE_FORMS(trim));
            case Action::text_set:
                return become(text, EQUIVALENCE_FORMS(set, at, static_cast<char>('a' + count % 26)));
            case Action::text_find:
                return note(static_cast<long>(text.find(word.substr(0, 2), at).value_or(999'999)));
            default: {
                const Text& from = other;
                text = from;
            }
        }
    }
    template <class Map>
    void on_map(Map& map, Map& other) {
        const long key = op_.at % 50;
        switch (op_.action) {
            case Action::map_read: {
                const auto* const found = map.find(key);
                note(found == nullptr ? kRefused : *found);
                return note(map.at(key));
            }
            case Action::map_from_other: {
                const Map& from = other;
                map = from;
                return;
            }
            default:
                change_entry(map, key);
        }
    }
    template <class Ordered>
    void on_ordered(Ordered& ordered) {
        change_entry(ordered, op_.at % 20);
    }
    template <class Map>
    void change_entry(Map& map, long key) {
        const auto add = [by = op_.number](long& value) { value += by; };
        switch (op_.action) {
            case Action::map_set:
            case Action::ordered_set:
                return become(map, EQUIVALENCE_FORMS(set, key, op_.number));
            case Action::map_remove:
            case Action::ordered_remove:
                return become(map, EQUIVALENCE_FORMS(remove, key));
            default:
                return become(map, EQUIVALENCE_FORMS(update, key, add));
        }
    }
    template <class Set>
    void on_set(Set& set, Set& other) {
        const long value = op_.at % 50;
        note(set.contains(value) ? 1 : 0);
        switch (op_.action) {
            case Action::set_insert:
                return become(set, EQUIVALENCE_FORMS(insert, value));
            case Action::set_remove:
                return become(set, EQUIVALENCE_FORMS(remove, value));
            case Action::set_unite:
                return become(set, EQUIVALENCE_FORMS(unite, other));
            case Action::set_intersect:
                return become(set, EQUIVALENCE_FORMS(intersect, other));
            case Action::set_subtract:
                return become(set, EQUIVALENCE_FORMS(subtract, other));
            default: {
                const Set& from = other;
                set = from;
            }
        }
    }

    Document<F>& document_;
    Trace& trace_;
    Op op_{};
};

/// The functions that programs call, in this process and in others.
template <class F>
Trace look_at(const Document<F>& document) {
    return flatten(document);
}
template <class F>
Trace change(Document<F>& document, const Ops& ops) {
    Trace seen{digest(document)};
    Operator<F>(document, seen).run(ops);
    seen.push_back(digest(document));
    return seen;
}

#undef EQUIVALENCE_FORMS

}  // namespace equivalence
