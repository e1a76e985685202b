#pragma once

#include "vmcow/heap/list.hpp"

namespace vmcow::heap {

// NOLINTBEGIN(readability-identifier-naming): named as containers are.

/// Some elements of a list, whose memory the slice keeps: `a.slice(3, 5)`, `std::move(a).slice(3, 5)`.
///
/// While the list or another slice shares that memory, a change copies the elements of the slice, not the rest. When
/// nothing else shares the memory, changes are made in place, and the first change that moves elements destroys those
/// behind the slice. A slice stays a slice; `to_list()` makes a list of it. Changes have the three forms of list, and
/// throw as those do. A slice that was moved from is empty and can be used again.
///
/// Memory: a slice of ten elements keeps the list's million in memory as long as the slice exists and is not changed.
///         An empty slice keeps none. `compact_in_place()` copies the ten elements and lets the others go.
/// Shape:  a pointer to the list's block, and the slice's beginning and length.
template <class T, Options kOptions, class Allocator>
class slice : public detail::ElementChanges<slice<T, kOptions, Allocator>, T> {
    using Buffer = detail::Buffer<T, kOptions, Allocator>;
    using List = list<T, kOptions, Allocator>;

public:
    using allocator_type = Allocator;

    slice() = default;
    explicit slice(const Allocator& allocator) noexcept : buffer_(allocator) {}
    slice(const slice& other) : first_(other.first_), count_(other.count_), buffer_(other.buffer_, first_, count_) {}
    slice(const slice& other, const Allocator& allocator)
        : first_(other.first_), count_(other.count_), buffer_(other.buffer_, first_, count_, allocator) {}
    slice(slice&& other) noexcept
        : first_(std::exchange(other.first_, 0)),
          count_(std::exchange(other.count_, 0)),
          buffer_(std::move(other.buffer_)) {}
    slice(slice&& other, const Allocator& allocator) : slice(other, allocator) { other.clear(); }
    slice& operator=(const slice& other) {
        if (this == &other) return *this;
        slice copy(other, get_allocator());
        buffer_ = std::move(copy.buffer_);
        first_ = copy.first_;
        count_ = copy.count_;
        return *this;
    }
    slice& operator=(slice&& other) noexcept(std::is_nothrow_move_assignable_v<Buffer>) {
        if (this == &other) return *this;
        if constexpr (std::is_nothrow_move_assignable_v<Buffer>) {
            buffer_ = std::move(other.buffer_);
            first_ = other.first_;
            count_ = other.count_;
        } else {
            *this = std::as_const(other);
        }
        other.clear();
        return *this;
    }
    ~slice() = default;
    void swap(slice& other) { detail::swap_by_moves(*this, other, get_allocator() == other.get_allocator()); }
    friend void swap(slice& a, slice& b) { a.swap(b); }

    [[nodiscard]] Allocator get_allocator() const noexcept { return buffer_.get_allocator(); }
    /// Good until this slice is changed, assigned, moved or destroyed.
    [[nodiscard]] std::span<const T> span() const& noexcept {
        return {count_ == 0 ? nullptr : buffer_.data() + first_, count_};
    }
    template <class U = T>
    [[nodiscard]] std::span<const T> span() const&& noexcept {
        detail::refuse_view_of_temporary<U>();
        return {};
    }
    /// Whether nothing else shares the memory: then a change is made in place.
    [[nodiscard]] bool is_unique() const noexcept { return buffer_.is_unique(); }
    [[nodiscard]] bool shares_with(const slice& other) const noexcept { return buffer_.shares_with(other.buffer_); }
    [[nodiscard]] bool shares_with(const List& other) const noexcept { return buffer_.shares_with(other.buffer_); }

    // The other two forms of these changes, and what each change does: detail::ElementChanges.

