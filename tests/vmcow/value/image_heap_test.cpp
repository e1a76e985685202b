// Tests the heap in an image: its blocks, the scopes in which it is used, and what happens when it is full.
#include "vmcow/value/image_heap.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "vmcow/containers.hpp"
#include "vmcow/units.hpp"

namespace {

using vmcow::HeapScope;
using vmcow::ImageHeap;
using vmcow::kPageBytes;

/// A heap in its own memory, with `room` bytes behind it to grow into.
class HeapInMemory final : public vmcow::HeapGrowth {
public:
    explicit HeapInMemory(std::size_t bytes, std::size_t room = 0) : memory_(bytes + room), bytes_(bytes) {
        ImageHeap::make_in(memory_.data(), bytes);
    }
    /// Copies the bytes of another heap to another address.
    HeapInMemory(const HeapInMemory& other) = default;

    [[nodiscard]] ImageHeap& heap() { return *std::launder(reinterpret_cast<ImageHeap*>(memory_.data())); }
    [[nodiscard]] bool contains(const void* at, std::size_t bytes) const {
        const auto offset = reinterpret_cast<std::uintptr_t>(at) - reinterpret_cast<std::uintptr_t>(memory_.data());
        return offset < bytes_ && bytes <= bytes_ - offset;
    }
    template <class T>
    [[nodiscard]] T* moved_here(const T* there, const HeapInMemory& from) {
        return reinterpret_cast<T*>(memory_.data() + (reinterpret_cast<const std::byte*>(there) - from.memory_.data()));
    }

    /// Grows by what is asked for, rounded up to 16, and no more.
    [[nodiscard]] std::size_t grow(std::size_t bytes) override {
        ++growths_;
        const std::size_t whole = vmcow::round_up(bytes, 16);
        if (bytes > memory_.size() || whole > memory_.size() - bytes_) return 0;
        bytes_ += whole;
        return whole;
    }
    void note_alignment(std::size_t alignment) noexcept override { alignment_ = std::max(alignment_, alignment); }
    [[nodiscard]] int growths() const { return growths_; }
    [[nodiscard]] std::size_t noted_alignment() const { return alignment_; }

private:
    std::vector<std::byte> memory_;
    std::size_t bytes_;
    int growths_ = 0;
    std::size_t alignment_ = 0;
};

TEST(ImageHeapTest, TheSmallestHeapHasRoom) {
    HeapInMemory memory(ImageHeap::kLeastBytes);
    EXPECT_TRUE(memory.contains(memory.heap().allocate(1, 1), 1));
    EXPECT_EQ(memory.heap().bytes(), ImageHeap::kLeastBytes);
}

TEST(ImageHeapTest, EveryAlignmentIsKept) {
    HeapInMemory memory(std::size_t{1} << 20);
    for (int round = 0; round < 3; ++round) {
        for (std::size_t alignment = 1; alignment <= 2 * kPageBytes; alignment *= 2) {
            void* const at = memory.heap().allocate(24 + alignment, alignment);
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(at) % alignment, 0U) << alignment;
            EXPECT_TRUE(memory.contains(at, 24 + alignment));
        }
    }
}

TEST(ImageHeapTest, AFullHeapThrowsAndHasAllOfItsRoomWhenItIsEmptyAgain) {
    HeapInMemory memory(std::size_t{64} << 10);
    ImageHeap& heap = memory.heap();
    const std::size_t free_bytes = heap.free_bytes();
    for (int round = 0; round < 3; ++round) {
        std::vector<void*> blocks;
        EXPECT_THROW(for (;;) blocks.push_back(heap.allocate(100, 8)), std::bad_alloc);
        EXPECT_GE(blocks.size(), 500U);
        EXPECT_LT(heap.free_bytes(), 200U);
        for (void* const block : blocks) heap.deallocate(block);
        EXPECT_EQ(heap.free_bytes(), free_bytes);
    }
    // The free pieces are one block again.
    EXPECT_NO_THROW(heap.deallocate(heap.allocate(free_bytes - 64, 8)));
}

TEST(ImageHeapTest, WhatIsTooLargeForAnyHeapIsRefused) {
    HeapInMemory memory(kPageBytes, kPageBytes);
    const HeapScope scope(memory.heap(), &memory);
    const std::size_t free_bytes = memory.heap().free_bytes();
    EXPECT_THROW(static_cast<void>(memory.heap().allocate(std::size_t{1} << 47, 8)), std::bad_alloc);
    EXPECT_THROW(static_cast<void>(memory.heap().allocate(2 * kPageBytes, 64)), std::bad_alloc);
    EXPECT_EQ(memory.heap().free_bytes(), free_bytes);
    EXPECT_EQ(memory.growths(), 2);
    vmcow::vector<long> numbers;
    EXPECT_THROW(numbers.reserve(std::size_t{1} << 50), std::exception);
    EXPECT_NO_THROW(numbers.reserve(10));
}

