#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <functional>
#include <span>
#include <utility>

#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/elements.hpp"

namespace vmcow::heap::detail {

/// The changes of lists and slices, in the two forms that return the changed structure. `Self` has the third form, by
/// which these are implemented: `push_in_place(value)` and so on, and `part(first, count)`, a copy of some elements.
template <class Self, class T>
class ElementChanges : public ElementsFace<Self, T> {
public:
    [[VMCOW_RETURNS_CHANGED_COPY(push)]] Self push(T value) const& { return copied().push(std::move(value)); }
    [[VMCOW_RETURNS_ITSELF(push)]] Self push(T value) && {
        mine().push_in_place(std::move(value));
        return std::move(mine());
    }
    /// Throws: std::out_of_range -- there is no element.
    [[VMCOW_RETURNS_CHANGED_COPY(pop)]] Self pop() const& { return copied().pop(); }
    [[VMCOW_RETURNS_ITSELF(pop)]] Self pop() && {
        mine().pop_in_place();
        return std::move(mine());
    }
    /// `index` may be the end.
    [[VMCOW_RETURNS_CHANGED_COPY(insert)]] Self insert(std::size_t index, T value) const& {
        return copied().insert(index, std::move(value));
    }
    [[VMCOW_RETURNS_ITSELF(insert)]] Self insert(std::size_t index, T value) && {
        mine().insert_in_place(index, std::move(value));
        return std::move(mine());
    }
    [[VMCOW_RETURNS_CHANGED_COPY(remove)]] Self remove(std::size_t index) const& { return copied().remove(index); }
    [[VMCOW_RETURNS_ITSELF(remove)]] Self remove(std::size_t index) && {
        mine().remove_in_place(index);
        return std::move(mine());
    }
    [[VMCOW_RETURNS_CHANGED_COPY(set)]] Self set(std::size_t index, T value) const& {
        return copied().set(index, std::move(value));
    }
    [[VMCOW_RETURNS_ITSELF(set)]] Self set(std::size_t index, T value) && {
        mine().set_in_place(index, std::move(value));
        return std::move(mine());
    }
    /// Calls `change(element)`, for example to change a structure within an element. `change` may write to the element;
    /// it must neither change nor copy the structure that holds the element. If `change` throws, the element stays as
    /// `change` has left it.
    /// Throws: std::logic_error -- `change` has changed or copied the structure.
    template <std::invocable<T&> F>
    [[VMCOW_RETURNS_CHANGED_COPY(update)]] Self update(std::size_t index, F&& change) const& {
        return copied().update(index, std::forward<F>(change));
    }
    template <std::invocable<T&> F>
    [[VMCOW_RETURNS_ITSELF(update)]] Self update(std::size_t index, F&& change) && {
        mine().update_in_place(index, std::forward<F>(change));
        return std::move(mine());
    }
    [[VMCOW_RETURNS_CHANGED_COPY(reverse)]] Self reverse() const& { return copied().reverse(); }
    [[VMCOW_RETURNS_ITSELF(reverse)]] Self reverse() && {
        mine().reverse_in_place();
        return std::move(mine());
    }
    /// Equal elements keep their order. If `less` throws while elements are sorted in place, their order has changed.
    template <class Less = std::less<>>
    [[VMCOW_RETURNS_CHANGED_COPY(sort)]] Self sort(Less less = {}) const& {
        return copied().sort(std::move(less));
    }
    template <class Less = std::less<>>
    [[VMCOW_RETURNS_ITSELF(sort)]] Self sort(Less less = {}) && {
        mine().sort_in_place(std::move(less));
        return std::move(mine());
    }
    /// Appends the elements of a list, a slice or a span. They may be elements of this structure.
    [[VMCOW_RETURNS_CHANGED_COPY(concat)]] Self concat(const Self& other) const& { return concat(other.span()); }
    [[VMCOW_RETURNS_ITSELF(concat)]] Self concat(const Self& other) && { return std::move(*this).concat(other.span()); }
    template <class Other>
    [[VMCOW_RETURNS_CHANGED_COPY(concat)]] Self concat(const ElementsFace<Other, T>& other) const& {
        return concat(other.self().span());
    }
    template <class Other>
    [[VMCOW_RETURNS_ITSELF(concat)]] Self concat(const ElementsFace<Other, T>& other) && {
        return std::move(*this).concat(other.self().span());
    }
    [[VMCOW_RETURNS_CHANGED_COPY(concat)]] Self concat(std::span<const T> others) const& {
        return copied().concat(others);
    }
    [[VMCOW_RETURNS_ITSELF(concat)]] Self concat(std::span<const T> others) && {
        mine().append_in_place(others);
        return std::move(mine());
    }
    void concat_in_place(const Self& other) { mine().append_in_place(other.span()); }
    template <class Other>
    void concat_in_place(const ElementsFace<Other, T>& other) {
        mine().append_in_place(other.self().span());
    }
    void concat_in_place(std::span<const T> others) { mine().append_in_place(others); }
    /// The first `count` elements; all of them if there are fewer.
    [[VMCOW_RETURNS_CHANGED_COPY(take)]] Self take(std::size_t count) const& {
        return self().part(0, std::min(count, this->size()));
    }
    [[VMCOW_RETURNS_ITSELF(take)]] Self take(std::size_t count) && {
        mine().take_in_place(count);
        return std::move(mine());
    }
    /// All but the first `count` elements; none of them if there are fewer.
    [[VMCOW_RETURNS_CHANGED_COPY(drop)]] Self drop(std::size_t count) const& {
        const std::size_t dropped = std::min(count, this->size());
        return self().part(dropped, this->size() - dropped);
    }
    [[VMCOW_RETURNS_ITSELF(drop)]] Self drop(std::size_t count) && {
        mine().drop_in_place(count);
        return std::move(mine());
    }

protected:
    [[nodiscard]] const Self& self() const noexcept { return static_cast<const Self&>(*this); }
    [[nodiscard]] Self& mine() noexcept { return static_cast<Self&>(*this); }

private:
    /// A copy of the handle: elements are copied only when it is changed.
    [[nodiscard]] Self copied() const { return self(); }
};

}  // namespace vmcow::heap::detail