    void push_in_place(T value) { insert_in_place(count_, std::move(value)); }
    void pop_in_place() {
        detail::check_not_empty(count_);
        take_in_place(count_ - 1);
    }
    void insert_in_place(std::size_t index, T value) {
        detail::check_index(index, count_ + 1);
        replace(index, 0, 1, [&](T* to, std::size_t& made) { buffer_.construct(to, made, std::move(value)); });
    }
    /// The first and the last element are removed without a copy.
    void remove_in_place(std::size_t index) {
        detail::check_index(index, count_);
        if (index == 0) return drop_in_place(1);
        if (index == count_ - 1) return take_in_place(index);
        replace(index, 1, 0, [](T*, std::size_t&) {});
    }
    void set_in_place(std::size_t index, T value) {
        detail::check_index(index, count_);
        make_own();
        buffer_.writable()[first_ + index] = std::move(value);
    }
    template <std::invocable<T&> F>
    void update_in_place(std::size_t index, F&& change) {
        detail::check_index(index, count_);
        make_own();
        T* const all = buffer_.writable();
        std::invoke(std::forward<F>(change), all[first_ + index]);
        detail::check_only_element_changed(buffer_.data() == all && buffer_.is_unique());
    }
    void reverse_in_place() {
        if (count_ < 2) return;
        make_own();
        std::reverse(buffer_.writable() + first_, buffer_.writable() + first_ + count_);
    }
    template <class Less = std::less<>>
    void sort_in_place(Less less = {}) {
        if (count_ < 2) return;
        make_own();
        T* const begin = buffer_.writable() + first_;
        std::stable_sort(begin, begin + count_, std::move(less));
    }
    /// Takes all elements if there are fewer than `count`. Copies nothing.
    void take_in_place(std::size_t count) noexcept { narrow(0, std::min(count, count_)); }
    /// Drops all elements if there are fewer than `count`. Copies nothing.
    void drop_in_place(std::size_t count) noexcept {
        const std::size_t dropped = std::min(count, count_);
        narrow(dropped, count_ - dropped);
    }
    void clear_in_place() noexcept { clear(); }
    /// A slice of `count` elements from `first` on, cut at the end. It refers to the list's memory, not to this slice.
    /// Throws: std::out_of_range -- `first` lies behind the end.
    [[VMCOW_RETURNS_CHANGED_COPY(slice_of)]] slice slice_of(std::size_t first, std::size_t count) const& {
        return part(first, detail::checked_count(first, count, count_));
    }
    [[VMCOW_RETURNS_ITSELF(slice_of)]] slice slice_of(std::size_t first, std::size_t count) && {
        slice_of_in_place(first, count);
        return std::move(*this);
    }
    void slice_of_in_place(std::size_t first, std::size_t count) {
        narrow(first, detail::checked_count(first, count, count_));
    }
    /// Moves the elements to memory that holds nothing else, so that the rest of the list can go.
    [[VMCOW_RETURNS_CHANGED_COPY(compact)]] slice compact() const& { return slice(*this).compact(); }
    [[VMCOW_RETURNS_ITSELF(compact)]] slice compact() && {
        compact_in_place();
        return std::move(*this);
    }
    void compact_in_place() {
        if (count_ == buffer_.size()) return;
        buffer_.keep_only(first_, count_);
        first_ = 0;
    }
    /// A list of these elements. It takes over the memory if nothing else shares it, shares the memory if the slice has
    /// all its elements, and is a copy otherwise.
    [[nodiscard]] List to_list() const& { return slice(*this).to_list(); }
    [[nodiscard]] List to_list() && {
        if (first_ != 0 || count_ != buffer_.size()) {
            if (buffer_.is_unique()) {
                buffer_.erase(first_ + count_, buffer_.size() - first_ - count_);
                buffer_.erase(0, first_);
            } else {
                buffer_ = copy_of_own();
            }
        }
        first_ = count_ = 0;
        return List(std::move(buffer_));
    }

private:
    friend List;
    friend class detail::ElementChanges<slice, T>;
    slice(Buffer&& buffer, std::size_t first, std::size_t count) noexcept
        : first_(first), count_(count), buffer_(std::move(buffer)) {
        drop_if_empty();
    }
    slice(const slice& other, std::size_t first, std::size_t count)
        : first_(other.first_ + first), count_(count), buffer_(other.buffer_, first_, count_) {
        drop_if_empty();
    }

    [[nodiscard]] slice part(std::size_t first, std::size_t count) const { return slice(*this, first, count); }
    void append_in_place(std::span<const T> others) {
        if (others.empty()) return;
        replace(count_, 0, others.size(),
                [&](T* to, std::size_t& made) { buffer_.construct_copies(to, made, others.data(), others.size()); });
    }
    template <class Fill>
    void replace(std::size_t at, std::size_t removed, std::size_t count, const Fill& fill) {
        first_ = buffer_.replace_within(first_, count_, at, removed, count, fill);
        count_ = count_ - removed + count;
    }
    void narrow(std::size_t first, std::size_t count) noexcept {
        first_ += first;
        count_ = count;
        drop_if_empty();
    }
    /// An empty slice gives up shared memory: by sharing it, it would only make others copy.
    void drop_if_empty() noexcept {
        if (count_ == 0 && !buffer_.is_unique()) clear();
    }

    void make_own() {
        if (buffer_.is_unique()) return;
        buffer_ = copy_of_own();
        first_ = 0;
    }
    [[nodiscard]] Buffer copy_of_own() const { return detail::copy_of_range(buffer_, first_, count_, get_allocator()); }
    void clear() noexcept {
        buffer_.drop();
        first_ = count_ = 0;
    }

    std::size_t first_ = 0;
    std::size_t count_ = 0;
    Buffer buffer_;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
