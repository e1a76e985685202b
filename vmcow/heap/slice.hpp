#pragma once

#include "vmcow/heap/list.hpp"

namespace vmcow::heap {

// NOLINTBEGIN(readability-identifier-naming): named as containers are.

/// Some elements of a list, of which it keeps the memory: `a.slice(3, 5)`, `std::move(a).slice(3, 5)`.
///
/// While the list or another slice shares that memory, a change copies the elements of the slice, not the rest. Once
/// nobody does, changes are made in place. Operations have the two forms of list, and throw as those do.
///
/// Shape: a pointer to the list's block, where the slice begins and how long it is.
template <class T, Options kOptions, class Allocator>
class slice : public detail::ElementsFace<slice<T, kOptions, Allocator>, T> {
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

    [[nodiscard]] Allocator get_allocator() const noexcept { return buffer_.get_allocator(); }
    /// Good until this slice is changed, assigned or destroyed.
    [[nodiscard]] std::span<const T> span() const noexcept {
        return {count_ == 0 ? nullptr : buffer_.data() + first_, count_};
    }
    [[nodiscard]] bool is_unique() const noexcept { return buffer_.is_unique(); }
    [[nodiscard]] bool shares_with(const slice& other) const noexcept { return buffer_.shares_with(other.buffer_); }
    [[nodiscard]] bool shares_with(const List& other) const noexcept { return buffer_.shares_with(other.buffer_); }
    friend bool operator==(const slice& a, const slice& b) { return std::ranges::equal(a.span(), b.span()); }

    [[nodiscard]] slice set(std::size_t index, T value) const& { return slice(*this).set(index, std::move(value)); }
    [[nodiscard]] slice set(std::size_t index, T value) && {
        detail::check_index(index, count_);
        make_own();
        buffer_.writable()[first_ + index] = std::move(value);
        return std::move(*this);
    }
    /// As list::update.
    template <std::invocable<T&> F>
    [[nodiscard]] slice update(std::size_t index, F&& change) const& {
        return slice(*this).update(index, std::forward<F>(change));
    }
    template <std::invocable<T&> F>
    [[nodiscard]] slice update(std::size_t index, F&& change) && {
        detail::check_index(index, count_);
        make_own();
        std::invoke(std::forward<F>(change), buffer_.writable()[first_ + index]);
        return std::move(*this);
    }
    [[nodiscard]] slice reverse() const& { return slice(*this).reverse(); }
    [[nodiscard]] slice reverse() && {
        if (count_ < 2) return std::move(*this);
        make_own();
        std::reverse(buffer_.writable() + first_, buffer_.writable() + first_ + count_);
        return std::move(*this);
    }
    /// As list::sort.
    template <class Less = std::less<>>
    [[nodiscard]] slice sort(Less less = {}) const& {
        return slice(*this).sort(std::move(less));
    }
    template <class Less = std::less<>>
    [[nodiscard]] slice sort(Less less = {}) && {
        if (count_ < 2) return std::move(*this);
        make_own();
        T* const begin = buffer_.writable() + first_;
        std::stable_sort(begin, begin + count_, std::move(less));
        return std::move(*this);
    }
    /// Of a slice that has less, all or none.
    [[nodiscard]] slice take(std::size_t count) const& { return slice(*this).take(count); }
    [[nodiscard]] slice take(std::size_t count) && {
        count_ = std::min(count, count_);
        return std::move(*this);
    }
    [[nodiscard]] slice drop(std::size_t count) const& { return slice(*this).drop(count); }
    [[nodiscard]] slice drop(std::size_t count) && {
        const std::size_t dropped = std::min(count, count_);
        first_ += dropped;
        count_ -= dropped;
        return std::move(*this);
    }
    /// Throws: std::out_of_range -- `first` lies behind the end.
    [[nodiscard]] slice slice_of(std::size_t first, std::size_t count) const& {
        return slice(*this).slice_of(first, count);
    }
    [[nodiscard]] slice slice_of(std::size_t first, std::size_t count) && {
        const std::size_t taken = detail::checked_count(first, count, count_);
        return std::move(*this).drop(first).take(taken);
    }
    /// A list of these elements. In place if nobody shares the memory; shared, if these are all that is in it.
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
    slice(Buffer&& buffer, std::size_t first, std::size_t count) noexcept
        : first_(first), count_(count), buffer_(std::move(buffer)) {}

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
