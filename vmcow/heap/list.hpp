#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "vmcow/heap/buffer.hpp"
#include "vmcow/heap/elements.hpp"
#include "vmcow/heap/sharing.hpp"

namespace vmcow::heap {

// NOLINTBEGIN(readability-identifier-naming): named as containers are.
template <class T, Options kOptions = Options{}, class Allocator = std::allocator<T>>
class slice;

/// Elements in a row, shared as a whole: a copy counts, and the first change of one that is shared copies the elements.
///
///     list<int> a{1, 2, 3};
///     list<int> b = a;                 // O(1)
///     a = std::move(a).push(4);        // copies, once: b has the three
///     a = std::move(a).push(5);        // in place
///     list<int> c = a.push(6);         // a stays as it is
///
/// Every operation has two forms. On an lvalue it leaves that alone and returns a new list; on an rvalue that nobody
/// shares it changes it in place, and returns it: in a chain, each is the operand of the next one.
///
/// Shape:   a pointer; the block has three words and the elements, and grows by half.
/// Throws:  std::out_of_range -- an index; what allocating or copying an element throws. Operands are then as before.
/// Cost:    the index, `push` and `pop` of a unique one O(1); what moves elements O(n).
/// Threads: see Sharing. Reading never writes, so a list in read-only memory can be read.
///
/// An element may hold lists of its own type, nested however deep; destroying them takes little stack. Comparing them,
/// and copying them between allocators that differ, takes as much as they are deep. A copy to where the allocator is
/// another one, as in or out of a `vmcow::Value`, copies the elements.
template <class T, Options kOptions = Options{}, class Allocator = std::allocator<T>>
class list : public detail::ElementsFace<list<T, kOptions, Allocator>, T> {
    using Buffer = detail::Buffer<T, kOptions, Allocator>;

public:
    using allocator_type = Allocator;

    list() = default;
    explicit list(const Allocator& allocator) noexcept : buffer_(allocator) {}
    list(std::initializer_list<T> elements, const Allocator& allocator = {})
        : list(std::span<const T>(elements.begin(), elements.size()), allocator) {}
    explicit list(std::span<const T> elements, const Allocator& allocator = {}) : buffer_(allocator) {
        buffer_.append_copies(elements.data(), elements.size());
    }
    template <std::input_iterator I>
    list(I first, I last, const Allocator& allocator = {}) : buffer_(allocator) {
        if constexpr (std::forward_iterator<I>) buffer_.reserve(static_cast<std::size_t>(std::distance(first, last)));
        for (; first != last; ++first) buffer_.push(*first);
    }
    list(const list&) = default;
    list(const list& other, const Allocator& allocator) : buffer_(other.buffer_, allocator) {}
    list(list&&) noexcept = default;
    list(list&& other, const Allocator& allocator) : buffer_(std::move(other.buffer_), allocator) {}
    list& operator=(const list&) = default;
    // NOLINTNEXTLINE(bugprone-exception-escape): as the buffer's.
    list& operator=(list&&) noexcept(std::is_nothrow_move_assignable_v<Buffer>) = default;
    ~list() = default;
    void swap(list& other) { buffer_.swap(other.buffer_); }
    friend void swap(list& a, list& b) { a.swap(b); }

    [[nodiscard]] Allocator get_allocator() const noexcept { return buffer_.get_allocator(); }
    /// All of them as they lie, at memory speed. Good until this list is changed, assigned or destroyed.
    [[nodiscard]] std::span<const T> span() const noexcept { return {buffer_.data(), buffer_.size()}; }
    [[nodiscard]] const T* data() const noexcept { return buffer_.data(); }
    [[nodiscard]] std::size_t capacity() const noexcept { return buffer_.capacity(); }
    /// Nobody else shares the elements: a change is made in place.
    [[nodiscard]] bool is_unique() const noexcept { return buffer_.is_unique(); }
    [[nodiscard]] bool shares_with(const list& other) const noexcept { return buffer_.shares_with(other.buffer_); }
    friend bool operator==(const list& a, const list& b) {
        return a.buffer_.shares_with(b.buffer_) || std::ranges::equal(a.span(), b.span());
    }

    // Each operation: on an lvalue of a copy, which costs nothing before it is changed; on an rvalue in place.

    [[nodiscard]] list push(T value) const& { return list(*this).push(std::move(value)); }
    [[nodiscard]] list push(T value) && {
        buffer_.push(std::move(value));
        return std::move(*this);
    }
    /// Throws: std::out_of_range -- it is empty.
    [[nodiscard]] list pop() const& { return list(*this).pop(); }
    [[nodiscard]] list pop() && {
        detail::check_not_empty(this->size());
        buffer_.erase(this->size() - 1, 1);
        return std::move(*this);
    }
    /// `index` may be the end.
    [[nodiscard]] list insert(std::size_t index, T value) const& { return list(*this).insert(index, std::move(value)); }
    [[nodiscard]] list insert(std::size_t index, T value) && {
        detail::check_index(index, this->size() + 1);
        buffer_.replace(index, 0, 1, [&](T* to, std::size_t& made) { buffer_.construct(to, made, std::move(value)); });
        return std::move(*this);
    }
    [[nodiscard]] list remove(std::size_t index) const& { return list(*this).remove(index); }
    [[nodiscard]] list remove(std::size_t index) && {
        detail::check_index(index, this->size());
        buffer_.erase(index, 1);
        return std::move(*this);
    }
    [[nodiscard]] list set(std::size_t index, T value) const& { return list(*this).set(index, std::move(value)); }
    [[nodiscard]] list set(std::size_t index, T value) && {
        detail::check_index(index, this->size());
        if (!buffer_.is_unique()) [[unlikely]]
            return std::move(*this).set_in_copy(index, std::move(value));
        buffer_.writable()[index] = std::move(value);
        return std::move(*this);
    }
    /// Calls `change(element)`, as for an element that holds structures itself. If it throws, the element is as it has
    /// left it.
    template <std::invocable<T&> F>
    [[nodiscard]] list update(std::size_t index, F&& change) const& {
        return list(*this).update(index, std::forward<F>(change));
    }
    template <std::invocable<T&> F>
    [[nodiscard]] list update(std::size_t index, F&& change) && {
        detail::check_index(index, this->size());
        buffer_.make_unique();
        std::invoke(std::forward<F>(change), buffer_.writable()[index]);
        return std::move(*this);
    }
    [[nodiscard]] list reverse() const& { return list(*this).reverse(); }
    [[nodiscard]] list reverse() && {
        if (this->size() < 2) return std::move(*this);
        buffer_.make_unique();
        std::reverse(buffer_.writable(), buffer_.writable() + this->size());
        return std::move(*this);
    }
    /// Equal elements keep their order. If `less` throws, an rvalue's elements are in another order.
    template <class Less = std::less<>>
    [[nodiscard]] list sort(Less less = {}) const& {
        return list(*this).sort(std::move(less));
    }
    template <class Less = std::less<>>
    [[nodiscard]] list sort(Less less = {}) && {
        if (this->size() < 2) return std::move(*this);
        buffer_.make_unique();
        std::stable_sort(buffer_.writable(), buffer_.writable() + this->size(), std::move(less));
        return std::move(*this);
    }
    /// `other` may be this list.
    [[nodiscard]] list concat(const list& other) const& { return list(*this).concat(other); }
    [[nodiscard]] list concat(const list& other) && { return std::move(*this).concat(other.span()); }
    /// `others` may lie in this list.
    [[nodiscard]] list concat(std::span<const T> others) const& { return list(*this).concat(others); }
    [[nodiscard]] list concat(std::span<const T> others) && {
        buffer_.append_copies(others.data(), others.size());
        return std::move(*this);
    }
    /// The first `count`, and all but the first `count`; of a list that has less, all or none.
    [[nodiscard]] list take(std::size_t count) const& { return part(0, std::min(count, this->size())); }
    [[nodiscard]] list take(std::size_t count) && {
        const std::size_t taken = std::min(count, this->size());
        buffer_.erase(taken, this->size() - taken);
        return std::move(*this);
    }
    [[nodiscard]] list drop(std::size_t count) const& {
        const std::size_t dropped = std::min(count, this->size());
        return part(dropped, this->size() - dropped);
    }
    [[nodiscard]] list drop(std::size_t count) && {
        buffer_.erase(0, std::min(count, this->size()));
        return std::move(*this);
    }
    /// `count` elements from `first` on, which share this list's memory: O(1). Cut at the end, as substr is.
    /// Throws: std::out_of_range -- `first` lies behind the end.
    [[nodiscard]] heap::slice<T, kOptions, Allocator> slice(std::size_t first, std::size_t count) const& {
        return list(*this).slice(first, count);
    }
    [[nodiscard]] heap::slice<T, kOptions, Allocator> slice(std::size_t first, std::size_t count) && {
        const std::size_t taken = detail::checked_count(first, count, this->size());
        return heap::slice<T, kOptions, Allocator>(std::move(buffer_), first, taken);
    }
    /// With room for that many, so that pushing them allocates nothing.
    [[nodiscard]] list reserve(std::size_t capacity) const& { return list(*this).reserve(capacity); }
    [[nodiscard]] list reserve(std::size_t capacity) && {
        if (capacity <= this->capacity()) return std::move(*this);
        buffer_.make_unique();
        buffer_.reserve(capacity);
        return std::move(*this);
    }

private:
    friend class heap::slice<T, kOptions, Allocator>;
    explicit list(Buffer&& buffer) noexcept : buffer_(std::move(buffer)) {}

    /// In a variable of its own, so that nothing but the moves of a handle asks where a list is that is set in place
    /// step by step: it stays in a register.
    [[nodiscard]] list set_in_copy(std::size_t index, T value) && {
        list mine(std::move(*this));
        try {
            mine.replace_one(index, std::move(value));
        } catch (...) {
            *this = std::move(mine);
            throw;
        }
        return mine;
    }
    [[gnu::noinline]] void replace_one(std::size_t index, T&& value) {
        buffer_.replace(index, 1, 1, [&](T* to, std::size_t& made) { buffer_.construct(to, made, std::move(value)); });
    }
    [[nodiscard]] list part(std::size_t first, std::size_t count) const {
        if (first == 0 && count == this->size()) return *this;
        using Traits = std::allocator_traits<Allocator>;
        const Allocator mine = get_allocator();
        return list(detail::copy_of_range(buffer_, first, count, Traits::select_on_container_copy_construction(mine)));
    }

    Buffer buffer_;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap

#include "vmcow/heap/slice.hpp"
