#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

// The structures of vmcow/heap over ordinary containers, as simple as can be: each operation copies, changes the copy
// and returns it. The containers are those of the standard library, or those that lie in values.

namespace equivalence {

inline void require(bool condition) {
    if (!condition) throw std::out_of_range("refused");
}
template <class V>
[[nodiscard]] auto place(V& vector, std::size_t index) {
    return vector.begin() + static_cast<typename V::difference_type>(index);
}

/// What list and slice have in common. `Self` is constructed from a Vector.
template <class Self, class Vector>
struct PlainElements {
    Vector elements;

    [[nodiscard]] std::size_t size() const { return elements.size(); }
    [[nodiscard]] auto begin() const { return elements.begin(); }
    [[nodiscard]] auto end() const { return elements.end(); }
    template <class Change>
    [[nodiscard]] Self changed(const Change& change) const {
        Self copy(static_cast<const Self&>(*this));
        change(copy.elements);
        return copy;
    }
    [[nodiscard]] Self set(std::size_t index, long value) const {
        require(index < size());
        return changed([&](Vector& all) { all[index] = value; });
    }
    [[nodiscard]] Self push(long value) const& {
        return changed([&](Vector& all) { all.push_back(value); });
    }
    /// Changes in place, because a copy for each of many pushes would take too long.
    [[nodiscard]] Self push(long value) && {
        elements.push_back(value);
        return std::move(static_cast<Self&>(*this));
    }
    [[nodiscard]] Self pop() const {
        require(size() != 0);
        return changed([](Vector& all) { all.pop_back(); });
    }
    [[nodiscard]] Self insert(std::size_t index, long value) const {
        require(index <= size());
        return changed([&](Vector& all) { all.insert(place(all, index), value); });
    }
    [[nodiscard]] Self remove(std::size_t index) const {
        require(index < size());
        return changed([&](Vector& all) { all.erase(place(all, index)); });
    }
    template <class Change>
    [[nodiscard]] Self update(std::size_t index, const Change& change) const {
        require(index < size());
        return changed([&](Vector& all) { change(all[index]); });
    }
    template <class Other>
    [[nodiscard]] Self concat(const Other& other) const {
        const Vector more = other.elements;
        return changed([&](Vector& all) { all.insert(all.end(), more.begin(), more.end()); });
    }
    [[nodiscard]] Self reverse() const {
        return changed([](Vector& all) { std::reverse(all.begin(), all.end()); });
    }
    [[nodiscard]] Self sort() const {
        return changed([](Vector& all) { std::sort(all.begin(), all.end()); });
    }
    [[nodiscard]] Self take(std::size_t count) const {
        return changed([&](Vector& all) { all.erase(place(all, std::min(count, all.size())), all.end()); });
    }
    [[nodiscard]] Self drop(std::size_t count) const {
        return changed([&](Vector& all) { all.erase(all.begin(), place(all, std::min(count, all.size()))); });
    }
};

template <class Vector>
struct PlainList;

template <class Vector>
struct PlainSlice : PlainElements<PlainSlice<Vector>, Vector> {
    [[nodiscard]] PlainList<Vector> to_list() const { return {{this->elements}}; }
};

template <class Vector>
struct PlainList : PlainElements<PlainList<Vector>, Vector> {
    [[nodiscard]] long at(std::size_t index) const {
        require(index < this->size());
        return this->elements[index];
    }
    [[nodiscard]] long first() const { return at(0); }
    [[nodiscard]] long last() const { return at(this->size() - 1); }
    [[nodiscard]] bool contains(long value) const {
        return std::find(this->begin(), this->end(), value) != this->end();
    }
    [[nodiscard]] PlainSlice<Vector> slice(std::size_t first, std::size_t count) const {
        require(first <= this->size());
        PlainSlice<Vector> made{{this->elements}};
        return made.drop(first).take(count);
    }
};

template <class String>
struct PlainText {
    String text;

    [[nodiscard]] std::string_view view() const { return {text.data(), text.size()}; }
    [[nodiscard]] std::size_t size() const { return text.size(); }
    [[nodiscard]] PlainText of(std::string_view view) const { return {String(view.data(), view.size())}; }
    [[nodiscard]] PlainText concat(std::string_view more) const {
        PlainText copy = *this;
        copy.text.append(more.data(), more.size());
        return copy;
    }
    [[nodiscard]] PlainText substring(std::size_t first, std::size_t count) const {
        require(first <= size());
        return of(view().substr(first, count));
    }
    [[nodiscard]] PlainText trim() const {
        const std::size_t first = view().find_first_not_of(" ");
        if (first == std::string_view::npos) return of("");
        return of(view().substr(first, view().find_last_not_of(" ") + 1 - first));
    }
    [[nodiscard]] PlainText set(std::size_t index, char value) const {
        require(index < size());
        PlainText copy = *this;
        copy.text[index] = value;
        return copy;
    }
    [[nodiscard]] std::optional<std::size_t> find(std::string_view what, std::size_t from) const {
        const std::size_t found = view().find(what, from);
        return found == std::string_view::npos ? std::nullopt : std::optional(found);
    }
};

template <class M>
struct PlainMap {
    M map;

    [[nodiscard]] std::size_t size() const { return map.size(); }
    [[nodiscard]] auto begin() const { return map.begin(); }
    [[nodiscard]] auto end() const { return map.end(); }
    [[nodiscard]] const long* find(long key) const {
        const auto found = map.find(key);
        return found == map.end() ? nullptr : &found->second;
    }
    [[nodiscard]] long at(long key) const {
        require(find(key) != nullptr);
        return *find(key);
    }
    [[nodiscard]] PlainMap set(long key, long value) const {
        PlainMap copy = *this;
        copy.map[key] = value;
        return copy;
    }
    [[nodiscard]] PlainMap remove(long key) const {
        PlainMap copy = *this;
        copy.map.erase(key);
        return copy;
    }
    template <class Change>
    [[nodiscard]] PlainMap update(long key, const Change& change) const {
        require(find(key) != nullptr);
        PlainMap copy = *this;
        change(copy.map[key]);
        return copy;
    }
};

/// Entries in the order in which their keys came.
template <class Entries>
struct PlainOrdered {
    Entries entries;

    [[nodiscard]] std::size_t size() const { return entries.size(); }
    [[nodiscard]] auto begin() const { return entries.begin(); }
    [[nodiscard]] auto end() const { return entries.end(); }
    [[nodiscard]] static auto found(Entries& all, long key) {
        return std::find_if(all.begin(), all.end(), [key](const auto& entry) { return entry.first == key; });
    }
    [[nodiscard]] PlainOrdered set(long key, long value) const {
        PlainOrdered copy = *this;
        const auto at = found(copy.entries, key);
        if (at == copy.entries.end()) {
            copy.entries.push_back({key, value});
        } else {
            at->second = value;
        }
        return copy;
    }
    [[nodiscard]] PlainOrdered remove(long key) const {
        PlainOrdered copy = *this;
        const auto at = found(copy.entries, key);
        if (at != copy.entries.end()) copy.entries.erase(at);
        return copy;
    }
    template <class Change>
    [[nodiscard]] PlainOrdered update(long key, const Change& change) const {
        PlainOrdered copy = *this;
        const auto at = found(copy.entries, key);
        require(at != copy.entries.end());
        change(at->second);
        return copy;
    }
};

template <class S>
struct PlainSet {
    S set;

    [[nodiscard]] std::size_t size() const { return set.size(); }
    [[nodiscard]] auto begin() const { return set.begin(); }
    [[nodiscard]] auto end() const { return set.end(); }
    [[nodiscard]] bool contains(long value) const { return set.find(value) != set.end(); }
    [[nodiscard]] PlainSet insert(long value) const {
        PlainSet copy = *this;
        copy.set.insert(value);
        return copy;
    }
    [[nodiscard]] PlainSet remove(long value) const {
        PlainSet copy = *this;
        copy.set.erase(value);
        return copy;
    }
    [[nodiscard]] PlainSet unite(const PlainSet& other) const {
        PlainSet copy = *this;
        copy.set.insert(other.begin(), other.end());
        return copy;
    }
    template <class Stays>
    [[nodiscard]] PlainSet only(const Stays& stays) const {
        PlainSet copy;
        for (const long each : set) {
            if (stays(each)) copy.set.insert(each);
        }
        return copy;
    }
    [[nodiscard]] PlainSet intersect(const PlainSet& other) const {
        return only([&](long each) { return other.contains(each); });
    }
    [[nodiscard]] PlainSet subtract(const PlainSet& other) const {
        return only([&](long each) { return !other.contains(each); });
    }
};

}  // namespace equivalence
