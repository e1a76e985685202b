#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmcow/heap/block_array.hpp"

namespace vmcow::heap {

// NOLINTBEGIN(readability-identifier-naming): named as the containers of the standard library are.

/// Builds an array in bulk: elements are put one behind the other, without a lookup.
///
///     block_array<int>::builder squares;
///     for (int i = 0; i < 1000; ++i) squares.push_back(i * i);
///     const block_array<int> all = std::move(squares).build();
template <class T, Options kOptions, class Allocator>
class block_array<T, kOptions, Allocator>::builder {
public:
    explicit builder(const BlockShape& shape = default_shape(), const Allocator& allocator = Allocator())
        : array_(shape, allocator) {}
    /// Adds elements behind those of `begun`.
    explicit builder(block_array&& begun) : array_(std::move(begun)) {
        static_assert(std::is_nothrow_move_constructible_v<block_array>);
    }
    builder(const builder&) = delete;
    builder& operator=(const builder&) = delete;
    ~builder() = default;

    /// Throws: what the allocator and T throw; the elements before stay.
    void push_back(T element) {
        if constexpr (Nodes::kPlain) {
            if (next_ == end_) open_leaf();
            new (static_cast<void*>(next_)) T(std::move(element));
            ++next_;
        } else {
            array_.push_back_in_place(std::move(element));
        }
    }
    void append(std::span<const T> elements) {
        if constexpr (Nodes::kPlain) {
            while (!elements.empty()) {
                if (next_ == end_) open_leaf();
                const std::size_t count = std::min(elements.size(), static_cast<std::size_t>(end_ - next_));
                std::memcpy(static_cast<void*>(next_), elements.data(), count * sizeof(T));
                next_ += count;
                elements = elements.subspan(count);
            }
        } else {
            for (const T& element : elements) array_.push_back_in_place(element);
        }
    }
    [[nodiscard]] std::size_t size() const noexcept {
        if (next_ == nullptr) return array_.size();
        return begin_ + static_cast<std::size_t>(next_ - Nodes::elements(Nodes::at(array_.tail_)));
    }
    /// The array. The builder is empty afterwards.
    [[nodiscard]] block_array build() && {
        settle();
        next_ = end_ = nullptr;
        return std::move(array_);
    }

private:
    /// Opens a leaf with room for an element, which the caller must add next.
    /// Pre: the open leaf is full, or none is open.
    void open_leaf() {
        settle();
        std::size_t in_tail = array_.size_ - array_.tail_begin();
        if (array_.tail_ == nullptr || in_tail == array_.nodes_.leaf_capacity()) {
            array_.add_tail(array_.nodes_.make_leaf());
            begin_ = array_.size_;
            in_tail = 0;
        } else {
            array_.nodes_.truncate(array_.nodes_.own(array_.tail_, 0, in_tail), in_tail);
            begin_ = array_.tail_begin();
        }
        next_ = Nodes::elements(Nodes::at(array_.tail_)) + in_tail;
        end_ = next_ + (array_.nodes_.leaf_capacity() - in_tail);
    }
    /// Adds the elements in the open leaf to the size of the array.
    void settle() noexcept {
        if (next_ == nullptr) return;
        Node* const tail = Nodes::at(array_.tail_);
        tail->used = static_cast<std::uint16_t>(next_ - Nodes::elements(tail));
        array_.size_ = begin_ + tail->used;
    }

    block_array array_;  ///< its size has the elements in its tail only after `settle`
    T* next_ = nullptr;  ///< where the next element goes; equal to `end_` where the leaf is full, or none is open
    T* end_ = nullptr;
    std::size_t begin_ = 0;  ///< the index at which the open leaf begins
};

/// A run of elements.
struct IndexRange {
    std::size_t first = 0;
    std::size_t count = 0;

    bool operator==(const IndexRange&) const = default;
};

/// Where two arrays differ, in runs as long as possible. Elements that only the longer array has are different.
/// Cost: blocks that both share are not looked at; O(n) if their shapes differ.
template <class T, Options kOptions, class Allocator>
[[nodiscard]] std::vector<IndexRange> diff(const block_array<T, kOptions, Allocator>& a,
                                           const block_array<T, kOptions, Allocator>& b) {
    std::vector<IndexRange> runs;
    const auto add = [&](std::size_t first, std::size_t count) {
        if (!runs.empty() && runs.back().first + runs.back().count == first) {
            runs.back().count += count;
        } else if (count > 0) {
            runs.push_back({first, count});
        }
    };
    a.for_each_difference(b, [&](std::size_t first, std::span<const T> in_a, std::span<const T> in_b) {
        for (std::size_t i = 0; i < in_a.size(); ++i) {
            if (!(in_a[i] == in_b[i])) add(first + i, 1);
        }
        return true;
    });
    const auto [shorter, longer] = std::minmax({a.size(), b.size()});
    add(shorter, longer - shorter);
    return runs;
}

// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
