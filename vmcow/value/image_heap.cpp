#include "vmcow/value/image_heap.hpp"

#include <algorithm>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/segment_manager.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>
#include <cstdio>
#include <cstdlib>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow {
namespace {

using Segment = boost::interprocess::segment_manager_base<
    boost::interprocess::rbtree_best_fit<boost::interprocess::null_mutex_family>>;

/// The Boost heap that an `ImageHeap` is: the class itself has no members.
Segment& segment(ImageHeap* heap) noexcept { return *reinterpret_cast<Segment*>(heap); }
const Segment& segment(const ImageHeap* heap) noexcept { return *reinterpret_cast<const Segment*>(heap); }

thread_local HeapScope* innermost = nullptr;

}  // namespace

ImageHeap* ImageHeap::make_in(std::byte* at, std::size_t bytes) {
    VMCOW_ASSERT(reinterpret_cast<std::uintptr_t>(at) % Segment::memory_algorithm::Alignment == 0);
    VMCOW_ASSERT(bytes >= kLeastBytes && kLeastBytes >= Segment::get_min_size(0));
    return reinterpret_cast<ImageHeap*>(new (at) Segment(bytes, 0));
}

void* ImageHeap::allocate(std::size_t bytes, std::size_t alignment) {
    constexpr std::size_t kAlwaysAligned = Segment::memory_algorithm::Alignment;
    const HeapScope* const scope = HeapScope::scope_of(this);
    if (alignment > kAlwaysAligned && scope != nullptr && scope->growth_ != nullptr) {
        scope->growth_->note_alignment(alignment);
    }
    const auto try_once = [&]() -> void* {
        if (alignment <= kAlwaysAligned) return segment(this).allocate(bytes, std::nothrow);
        return segment(this).allocate_aligned(bytes, alignment, std::nothrow);
    };
    if (void* const memory = try_once()) return memory;
    if (scope == nullptr || scope->growth_ == nullptr) throw std::bad_alloc();
    // Besides the bytes, the block needs a few that hold its length, and what its alignment takes.
    const std::size_t grown = scope->growth_->grow(bytes + alignment + kLeastBytes);
    if (grown == 0) throw std::bad_alloc();
    extend(grown);
    if (void* const memory = try_once()) return memory;
    throw std::bad_alloc();
}

void ImageHeap::deallocate(void* memory) noexcept { segment(this).deallocate(memory); }

void ImageHeap::extend(std::size_t bytes) { segment(this).grow(bytes); }

void ImageHeap::shrink() noexcept { segment(this).shrink_to_fit(); }

std::size_t ImageHeap::bytes() const noexcept { return segment(this).get_size(); }

std::size_t ImageHeap::free_bytes() const noexcept { return segment(this).get_free_memory(); }

std::array<std::size_t, 2> growth_steps(std::size_t extent_bytes, std::size_t bytes) noexcept {
    constexpr std::size_t kLargestStep = std::size_t{64} << 20;
    const std::size_t step = extent_bytes < kHugeBytes ? extent_bytes : std::min(extent_bytes / 4, kLargestStep);
    const auto to_page = [&](std::size_t more) { return round_up(extent_bytes + more, kPageBytes) - extent_bytes; };
    return {to_page(std::max(bytes, step)), to_page(bytes)};
}

HeapScope::HeapScope(ImageHeap& heap, HeapGrowth* growth) noexcept : heap_(&heap), growth_(growth), outer_(innermost) {
    innermost = this;
}

HeapScope::~HeapScope() {
    VMCOW_ASSERT(innermost == this && "scopes nest");
    innermost = outer_;
}

HeapScope* HeapScope::scope_of(const ImageHeap* heap) noexcept {
    HeapScope* scope = innermost;
    while (scope != nullptr && scope->heap_ != heap) scope = scope->outer_;
    return scope;
}

ImageHeap* HeapScope::heap_around(std::uintptr_t at) noexcept {
    for (const HeapScope* scope = innermost; scope != nullptr; scope = scope->outer_) {
        const auto begin = reinterpret_cast<std::uintptr_t>(scope->heap_);
        if (at >= begin && at - begin < scope->heap_->bytes()) return scope->heap_;
    }
    return nullptr;
}

ImageHeap* HeapScope::innermost_heap() noexcept { return innermost == nullptr ? nullptr : innermost->heap_; }

namespace detail {
namespace {

/// Reports a bug of the caller that no compiler finds, and ends the process.
[[noreturn]] void fail(const char* what) noexcept {
    static_cast<void>(std::fprintf(stderr, "vmcow: %s\n", what));
    std::abort();
}

void expect_scope(ImageHeap* heap) noexcept {
    if (HeapScope::is_open(*heap)) return;
    fail("a container that has its memory in a value was changed or destroyed outside of edit()");
}

}  // namespace

void* allocate_from(ImageHeap* heap, std::size_t bytes, std::size_t alignment) {
    VMCOW_ASSERT(heap != nullptr && "an allocator decides where its memory comes from before it takes any");
    if (heap == process_heap()) return ::operator new (bytes, std::align_val_t{alignment});
    expect_scope(heap);
    return heap->allocate(bytes, alignment);
}

void deallocate_to(ImageHeap* heap, void* memory, std::size_t alignment) noexcept {
    if (heap == process_heap()) return ::operator delete (memory, std::align_val_t{alignment});
    expect_scope(heap);
    heap->deallocate(memory);
}

void moved_between_heaps() noexcept {
    fail(
        "a struct with containers that have their memory elsewhere was moved into a value: copy it, or make it inside "
        "edit()");
}

}  // namespace detail
}  // namespace vmcow
