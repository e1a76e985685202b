#pragma once

#include <array>
#include <boost/interprocess/offset_ptr.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "vmcow/units.hpp"

namespace vmcow {

/// The heap of an image. It lies in the image whose memory it hands out, and works at any address at which the image is
/// mapped, because it points to its parts by their distance.
///
/// Threads: one at a time, like the image.
/// Source:  Boost.Interprocess, segment_manager with rbtree_best_fit.
class ImageHeap {
public:
    /// The size of the smallest heap: what an empty heap takes up.
    static constexpr std::size_t kLeastBytes = 512;

    /// Makes a heap of `bytes` bytes of memory. Pre: `at` is aligned to 16 bytes, `bytes` is at least `kLeastBytes`.
    static ImageHeap* make_in(std::byte* at, std::size_t bytes);
    ImageHeap(const ImageHeap&) = delete;
    ImageHeap& operator=(const ImageHeap&) = delete;

    /// Throws: std::bad_alloc -- the heap is full, and the innermost scope of it (`HeapScope`) cannot make room.
    /// Cost:   50 ns.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment);
    void deallocate(void* memory) noexcept;

    /// Adds the `bytes` behind the heap to it.
    void extend(std::size_t bytes);
    /// Gives up the free memory at the end of the heap. Cost: 30 ns.
    void shrink() noexcept;
    [[nodiscard]] std::size_t bytes() const noexcept;
    [[nodiscard]] std::size_t free_bytes() const noexcept;

private:
    ImageHeap() = default;
};

/// Extends an image whose heap is full.
class HeapGrowth {
public:
    /// Extends the image by at least `bytes`, zeroed, without moving it. Returns by how much, or 0 when that cannot be
    /// done.
    [[nodiscard]] virtual std::size_t grow(std::size_t bytes) = 0;
    /// Notes that the image will hold something that is aligned more strictly than heaps align by themselves.
    virtual void note_alignment(std::size_t alignment) noexcept = 0;

protected:
    ~HeapGrowth() = default;
};

/// By how much an image of `extent_bytes` grows when `bytes` more are needed, best first: as much again while the image
/// is small, a quarter later on, up to 64 MiB; or, where there is no room for that, what is needed. The image then ends
/// on a page.
[[nodiscard]] std::array<std::size_t, 2> growth_steps(std::size_t extent_bytes, std::size_t bytes) noexcept;

/// While a scope lives, its thread may change the value in one image: containers that are made in the image, and
/// containers that are made on the stack meanwhile, take their memory from the image. Scopes nest.
class HeapScope {
public:
    /// `growth` may be nullptr: then the heap does not grow. Pre: both outlive the scope.
    HeapScope(ImageHeap& heap, HeapGrowth* growth) noexcept;
    ~HeapScope();
    HeapScope(const HeapScope&) = delete;
    HeapScope& operator=(const HeapScope&) = delete;

    /// The heap that `address` lies in, if this thread has a scope of that heap; else nullptr.
    [[nodiscard]] static ImageHeap* heap_around(std::uintptr_t address) noexcept;
    /// The heap of this thread's innermost scope; nullptr outside of all scopes, where memory comes from operator new.
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

/// Stands for operator new: the heap of a container that lies in no image and has memory from operator new.
[[nodiscard]] inline ImageHeap* process_heap() noexcept { return reinterpret_cast<ImageHeap*>(std::uintptr_t{64}); }
/// Pre: `heap` is not nullptr. Throws: std::bad_alloc.
[[nodiscard]] void* allocate_from(ImageHeap* heap, std::size_t bytes, std::size_t alignment);
void deallocate_to(ImageHeap* heap, void* memory, std::size_t alignment) noexcept;
/// Ends the process: a container was moved into an image, but has its memory elsewhere.
[[noreturn]] void moved_between_heaps() noexcept;

}  // namespace detail

namespace detail {

/// The header of an image that has a heap.
///
///     | header | heap: the object, and all that its containers hold |
struct ValueHeader {
    static constexpr std::uint64_t kMagic = 0x31'65'75'6c'61'56'6d'76;  // "vmValue1"

    std::uint64_t magic = kMagic;
    std::uint64_t type = 0;
    std::uint64_t object = 0;     ///< the offset of the object in the image
    std::uint64_t alignment = 0;  ///< the strictest alignment in the image; 0 is unknown
    std::uint64_t reserved[4] = {};
};
static_assert(sizeof(ValueHeader) == 64);

[[nodiscard]] inline ImageHeap& heap_of(std::byte* image) noexcept {
    return *std::launder(reinterpret_cast<ImageHeap*>(image + sizeof(ValueHeader)));
}

/// The alignment that an image with a header needs.
[[nodiscard]] inline std::size_t alignment_of(const std::byte* image) noexcept {
    const std::uint64_t said = reinterpret_cast<const ValueHeader*>(image)->alignment;
    return said != 0 && said <= kPageBytes ? said : kPageBytes;
}
inline void note_alignment(std::byte* image, std::size_t alignment) noexcept {
    auto& known = reinterpret_cast<ValueHeader*>(image)->alignment;
    if (known != 0 && known < alignment) known = alignment;
}

/// Makes the header and the heap of an image of `bytes` zeroed bytes.
/// Pre: the header and a heap of `ImageHeap::kLeastBytes` fit.
void begin_image(std::byte* image, std::size_t bytes, std::uint64_t type);

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): the names that containers look for.

/// The allocator of containers that may lie in an image. A container in an image takes its memory from that image,
/// wherever it was copied from, and so do its elements. A container outside of images takes its memory from the
/// innermost `HeapScope`, or else from operator new.
///
/// Copying and assigning between two heaps copies every element. So does moving a container from one heap into another,
/// as an element or by assignment. Moving a struct that has containers as members from one heap into the image of
/// another cannot be done right, and ends the process with a message: copy the struct, or make it inside `edit`.
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

    /// Makes an element with this allocator, so that containers in the element take their memory from the same heap.
    template <class U, class... A>
    void construct(U* at, A&&... arguments) {
        std::uninitialized_construct_using_allocator(at, *this, std::forward<A>(arguments)...);
    }
    template <class U>
    void destroy(U* at) noexcept {
        std::destroy_at(at);
    }

    /// An undecided allocator: the heap of a copy depends on where the copy will lie, which is not known yet.
    [[nodiscard]] allocator select_on_container_copy_construction() const noexcept { return {}; }

    /// Decides the heaps of two allocators that are found equal: the container that compares them may then hand the
    /// memory of one over to the other. Containers compare when they are moved or swapped, not when they are read.
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
    /// The heap that this allocator lies in. Its address is passed as a number: nothing is read through it.
    [[nodiscard]] ImageHeap* around() const noexcept {
        return HeapScope::heap_around(reinterpret_cast<std::uintptr_t>(this));
    }

    /// The heap that `memory` came from. It is needed for an undecided allocator: a container with several allocators
    /// compares only one of them before it takes over memory, and the others stay undecided.
    [[nodiscard]] static ImageHeap* owner_of(const T* memory) noexcept {
        ImageHeap* const image = HeapScope::heap_around(reinterpret_cast<std::uintptr_t>(memory));
        return image != nullptr ? image : detail::process_heap();
    }

    /// The heap that this allocator's memory comes from or will come from.
    [[nodiscard]] ImageHeap* chosen() const noexcept {
        if (heap_ != nullptr) return heap_.get();
        ImageHeap* const innermost = HeapScope::innermost_heap();
        return innermost != nullptr ? innermost : detail::process_heap();
    }

    /// nullptr while undecided: the allocator has given no memory yet, and lies in no image.
    mutable boost::interprocess::offset_ptr<ImageHeap> heap_;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow
