#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <stdexcept>

namespace vmcow::heap {
namespace detail {

/// Goes through a `block_array` by index. After a change of the array it reads the element that is at its index then.
template <class Array>
class BlockIterator {
public:
    // NOLINTBEGIN(readability-identifier-naming): what std::iterator_traits looks for.
    using iterator_category = std::random_access_iterator_tag;
    using value_type = typename Array::value_type;
    using difference_type = std::ptrdiff_t;
    using pointer = const value_type*;
    using reference = const value_type&;
    // NOLINTEND(readability-identifier-naming)

    BlockIterator() = default;
    BlockIterator(const Array& array, std::size_t index) noexcept : array_(&array), index_(index) {}

    /// Throws: std::out_of_range -- the index is past the end of the array.
    [[nodiscard]] reference operator*() const {
        if (at_ == end_ || changes_ != array_->changes_) locate();
        return *at_;
    }
    [[nodiscard]] pointer operator->() const { return &**this; }
    [[nodiscard]] reference operator[](difference_type by) const { return *(*this + by); }

    BlockIterator& operator++() noexcept {
        ++index_;
        if (at_ != end_) ++at_;
        return *this;
    }
    BlockIterator operator++(int) noexcept {
        const BlockIterator before = *this;
        ++*this;
        return before;
    }
    BlockIterator& operator--() noexcept { return *this -= 1; }
    BlockIterator operator--(int) noexcept {
        const BlockIterator before = *this;
        --*this;
        return before;
    }
    BlockIterator& operator+=(difference_type by) noexcept {
        index_ = moved(by);
        at_ = end_ = nullptr;
        return *this;
    }
    BlockIterator& operator-=(difference_type by) noexcept { return *this += -by; }
    [[nodiscard]] friend BlockIterator operator+(BlockIterator from, difference_type by) noexcept { return from += by; }
    [[nodiscard]] friend BlockIterator operator+(difference_type by, BlockIterator from) noexcept { return from += by; }
    [[nodiscard]] friend BlockIterator operator-(BlockIterator from, difference_type by) noexcept { return from -= by; }
    [[nodiscard]] difference_type operator-(const BlockIterator& other) const noexcept {
        return static_cast<difference_type>(index_) - static_cast<difference_type>(other.index_);
    }
    [[nodiscard]] bool operator==(const BlockIterator& other) const noexcept { return index_ == other.index_; }
    [[nodiscard]] std::strong_ordering operator<=>(const BlockIterator& other) const noexcept {
        return index_ <=> other.index_;
    }

private:
    [[nodiscard]] std::size_t moved(difference_type by) const noexcept {
        return static_cast<std::size_t>(static_cast<difference_type>(index_) + by);
    }
    void locate() const {
        if (array_ == nullptr) throw std::out_of_range("an iterator of no block_array");
        const std::span<const value_type> leaf = array_->leaf_from(index_);
        at_ = leaf.data();
        end_ = at_ + leaf.size();
        changes_ = array_->changes_;
    }

    const Array* array_ = nullptr;
    std::size_t index_ = 0;
    mutable pointer at_ = nullptr;  ///< where the element is; equal to `end_` if it is still to be located
    mutable pointer end_ = nullptr;
    mutable std::uint64_t changes_ = 0;
};

}  // namespace detail
}  // namespace vmcow::heap
