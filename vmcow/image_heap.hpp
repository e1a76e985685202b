#pragma once

#include <array>
#include <boost/interprocess/offset_ptr.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace vmcow {

/// The heap of an image: it lies in the image that it hands out memory of, and works at whatever address that is
/// mapped, because it points to its parts by their distance.
///
/// Threads: one at a time, like the image.
/// Source:  Boost.Interprocess, segment_manager with rbtree_best_fit.
class ImageHeap {
public:
    /// Bytes that a heap with nothing in it takes up.
    static constexpr std::size_t kLeastBytes = 1024;

    /// Makes a heap of `bytes` bytes of memory. Pre: `at` is aligned to 16 bytes, `bytes` is at least `kLeastBytes`.
    static ImageHeap* make_in(std::byte* at, std::size_t bytes);
    ImageHeap(const ImageHeap&) = delete;
    ImageHeap& operator=(const ImageHeap&) = delete;

    /// Throws: std::bad_alloc -- the heap is full, and nobody makes room (`HeapScope`). Cost: 50 ns.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment);
    void deallocate(void* memory) noexcept;

    /// The heap is `bytes` longer from now on.
    void extend(std::size_t bytes);
    [[nodiscard]] std::size_t bytes() const noexcept;
    [[nodiscard]] std::size_t free_bytes() const noexcept;

private:
    ImageHeap() = default;
};

/// Makes an image longer whose heap is full.
class HeapGrowth {
public:
    /// Extends the image by at least `bytes`, zeroed, without moving it; by how much, or 0 when that cannot be done.
    [[nodiscard]] virtual std::size_t grow(std::size_t bytes) = 0;

protected:
    ~HeapGrowth() = default;
};

/// By how much an image of `extent_bytes` grows when `bytes` more are needed, best first: as much again while it is
/// small, a quarter later on, up to 64 MiB; or, where there is no room for that, what is needed. Ends on a page.
[[nodiscard]] std::array<std::size_t, 2> growth_steps(std::size_t extent_bytes, std::size_t bytes) noexcept;

/// While it lives, this thread may change the value in one image: containers that are made in the image, and those that
/// are made on the stack meanwhile, take their memory there. Scopes nest.
class HeapScope {
public:
    /// `growth` may be nullptr: then the heap is as large as it is. Both must outlive the scope.
    HeapScope(ImageHeap& heap, HeapGrowth* growth) noexcept;
    ~HeapScope();
    HeapScope(const HeapScope&) = delete;
    HeapScope& operator=(const HeapScope&) = delete;

    /// The heap of the image that `address` lies in, if one is being changed; else nullptr.
    [[nodiscard]] static ImageHeap* heap_around(std::uintptr_t address) noexcept;
    /// The innermost scope's; nullptr outside of any: there memory comes from operator new.
    [[nodiscard]] static ImageHeap* innermost_heap() noexcept;
    /// Whether this thread may change the heap's image.
    [[nodiscard]] static bool is_open(const ImageHeap& heap) noexcept { return scope_of(&heap) != nullptr; }

private:
    friend class ImageHeap;
    [[nodiscard]] static HeapScope* scope_of(const ImageHeap* heap) noexcept;

    ImageHeap* heap_;
    HeapGrowth* growth_;
    HeapScope* outer_;
};

namespace detail {

/// Where the memory of a container comes from that does not lie in an image and has memory from operator new.
[[nodiscard]] inline ImageHeap* process_heap() noexcept { return reinterpret_cast<ImageHeap*>(std::uintptr_t{64}); }
/// Pre: not nullptr. Throws: std::bad_alloc.
[[nodiscard]] void* allocate_from(ImageHeap* heap, std::size_t bytes, std::size_t alignment);
void deallocate_to(ImageHeap* heap, void* memory, std::size_t alignment) noexcept;
/// Ends the process: a container with memory of its own was moved to where that memory does not belong.
[[noreturn]] void moved_between_heaps() noexcept;

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): the names that containers look for.

