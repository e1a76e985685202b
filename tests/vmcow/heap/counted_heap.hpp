#pragma once

#include <boost/interprocess/offset_ptr.hpp>
#include <cstddef>
#include <limits>
#include <new>

namespace tests {

/// The counts that the allocators of one test share, and the allocation that is to fail.
struct CountedHeap {
    static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

    std::size_t blocks = 0;            ///< not yet given back
    std::size_t bytes = 0;             ///< in these blocks
    std::size_t allocations = 0;       ///< made so far
    std::size_t left_to_give = kNone;  ///< number of allocations that still succeed
};

// NOLINTBEGIN(readability-identifier-naming): the names that containers look for.

/// Allocates from a CountedHeap. Allocators of different heaps are not equal. Its pointers are offsets.
template <class T>
class HeapAllocator {
public:
    using value_type = T;
    using pointer = boost::interprocess::offset_ptr<T>;

    explicit HeapAllocator(CountedHeap& heap) noexcept : heap_(&heap) {}
    template <class U>
    HeapAllocator(const HeapAllocator<U>& other) noexcept : heap_(&other.heap()) {}  // NOLINT: allocators convert

    [[nodiscard]] pointer allocate(std::size_t count) {
        if (heap_->left_to_give == 0) throw std::bad_alloc();
        if (heap_->left_to_give != CountedHeap::kNone) --heap_->left_to_give;
        T* const memory = static_cast<T*>(::operator new(count * sizeof(T)));
        ++heap_->blocks;
        ++heap_->allocations;
        heap_->bytes += count * sizeof(T);
        return pointer(memory);
    }
    void deallocate(const pointer& memory, std::size_t count) noexcept {
        --heap_->blocks;
        heap_->bytes -= count * sizeof(T);
        ::operator delete(memory.get());
    }
    [[nodiscard]] CountedHeap& heap() const noexcept { return *heap_; }
    template <class U>
    bool operator==(const HeapAllocator<U>& other) const noexcept {
        return heap_ == &other.heap();
    }

private:
    CountedHeap* heap_;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace tests
