#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/equivalence/program.hpp"

namespace equivalence {

/// The object of a program's variable, of the structures of one family.
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

// What is in them, in an order that does not depend on how they are made.

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
/// The entries of an ordered map, or a row of them that it makes.
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
/// A number for all of it.
template <class F>
long digest(const Document<F>& document) {
    std::uint64_t sum = 14'695'981'039'346'656'037U;
    for (const long each : flatten(document)) sum = (sum ^ static_cast<std::uint64_t>(each)) * 1'099'511'628'211U;
    return static_cast<long>(sum);
}

/// Does operations to a document, and notes what it sees.
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
            if (op.action <= Action::list_from_other) {
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

    /// `operand` becomes `change(operand)`, which gets it in the form that the operation says.
    template <class Operand, class Change>
    void become(Operand& operand, const Change& change) {
        if (op_.form == Form::moved) {
            operand = change(std::move(operand));
        } else {
            Operand made = change(std::as_const(operand));
            operand = std::move(made);
        }
        trace_.push_back(static_cast<long>(operand.size()));
    }
    /// An index that is mostly one.
    [[nodiscard]] std::size_t index(std::size_t size) const { return op_.at % (size + 2); }
    void note(long seen) { trace_.push_back(seen); }

    template <class List>
    void on_list(List& list, List& other) {
        using L = List;
        const auto add = [by = op_.number](long& element) { element += by; };
        const std::size_t at = index(list.size());
        switch (op_.action) {
            case Action::push:
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).push(op_.number); });
            case Action::fill:
                for (std::uint32_t i = 0; i < op_.at % 700 && list.size() < kMostElements; ++i) {
                    list = std::move(list).push(static_cast<long>(i % 5) + op_.number);
                }
                return note(static_cast<long>(list.size()));
            case Action::pop:
                return become(list, [](auto&& x) { return std::forward<decltype(x)>(x).pop(); });
            case Action::insert:
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).insert(at, op_.number); });
            case Action::remove:
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).remove(at); });
            case Action::set:
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).set(at, op_.number); });
            case Action::update:
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).update(at, add); });
            case Action::reverse:
                return become(list, [](auto&& x) { return std::forward<decltype(x)>(x).reverse(); });
            case Action::sort:
                return become(list, [](auto&& x) { return std::forward<decltype(x)>(x).sort(); });
            case Action::concat_self:
                if (list.size() > kMostElements) return;
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).concat(list); });
            case Action::concat_other:
                if (list.size() + other.size() > kMostElements) return;
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).concat(other); });
            case Action::take:
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).take(at); });
            case Action::drop:
                return become(list, [&](auto&& x) { return std::forward<decltype(x)>(x).drop(at); });
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
        const std::size_t at = index(slice.size());
        switch (op_.action) {
            case Action::slice: {
                const std::size_t first = index(list.size());
                const auto count = static_cast<std::size_t>(std::abs(op_.number)) % 300;
                slice = op_.form == Form::moved ? std::exchange(list, List{}).slice(first, count)
                                                : std::as_const(list).slice(first, count);
                return note(static_cast<long>(slice.size()));
            }
            case Action::slice_set:
                return become(slice, [&](auto&& x) { return std::forward<decltype(x)>(x).set(at, op_.number); });
            case Action::slice_reverse:
                return become(slice, [](auto&& x) { return std::forward<decltype(x)>(x).reverse(); });
            case Action::slice_sort:
                return become(slice, [](auto&& x) { return std::forward<decltype(x)>(x).sort(); });
            case Action::slice_cut:
                if (op_.number % 2 == 0) {
                    return become(slice, [&](auto&& x) { return std::forward<decltype(x)>(x).take(at); });
                }
                return become(slice, [&](auto&& x) { return std::forward<decltype(x)>(x).drop(at); });
            default:
                if (op_.form == Form::moved) {
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
                return become(text, [&](auto&& x) { return std::forward<decltype(x)>(x).concat(word); });
            case Action::text_concat_self:
                if (text.size() > kMostElements) return;
                return become(text, [&](auto&& x) { return std::forward<decltype(x)>(x).concat(text.view()); });
            case Action::text_substring:
                return become(text, [&](auto&& x) { return std::forward<decltype(x)>(x).substring(at, count); });
            case Action::text_trim:
                return become(text, [](auto&& x) { return std::forward<decltype(x)>(x).trim(); });
            case Action::text_set:
                return become(text, [&](auto&& x) {
                    return std::forward<decltype(x)>(x).set(at, static_cast<char>('a' + count % 26));
                });
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
                return become(map, [&](auto&& x) { return std::forward<decltype(x)>(x).set(key, op_.number); });
            case Action::map_remove:
            case Action::ordered_remove:
                return become(map, [&](auto&& x) { return std::forward<decltype(x)>(x).remove(key); });
            default:
                return become(map, [&](auto&& x) { return std::forward<decltype(x)>(x).update(key, add); });
        }
    }
    template <class Set>
    void on_set(Set& set, Set& other) {
        const long value = op_.at % 50;
        note(set.contains(value) ? 1 : 0);
        switch (op_.action) {
            case Action::set_insert:
                return become(set, [&](auto&& x) { return std::forward<decltype(x)>(x).insert(value); });
            case Action::set_remove:
                return become(set, [&](auto&& x) { return std::forward<decltype(x)>(x).remove(value); });
            case Action::set_unite:
                return become(set, [&](auto&& x) { return std::forward<decltype(x)>(x).unite(other); });
            case Action::set_intersect:
                return become(set, [&](auto&& x) { return std::forward<decltype(x)>(x).intersect(other); });
            case Action::set_subtract:
                return become(set, [&](auto&& x) { return std::forward<decltype(x)>(x).subtract(other); });
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

/// The functions that are called, in this process and in others.
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

}  // namespace equivalence