/// The allocator of containers that may lie in an image. A container that lies in an image has its memory there,
/// wherever it was copied from; what it holds, too. Outside of an image it has it where the innermost `HeapScope` says,
/// or else from operator new.
///
/// Copying and assigning between two heaps copies every element. So does moving a container into another one as an
/// element, or by assignment. Moving a struct that has containers as members from one heap into the image of another
/// cannot be done right, and ends the process with a message: copy it, or make it inside `edit`.
template <class T>
class allocator {
public:
    using value_type = T;
    using pointer = boost::interprocess::offset_ptr<T>;
    using const_pointer = boost::interprocess::offset_ptr<const T>;
    using void_pointer = boost::interprocess::offset_ptr<void>;
    using const_void_pointer = boost::interprocess::offset_ptr<const void>;
    using reference = T&;
    using const_reference = const T&;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using propagate_on_container_copy_assignment = std::false_type;
    using propagate_on_container_move_assignment = std::false_type;
    using propagate_on_container_swap = std::false_type;
    using is_always_equal = std::false_type;
    template <class U>
    struct rebind {
        using other = allocator<U>;
    };

    allocator() noexcept : heap_(around()) {}
    allocator(const allocator& other) noexcept { take(other.heap_.get()); }
    template <class U>
    allocator(const allocator<U>& other) noexcept {  // NOLINT(google-explicit-constructor): allocators convert
        take(other.heap_.get());
    }
    allocator& operator=(const allocator& other) noexcept {
        heap_ = other.heap_;
        return *this;
    }
    ~allocator() = default;

    [[nodiscard]] pointer allocate(size_type count) {
        if (count > max_size()) throw std::bad_alloc();
        if (heap_ == nullptr) heap_ = chosen();
        return pointer(static_cast<T*>(detail::allocate_from(heap_.get(), count * sizeof(T), alignof(T))));
    }
    void deallocate(const pointer& memory, size_type) noexcept {
        detail::deallocate_to(heap_ != nullptr ? heap_.get() : owner_of(memory.get()), memory.get(), alignof(T));
    }
    [[nodiscard]] static constexpr size_type max_size() noexcept { return (size_type{1} << 47) / sizeof(T); }

    /// Makes an element where the container is: what the element holds gets its memory from the same heap.
    template <class U, class... A>
    void construct(U* at, A&&... arguments) {
        std::uninitialized_construct_using_allocator(at, *this, std::forward<A>(arguments)...);
    }
    template <class U>
    void destroy(U* at) noexcept {
        std::destroy_at(at);
    }

    /// A copy belongs to where it will lie, which is not known yet.
    [[nodiscard]] allocator select_on_container_copy_construction() const noexcept { return {}; }

    /// Who compares two and finds them equal may go on to give one's container what the other's has: from then on it is
    /// decided where their memory comes from. Containers compare when they are moved or swapped, not when they are
    /// read.
    template <class U>
    bool operator==(const allocator<U>& other) const noexcept {
        if (chosen() != other.chosen()) return false;
        if (heap_ == nullptr) heap_ = chosen();
        if (other.heap_ == nullptr) other.heap_ = other.chosen();
        return true;
    }
    template <class U>
    bool operator!=(const allocator<U>& other) const noexcept {
        return !(*this == other);
    }

private:
    template <class U>
    friend class allocator;

    void take(ImageHeap* other) noexcept {
        ImageHeap* const here = around();
        if (here != nullptr && other != nullptr && other != here) detail::moved_between_heaps();
        heap_ = here != nullptr ? here : other;
    }
    /// As a number: nothing is read through this pointer.
    [[nodiscard]] ImageHeap* around() const noexcept {
        return HeapScope::heap_around(reinterpret_cast<std::uintptr_t>(this));
    }

    /// A container with several allocators compares one of them before it takes another's memory: those that were still
    /// undecided are so afterwards.
    [[nodiscard]] static ImageHeap* owner_of(const T* memory) noexcept {
        ImageHeap* const image = HeapScope::heap_around(reinterpret_cast<std::uintptr_t>(memory));
        return image != nullptr ? image : detail::process_heap();
    }

    /// Where this one's memory is or will be.
    [[nodiscard]] ImageHeap* chosen() const noexcept {
        if (heap_ != nullptr) return heap_.get();
        ImageHeap* const innermost = HeapScope::innermost_heap();
        return innermost != nullptr ? innermost : detail::process_heap();
    }

    /// nullptr: it has no memory yet, and lies in no image.
    mutable boost::interprocess::offset_ptr<ImageHeap> heap_;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow
