#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "vmcow/heap/sharing.hpp"

namespace vmcow::heap::detail {

// NOLINTBEGIN(readability-identifier-naming): the names that containers look for.

/// An allocator that takes memory from `Base` and counts it in `counters()`.
template <class Base>
class CountingAllocator : public Base {
    using Traits = std::allocator_traits<Base>;

public:
    template <class U>
    struct rebind {
        using other = CountingAllocator<typename Traits::template rebind_alloc<U>>;
    };

    CountingAllocator() = default;
    CountingAllocator(const Base& base) noexcept : Base(base) {}  // NOLINT(google-explicit-constructor): converts
    template <class Other>
    requires std::constructible_from<Base, const Other&> CountingAllocator(const CountingAllocator<Other>& other)
    noexcept  // NOLINT(google-explicit-constructor)
        : Base(static_cast<const Other&>(other)) {}

    [[nodiscard]] typename Traits::pointer allocate(typename Traits::size_type count) {
        auto memory = Traits::allocate(*this, count);
        count_allocation<Options{.counted = true}>(count * sizeof(typename Traits::value_type));
        return memory;
    }
    [[nodiscard]] CountingAllocator select_on_container_copy_construction() const {
        return Traits::select_on_container_copy_construction(*this);
    }
};
// NOLINTEND(readability-identifier-naming)

/// The allocator of `U` that a structure with these options uses in place of `Allocator`.
template <class U, Options kOptions, class Allocator>
struct AllocatorFor {
    using Plain = typename std::allocator_traits<Allocator>::template rebind_alloc<U>;
    using Type = std::conditional_t<kOptions.counted, CountingAllocator<Plain>, Plain>;
};

/// Assigns the allocator of another handle, whose memory a handle is about to share or take. The two are equal; but an
/// allocator may have been undecided as to where its memory comes from.
template <class Allocator>
void adopt_allocator(Allocator& to, const Allocator& from) noexcept {
    if constexpr (std::is_copy_assignable_v<Allocator>) to = from;
}

}  // namespace vmcow::heap::detail
