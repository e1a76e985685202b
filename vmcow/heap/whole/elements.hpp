#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/position.hpp"

namespace vmcow::heap::detail {

[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_index(std::size_t index, std::size_t size) {
    throw std::out_of_range("index " + std::to_string(index) + " has to be less than " + std::to_string(size));
}
/// Throws: std::out_of_range -- unless `index` is less than `size`.
inline void check_index(std::size_t index, std::size_t size) {
    if (index >= size) [[unlikely]]
        refuse_index(index, size);
}
/// Throws: std::out_of_range -- there is no element.
inline void check_not_empty(std::size_t size) {
    if (size == 0) throw std::out_of_range("there are no elements");
}
/// How many elements an operation on `count` elements from `first` on has. As in the standard library's substr, `first`
/// may be the end, and `count` is cut there.
/// Throws: std::out_of_range -- `first` lies behind the end.
[[nodiscard]] inline std::size_t checked_count(std::size_t first, std::size_t count, std::size_t size) {
    if (first > size) {
        throw std::out_of_range("position " + std::to_string(first) + " lies behind the end, " + std::to_string(size));
    }
    return std::min(count, size - first);
}

/// How lists and slices are read: `Self` has `span()`.
template <class Self, class T>
class ElementsFace {
public:
    // NOLINTBEGIN(readability-identifier-naming): the names that algorithms look for.
    using value_type = T;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = const T&;
    using const_reference = const T&;
    using const_iterator = Position<Self>;
    using iterator = const_iterator;
    // NOLINTEND(readability-identifier-naming)

    [[nodiscard]] std::size_t size() const noexcept { return self().span().size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }

    // Of a temporary, these return copies of elements, because the structure is gone when the result is used.

    /// Throws: std::out_of_range.
    [[nodiscard]] const T& at(std::size_t index) const& {
        const std::span<const T> all = self().span();
        check_index(index, all.size());
        return all[index];
    }
    [[nodiscard]] T at(std::size_t index) const&& { return at(index); }
    [[nodiscard]] const T& operator[](std::size_t index) const& { return at(index); }
    [[nodiscard]] T operator[](std::size_t index) const&& { return at(index); }
    /// Throws: std::out_of_range -- there are no elements.
    [[nodiscard]] const T& first() const& {
        check_not_empty(size());
        return self().span().front();
    }
    [[nodiscard]] T first() const&& { return first(); }
    /// Throws: std::out_of_range -- there are no elements.
    [[nodiscard]] const T& last() const& {
        check_not_empty(size());
        return self().span().back();
    }
    [[nodiscard]] T last() const&& { return last(); }
    template <class U>
    [[nodiscard]] bool contains(const U& value) const {
        return std::ranges::find(self().span(), value) != self().span().end();
    }

    [[nodiscard]] const_iterator begin() const& noexcept { return {self(), 0}; }
    [[nodiscard]] const_iterator end() const& noexcept { return {self(), size()}; }
    template <class U = T>
    [[nodiscard]] const_iterator begin() const&& noexcept {
        refuse_view_of_temporary<U>();
        return {};
    }
    template <class U = T>
    [[nodiscard]] const_iterator end() const&& noexcept {
        refuse_view_of_temporary<U>();
        return {};
    }

private:
    template <class A, class B, class U>
    friend bool operator==(const ElementsFace<A, U>& a, const ElementsFace<B, U>& b);
    template <class A, class B, std::three_way_comparable U>
    friend auto operator<=>(const ElementsFace<A, U>& a, const ElementsFace<B, U>& b);
    template <class Changed, class U>
    friend class ElementChanges;

    [[nodiscard]] const Self& self() const noexcept { return static_cast<const Self&>(*this); }
};

/// Whether two lists or slices have the same elements. Elements that lie in the same memory are not compared.
template <class A, class B, class T>
[[nodiscard]] bool operator==(const ElementsFace<A, T>& a, const ElementsFace<B, T>& b) {
    const std::span<const T> x = a.self().span();
    const std::span<const T> y = b.self().span();
    return x.size() == y.size() && (x.data() == y.data() || std::equal(x.begin(), x.end(), y.begin()));
}
/// Compares two lists or slices by the first elements that differ.
template <class A, class B, std::three_way_comparable T>
[[nodiscard]] auto operator<=>(const ElementsFace<A, T>& a, const ElementsFace<B, T>& b) {
    const std::span<const T> x = a.self().span();
    const std::span<const T> y = b.self().span();
    return std::lexicographical_compare_three_way(x.begin(), x.end(), y.begin(), y.end());
}

}  // namespace vmcow::heap::detail
