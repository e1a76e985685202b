#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

#include "vmcow/heap/position.hpp"

namespace vmcow::heap::detail {

[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_index(std::size_t index, std::size_t size) {
    throw std::out_of_range("index " + std::to_string(index) + " of " + std::to_string(size));
}
/// Throws: std::out_of_range -- unless `index` is less than `size`.
inline void check_index(std::size_t index, std::size_t size) {
    if (index >= size) [[unlikely]]
        refuse_index(index, size);
}
/// Throws: std::out_of_range -- there is no element.
inline void check_not_empty(std::size_t size) {
    if (size == 0) throw std::out_of_range("nothing in it");
}
/// As the standard library's substr: `first` may be the end, and `count` is cut there.
/// Throws: std::out_of_range -- `first` lies behind the end.
[[nodiscard]] inline std::size_t checked_count(std::size_t first, std::size_t count, std::size_t size) {
    if (first > size) throw std::out_of_range("from " + std::to_string(first) + " of " + std::to_string(size));
    return std::min(count, size - first);
}

/// What reads elements in a row, for list and slice: `Self` has `span()`.
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
    /// Throws: std::out_of_range.
    [[nodiscard]] const T& at(std::size_t index) const {
        const std::span<const T> all = self().span();
        check_index(index, all.size());
        return all[index];
    }
    [[nodiscard]] const T& operator[](std::size_t index) const { return at(index); }
    /// Throws: std::out_of_range -- there is none.
    [[nodiscard]] const T& first() const {
        check_not_empty(size());
        return self().span().front();
    }
    [[nodiscard]] const T& last() const {
        check_not_empty(size());
        return self().span().back();
    }
    template <class U>
    [[nodiscard]] bool contains(const U& value) const {
        return std::ranges::find(self().span(), value) != self().span().end();
    }

    [[nodiscard]] const_iterator begin() const noexcept { return {self(), 0}; }
    [[nodiscard]] const_iterator end() const noexcept { return {self(), size()}; }

private:
    [[nodiscard]] const Self& self() const noexcept { return static_cast<const Self&>(*this); }
};

}  // namespace vmcow::heap::detail
