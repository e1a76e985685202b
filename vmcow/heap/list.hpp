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

#include "vmcow/heap/changes.hpp"
#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/buffer.hpp"
#include "vmcow/heap/whole/elements.hpp"

namespace vmcow::heap {

// NOLINTBEGIN(readability-identifier-naming): named as containers are.
template <class T, Options kOptions = Options{}, class Allocator = std::allocator<T>>
class slice;

/// Elements in a row, shared as a whole: copying a list increments a count, and the first change of a shared list
/// copies the elements.
///
///     list<int> a{1, 2, 3};
///     list<int> b = a;                 // O(1)
///     a.push_in_place(4);              // copies, once: b has the three
///     a = std::move(a).push(5);        // in place, as a.push_in_place(5)
///     list<int> c = a.push(6);         // a stays as it is
///     a = a.push(7);                   // copies: while the new list is made, the old one is there
///
/// Every change has three forms. `..._in_place` changes the list itself, and copies the elements only if others share
/// them. Called on an lvalue, the other form leaves the list alone and returns a new one. Called on an rvalue, it
/// changes the list in place and returns it, so that changes can be chained.
///
/// Shape:   a pointer; the block has three words and the elements, and grows by half.
/// Throws:  std::out_of_range -- an index; what allocating or copying an element throws. Operands are then as before.
/// Cost:    O(1) for indexing, and for `push` and `pop` of a unique list; O(n) for changes that move elements.
/// Threads: see Sharing. Reading never writes, so a list in read-only memory can be read.
///
/// A list that was moved from, by any function that takes an rvalue, is empty and can be used again.
///
/// An element may hold lists of its own type, nested to any depth; destroying them takes little stack. Comparing them,
/// and copying them between allocators that differ, takes stack in proportion to the depth. A copy whose allocator is
/// another one, as in or out of a `vmcow::Value`, copies the elements.
template <class T, Options kOptions = Options{}, class Allocator = std::allocator<T>>
class list : public detail::ElementChanges<list<T, kOptions, Allocator>, T> {
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
    // NOLINTNEXTLINE(bugprone-exception-escape): not noexcept where the buffer's assignment can throw.
    list& operator=(list&&) noexcept(std::is_nothrow_move_assignable_v<Buffer>) = default;
    ~list() = default;
    void swap(list& other) { buffer_.swap(other.buffer_); }
    friend void swap(list& a, list& b) { a.swap(b); }

    [[nodiscard]] Allocator get_allocator() const noexcept { return buffer_.get_allocator(); }
    /// All elements, to be read at memory speed. Good until this list is changed, assigned, moved or destroyed.
    [[nodiscard]] std::span<const T> span() const& noexcept { return {buffer_.data(), buffer_.size()}; }
    [[nodiscard]] const T* data() const& noexcept { return buffer_.data(); }
    template <class U = T>
    [[nodiscard]] std::span<const T> span() const&& noexcept {
        detail::refuse_view_of_temporary<U>();
        return {};
    }
    template <class U = T>
    [[nodiscard]] const T* data() const&& noexcept {
        detail::refuse_view_of_temporary<U>();
        return nullptr;
    }
    [[nodiscard]] std::size_t capacity() const noexcept { return buffer_.capacity(); }
    /// Whether no other list shares the elements: then a change is made in place.
    [[nodiscard]] bool is_unique() const noexcept { return buffer_.is_unique(); }
    [[nodiscard]] bool shares_with(const list& other) const noexcept { return buffer_.shares_with(other.buffer_); }

    // The other two forms of these changes, and what each change does: detail::ElementChanges.

    void push_in_place(T value) { buffer_.push(std::move(value)); }
    void pop_in_place() {
        detail::check_not_empty(this->size());
        buffer_.erase(this->size() - 1, 1);
    }
    void insert_in_place(std::size_t index, T value) {
        detail::check_index(index, this->size() + 1);
        buffer_.replace(index, 0, 1, [&](T* to, std::size_t& made) { buffer_.construct(to, made, std::move(value)); });
    }
    void remove_in_place(std::size_t index) {
        detail::check_index(index, this->size());
        buffer_.erase(index, 1);
    }
    void set_in_place(std::size_t index, T value) {
        detail::check_index(index, this->size());
        if (!buffer_.is_unique()) [[unlikely]]
            return set_in_copy(index, std::move(value));
        buffer_.writable()[index] = std::move(value);
    }
    template <std::invocable<T&> F>
    void update_in_place(std::size_t index, F&& change) {
        detail::check_index(index, this->size());
        buffer_.make_unique();
        T* const all = buffer_.writable();
        std::invoke(std::forward<F>(change), all[index]);
        detail::check_only_element_changed(buffer_.data() == all && buffer_.is_unique());
    }
    void reverse_in_place() {
        if (this->size() < 2) return;
        buffer_.make_unique();
        std::reverse(buffer_.writable(), buffer_.writable() + this->size());
    }
    template <class Less = std::less<>>
    void sort_in_place(Less less = {}) {
        if (this->size() < 2) return;
        buffer_.make_unique();
        std::stable_sort(buffer_.writable(), buffer_.writable() + this->size(), std::move(less));
    }
    void take_in_place(std::size_t count) {
        const std::size_t taken = std::min(count, this->size());
        buffer_.erase(taken, this->size() - taken);
    }
    void drop_in_place(std::size_t count) { buffer_.erase(0, std::min(count, this->size())); }
    /// Makes room for `capacity` elements, so that pushing them allocates nothing.
    [[VMCOW_RETURNS_CHANGED_COPY(reserve)]] list reserve(std::size_t capacity) const& {
        return list(*this).reserve(capacity);
    }
    [[VMCOW_RETURNS_ITSELF(reserve)]] list reserve(std::size_t capacity) && {
        reserve_in_place(capacity);
        return std::move(*this);
    }
    void reserve_in_place(std::size_t capacity) {
        if (capacity <= this->capacity()) return;
        buffer_.make_unique();
        buffer_.reserve(capacity);
    }
    void clear_in_place() noexcept { buffer_.drop(); }
    /// A slice of `count` elements from `first` on, cut at the end, as substr is. It keeps all of this list's memory.
    /// Throws: std::out_of_range -- `first` lies behind the end.
    /// Cost:   O(1).
    [[nodiscard]] heap::slice<T, kOptions, Allocator> slice(std::size_t first, std::size_t count) const& {
        return list(*this).slice(first, count);
    }
    [[nodiscard]] heap::slice<T, kOptions, Allocator> slice(std::size_t first, std::size_t count) && {
        const std::size_t taken = detail::checked_count(first, count, this->size());
        return heap::slice<T, kOptions, Allocator>(std::move(buffer_), first, taken);
    }

private:
    friend class heap::slice<T, kOptions, Allocator>;
    friend class detail::ElementChanges<list, T>;
    explicit list(Buffer&& buffer) noexcept : buffer_(std::move(buffer)) {}

    /// Replaces the element in a local list, so that only moves of the handle take the address of this one: a list that
    /// is set in place step by step stays in a register.
    void set_in_copy(std::size_t index, T&& value) {
        list mine(std::move(*this));
        try {
            mine.replace_one(index, std::move(value));
        } catch (...) {
            *this = std::move(mine);
            throw;
        }
        *this = std::move(mine);
    }
    void append_in_place(std::span<const T> others) { buffer_.append_copies(others.data(), others.size()); }
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