TEST(ImageHeapTest, ALongerHeapHasThatMuchMoreRoom) {
    HeapInMemory memory(kPageBytes, kPageBytes);
    ImageHeap& heap = memory.heap();
    const std::size_t free_bytes = heap.free_bytes();
    ASSERT_EQ(memory.grow(kPageBytes), kPageBytes);
    heap.extend(kPageBytes);
    EXPECT_EQ(heap.bytes(), 2 * kPageBytes);
    EXPECT_EQ(heap.free_bytes(), free_bytes + kPageBytes);
    EXPECT_NO_THROW(static_cast<void>(heap.allocate(free_bytes + kPageBytes - 64, 8)));
}

// The growth that `allocate` asks for is enough, whatever is left free before and whatever alignment is wanted.
RC_GTEST_PROP(ImageHeapPropertyTest, GrowingByWhatIsAskedForIsEnough, ()) {
    HeapInMemory memory(ImageHeap::kLeastBytes, std::size_t{8} << 20);
    const HeapScope scope(memory.heap(), &memory);
    const int count = *rc::gen::inRange(1, 20);
    for (int i = 0; i < count; ++i) {
        const std::size_t alignment = std::size_t{1} << *rc::gen::inRange(0, 14);
        const auto bytes = *rc::gen::inRange<std::size_t>(1, 20'000);
        void* const at = memory.heap().allocate(bytes, alignment);
        RC_ASSERT(reinterpret_cast<std::uintptr_t>(at) % alignment == 0U);
        RC_ASSERT(memory.contains(at, bytes));
        std::memset(at, 0xff, bytes);
    }
}

// Blocks never overlap and no memory is lost, also with growth and after a move to another address.
RC_GTEST_PROP(ImageHeapPropertyTest, BlocksKeepTheirBytesUntilTheyAreGivenBack, ()) {
    struct Block {
        std::size_t bytes;
        unsigned char mark;
    };
    auto memory = std::make_unique<HeapInMemory>(ImageHeap::kLeastBytes, std::size_t{4} << 20);
    std::map<unsigned char*, Block> blocks;
    const auto is_whole = [](const auto& each) {
        const auto& [at, block] = each;
        return std::all_of(at, at + block.bytes, [mark = block.mark](unsigned char byte) { return byte == mark; });
    };
    const int steps = *rc::gen::inRange(1, 150);
    for (int i = 0; i < steps; ++i) {
        const int step = *rc::gen::weightedElement<int>({{6, 0}, {4, 1}, {1, 2}});
        if (step == 0) {
            const HeapScope scope(memory->heap(), memory.get());
            const auto bytes = *rc::gen::weightedOneOf<std::size_t>(
                {{4, rc::gen::inRange<std::size_t>(1, 200)}, {1, rc::gen::inRange<std::size_t>(200, 9000)}});
            const std::size_t alignment = std::size_t{1} << *rc::gen::inRange(0, 7);
            auto* const at = static_cast<unsigned char*>(memory->heap().allocate(bytes, alignment));
            const auto mark = static_cast<unsigned char>(i + 1);
            std::memset(at, mark, bytes);
            RC_ASSERT(blocks.emplace(at, Block{bytes, mark}).second);
        } else if (step == 1 && !blocks.empty()) {
            const auto at = std::next(blocks.begin(), *rc::gen::inRange<std::ptrdiff_t>(0, std::ssize(blocks)));
            memory->heap().deallocate(at->first);
            blocks.erase(at);
        } else if (step == 2) {
            auto copy = std::make_unique<HeapInMemory>(*memory);
            std::map<unsigned char*, Block> moved;
            for (const auto& [at, block] : blocks) moved.emplace(copy->moved_here(at, *memory), block);
            memory = std::move(copy);
            blocks = std::move(moved);
        }
        RC_ASSERT(std::all_of(blocks.begin(), blocks.end(), is_whole));
    }
    for (const auto& [at, block] : blocks) memory->heap().deallocate(at);
    const std::size_t all = memory->heap().free_bytes();
    RC_ASSERT(memory->heap().bytes() - all < ImageHeap::kLeastBytes);
    memory->heap().deallocate(memory->heap().allocate(all - 64, 8));
}

TEST(ImageHeapTest, AContainerGoesOnAtAnotherAddress) {
    using Lists = vmcow::map<int, vmcow::vector<long>>;
    HeapInMemory here(std::size_t{64} << 10);
    Lists* lists = nullptr;
    {
        const HeapScope scope(here.heap(), nullptr);
        lists = new (here.heap().allocate(sizeof(Lists), alignof(Lists))) Lists;
        for (int i = 0; i < 20; ++i) (*lists)[i].assign(10, i);
    }
    HeapInMemory there(here);
    Lists& copy = *there.moved_here(lists, here);
    {
        const HeapScope scope(there.heap(), nullptr);
        copy[7].assign(1000, 1);
        copy.erase(3);
        copy[100].push_back(5);
    }
    EXPECT_EQ(copy.size(), 20U);
    EXPECT_TRUE(there.contains(copy.at(7).data(), 1000 * sizeof(long)));
    EXPECT_EQ(lists->size(), 20U);
    EXPECT_EQ(lists->at(7).size(), 10U);
    EXPECT_EQ(lists->at(3)[9], 3);
}

// ---- scopes

TEST(ImageHeapTest, TheInnermostScopeDecides) {
    HeapInMemory a(kPageBytes);
    HeapInMemory b(kPageBytes);
    EXPECT_EQ(HeapScope::innermost_heap(), nullptr);
    {
        const HeapScope outer(a.heap(), nullptr);
        {
            const HeapScope inner(b.heap(), nullptr);
            EXPECT_EQ(HeapScope::innermost_heap(), &b.heap());
            EXPECT_TRUE(HeapScope::is_open(a.heap()));
            const auto in_a = reinterpret_cast<std::uintptr_t>(&a.heap()) + 100;
            EXPECT_EQ(HeapScope::heap_around(in_a), &a.heap());
            EXPECT_EQ(HeapScope::heap_around(in_a - 101), nullptr);
            vmcow::vector<int> numbers(5, 1);
            EXPECT_TRUE(b.contains(numbers.data(), 5 * sizeof(int)));
        }
        EXPECT_FALSE(HeapScope::is_open(b.heap()));
        EXPECT_EQ(HeapScope::innermost_heap(), &a.heap());
    }
    EXPECT_EQ(HeapScope::innermost_heap(), nullptr);
    const vmcow::vector<int> outside(5, 1);
    EXPECT_FALSE(a.contains(outside.data(), 1) || b.contains(outside.data(), 1));
}

TEST(ImageHeapTest, CopyingBetweenHeapsCopiesTheElements) {
    HeapInMemory a(kPageBytes);
    HeapInMemory b(kPageBytes);
    const HeapScope outer(a.heap(), nullptr);
    vmcow::vector<int> in_a(10, 1);
    {
        const HeapScope inner(b.heap(), nullptr);
        vmcow::vector<int> in_b;
        in_b.push_back(2);
        in_a = in_b;
        EXPECT_TRUE(b.contains(in_b.data(), sizeof(int)));
    }
    EXPECT_TRUE(a.contains(in_a.data(), sizeof(int)));
    EXPECT_EQ(in_a, (vmcow::vector<int>{2}));
}

// A container without memory takes the memory that it is assigned, and uses the heap of that memory from then on.
TEST(ImageHeapTest, AnEmptyContainerTakesMemoryByAssignment) {
    using Lists = vmcow::map<int, vmcow::vector<long>>;
    using Table = vmcow::unordered_map<int, int>;
    HeapInMemory memory(std::size_t{64} << 10);
    Table table;
    Table more_of_it{{1, 2}};
    table = std::move(more_of_it);
    vmcow::vector<int> outside;
    vmcow::vector<int> other(10, 1);
    outside = std::move(other);
    Lists lists;
    Lists more{{1, {1, 2}}};
    lists = std::move(more);
    {
        const HeapScope scope(memory.heap(), nullptr);
        vmcow::vector<int> inside;
        inside = std::move(outside);
        EXPECT_TRUE(memory.contains(inside.data(), 10 * sizeof(int)));
        vmcow::vector<int> last;
        last = std::move(inside);
        EXPECT_TRUE(memory.contains(last.data(), 10 * sizeof(int)));
        Lists inner;
        inner = std::move(lists);
        EXPECT_EQ(inner.at(1).size(), 2U);
        Table first;
        first = std::move(table);
        Table second;
        second = std::move(first);
        EXPECT_EQ(second.at(1), 2);
    }
    outside.assign(3, 2);
    EXPECT_FALSE(memory.contains(outside.data(), 1));
}

// ---- steps

TEST(ImageHeapTest, StepsEndOnAPageAndAreEnough) {
    for (const std::size_t extent :
         {std::size_t{4096}, std::size_t{5000}, std::size_t{1} << 20, std::size_t{1} << 30}) {
        for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{10'000'000}}) {
            const auto [large, least] = vmcow::growth_steps(extent, bytes);
            EXPECT_GE(large, least);
            EXPECT_GE(least, bytes);
            EXPECT_LT(least, bytes + kPageBytes);
            EXPECT_EQ((extent + large) % kPageBytes, 0U);
            EXPECT_EQ((extent + least) % kPageBytes, 0U);
            EXPECT_LE(large, std::max({bytes + kPageBytes, extent + kPageBytes, std::size_t{64} << 20}));
        }
    }
    EXPECT_EQ(vmcow::growth_steps(kPageBytes, 1)[0], kPageBytes);
    EXPECT_EQ(vmcow::growth_steps(std::size_t{16} << 20, 1)[0], std::size_t{4} << 20);
}

}  // namespace
