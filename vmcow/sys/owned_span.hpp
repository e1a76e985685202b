#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace vmcow {

/// The elements of an image together with the owner that keeps the image. An accessor of a temporary image returns it,
/// so that `for (long x : snapshot.map_private().as<long>())` goes over memory that is still there.
template <class Owner, class T>
class OwnedSpan {
public:
    using value_type = T;  // NOLINT(readability-identifier-naming): as in std::span
    using iterator = typename std::span<T>::iterator;

    /// Pre: `elements` stay where they are when the owner is moved.
    OwnedSpan(Owner owner, std::span<T> elements) : owner_(std::move(owner)), elements_(elements) {}

    [[nodiscard]] iterator begin() const noexcept { return elements_.begin(); }
    [[nodiscard]] iterator end() const noexcept { return elements_.end(); }
    [[nodiscard]] T* data() const noexcept { return elements_.data(); }
    [[nodiscard]] std::size_t size() const noexcept { return elements_.size(); }
    [[nodiscard]] bool empty() const noexcept { return elements_.empty(); }
    [[nodiscard]] T& operator[](std::size_t index) const { return elements_[index]; }
    [[nodiscard]] T& front() const { return elements_.front(); }
    [[nodiscard]] T& back() const { return elements_.back(); }
    /// Valid as long as this object lives.
    [[nodiscard]] std::span<T> span() const& noexcept { return elements_; }

private:
    Owner owner_;
    std::span<T> elements_;
};

}  // namespace vmcow
