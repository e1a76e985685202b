#pragma once

#include <boost/iterator/iterator_facade.hpp>
#include <cstddef>
#include <stdexcept>

namespace vmcow::heap {

/// An iterator that is an index: it reads the element that the object has at this index when it is read.
///
/// When the object changes, positions stay valid. Reading a position that is past the end then throws
/// std::out_of_range, and a loop that has begun ends where the end was when it began. To go over the elements that an
/// object had before a change, go over a copy of it, which costs nothing. Pre: the object outlives its positions.
template <class Owner>
class Position : public boost::iterator_facade<Position<Owner>, const typename Owner::value_type,
                                               boost::random_access_traversal_tag> {
public:
    Position() = default;
    Position(const Owner& owner, std::size_t at) noexcept : owner_(&owner), at_(at) {}

    [[nodiscard]] std::size_t index() const noexcept { return at_; }

private:
    friend class boost::iterator_core_access;

    // NOLINTBEGIN(readability-identifier-naming): the names that iterator_facade calls.
    [[nodiscard]] const typename Owner::value_type& dereference() const {
        if (owner_ == nullptr) throw std::out_of_range("a position of no object");
        return owner_->at(at_);
    }
    [[nodiscard]] bool equal(const Position& other) const noexcept { return at_ == other.at_; }
    void increment() noexcept { ++at_; }
    void decrement() noexcept { --at_; }
    void advance(std::ptrdiff_t by) noexcept { at_ += static_cast<std::size_t>(by); }
    [[nodiscard]] std::ptrdiff_t distance_to(const Position& other) const noexcept {
        return static_cast<std::ptrdiff_t>(other.at_ - at_);
    }
    // NOLINTEND(readability-identifier-naming)

    const Owner* owner_ = nullptr;
    std::size_t at_ = 0;
};

}  // namespace vmcow::heap
