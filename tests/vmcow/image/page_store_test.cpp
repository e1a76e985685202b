// Tests the page store: handing out, reusing, pinning and protecting the pages of its chunks.
#include "vmcow/image/page_store.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/mapping_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using namespace vmcow;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;

constexpr PageCount kChunk = pages_of(PageStore::kChunkBytes);

void fill(const StoredPages& pages, std::byte mark) {
    std::memset(pages.data(), static_cast<int>(mark), pages.count().bytes());
}

bool holds(const std::byte* at, PageCount count, std::byte mark) {
    return std::all_of(at, at + count.bytes(), [&](std::byte byte) { return byte == mark; });
}

bool holds(const StoredPages& pages, std::byte mark) { return holds(pages.data(), pages.count(), mark); }

/// Each test starts with one spare chunk and no page in use.
class PageStoreTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(PageStore::used_bytes(), 0U);
        ASSERT_EQ(PageStore::held_bytes(), PageStore::kChunkBytes);
    }
    void TearDown() override {
        EXPECT_EQ(PageStore::used_bytes(), 0U);
        EXPECT_LE(PageStore::held_bytes(), PageStore::kSpareChunks * PageStore::kChunkBytes);
        PageStore::trim();
        EXPECT_EQ(PageStore::held_bytes(), PageStore::kChunkBytes);
    }
};

TEST_F(PageStoreTest, PagesThatAreGivenBackAreHandedOutAgain) {
    const StoredPages before = PageStore::allocate({3});
    std::optional<StoredPages> middle = PageStore::allocate({5});
    const StoredPages after = PageStore::allocate({3});
    const std::byte* const at = middle->data();
    EXPECT_EQ(PageStore::used_bytes(), PageCount{11}.bytes());
    middle.reset();
    EXPECT_EQ(PageStore::used_bytes(), PageCount{6}.bytes());
    const StoredPages again = PageStore::allocate({5});
    EXPECT_EQ(again.data(), at);
    EXPECT_EQ(again.fd(), before.fd());
    EXPECT_EQ(again.chunk_id(), after.chunk_id());
}

TEST_F(PageStoreTest, NeighboursThatAreGivenBackAreOneRunAgain) {
    for (const auto& order : {std::vector{0, 1, 2}, {2, 1, 0}, {0, 2, 1}, {1, 0, 2}}) {
        std::vector<std::optional<StoredPages>> parts(3);
        for (auto& part : parts) part.emplace(PageStore::allocate({kChunk.value / 4}));
        parts.emplace_back(PageStore::allocate({kChunk.value - 3 * (kChunk.value / 4)}));
        const std::byte* const at = parts.front()->data();
        for (const int part : order) parts[static_cast<std::size_t>(part)].reset();
        EXPECT_EQ(PageStore::allocate({3 * (kChunk.value / 4)}).data(), at);
    }
}

TEST_F(PageStoreTest, RunThatFitsNowhereGetsAChunkOfItsOwn) {
    const StoredPages first = PageStore::allocate({1});
    const StoredPages whole = PageStore::allocate(kChunk);
    const StoredPages large = PageStore::allocate({kChunk.value * 2 + 1});
    EXPECT_EQ(std::set({first.chunk_id(), whole.chunk_id(), large.chunk_id()}).size(), 3U);
    EXPECT_EQ(whole.chunk_bytes(), PageStore::kChunkBytes);
    EXPECT_EQ(large.chunk_bytes(), round_up(large.count().bytes(), kHugeBytes));
    EXPECT_EQ(PageStore::held_bytes(), 2 * PageStore::kChunkBytes + large.chunk_bytes());
    fill(large, std::byte{7});
    EXPECT_TRUE(holds(large, std::byte{7}));
}

TEST_F(PageStoreTest, ChunksComeAndGoAndAFewAreKept) {
    constexpr std::size_t kMany = PageStore::kSpareChunks + 2;
    std::vector<StoredPages> runs;
    runs.reserve(kMany);
    for (std::size_t i = 0; i < kMany; ++i) runs.push_back(PageStore::allocate(kChunk));
    EXPECT_EQ(PageStore::held_bytes(), kMany * PageStore::kChunkBytes);
    const std::uint64_t last = runs.back().chunk_id();
    while (!runs.empty()) runs.pop_back();
    EXPECT_EQ(PageStore::held_bytes(), PageStore::kSpareChunks * PageStore::kChunkBytes);
    PageStore::trim();
    EXPECT_EQ(PageStore::held_bytes(), PageStore::kChunkBytes);
    EXPECT_NE(PageStore::allocate({1}).chunk_id(), last) << "the oldest is kept";
    const StoredPages first = PageStore::allocate(kChunk);
    EXPECT_GT(PageStore::allocate(kChunk).chunk_id(), last) << "a number is never used twice";
}

TEST_F(PageStoreTest, MovedPagesAreGivenBackOnce) {
    {
        StoredPages first = PageStore::allocate({2});
        fill(first, std::byte{3});
        const StoredPages second = std::move(first);
        EXPECT_TRUE(holds(second, std::byte{3}));
        EXPECT_EQ(PageStore::used_bytes(), PageCount{2}.bytes());
    }
    EXPECT_EQ(PageStore::used_bytes(), 0U);
}

TEST_F(PageStoreTest, WhatIsGivenBackUnderAPinIsNotHandedOut) {
    std::optional<StoredPages> pages = PageStore::allocate({4});
    const std::byte* const at = pages->data();
    {
        const PageStore::Pin outer;
        {
            const PageStore::Pin inner;
            pages.reset();
            EXPECT_NE(PageStore::allocate({4}).data(), at);
        }
        EXPECT_NE(PageStore::allocate({4}).data(), at) << "the outer one still holds it";
        EXPECT_EQ(PageStore::used_bytes(), PageCount{12}.bytes()) << "parked pages are in use";
    }
    EXPECT_EQ(PageStore::used_bytes(), 0U);
    EXPECT_EQ(PageStore::allocate({4}).data(), at);
}

TEST_F(PageStoreTest, ChunksThatWerePinnedGoWhenThePinGoes) {
    constexpr std::size_t kMany = PageStore::kSpareChunks + 1;
    {
        const PageStore::Pin pin;
        for (std::size_t i = 0; i < kMany; ++i) static_cast<void>(PageStore::allocate(kChunk));
        EXPECT_EQ(PageStore::held_bytes(), kMany * PageStore::kChunkBytes);
    }
    EXPECT_EQ(PageStore::held_bytes(), PageStore::kSpareChunks * PageStore::kChunkBytes);
}

// I1: a process that gets the descriptor in any way can read the pages but not write them.
TEST_F(PageStoreTest, NobodyElseCanWriteThroughTheDescriptor) {
    const StoredPages pages = PageStore::allocate({2});
    fill(pages, std::byte{5});
    const auto offset = static_cast<off_t>(pages.file_offset());
    const auto attempts = [&](int fd) {
        if (::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset) != MAP_FAILED) return 1;
        if (errno != EPERM) return 2;
        if (::pwrite(fd, "x", 1, offset) != -1 || errno != EPERM) return 3;
        if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, kPageBytes) != -1) return 4;
        if (::ftruncate(fd, 0) != -1 || errno != EPERM) return 5;
        if (::ftruncate(fd, 64 << 20) != -1 || errno != EPERM) return 6;
        if (::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != -1 || errno != EPERM) return 7;
        void* const seen = ::mmap(nullptr, kPageBytes, PROT_READ, MAP_SHARED, fd, offset);
        if (seen == MAP_FAILED) return 8;
        if (::mprotect(seen, kPageBytes, PROT_READ | PROT_WRITE) != -1) return 9;
        const bool same = holds(static_cast<const std::byte*>(seen), {1}, std::byte{5});
        ::munmap(seen, kPageBytes);
        return same ? 0 : 10;
    };
    EXPECT_EQ(attempts(pages.fd()), 0);
    const sys::UniqueFd again = sys::open_file("/proc/self/fd/" + std::to_string(pages.fd()), O_RDWR);
    EXPECT_EQ(attempts(again.get()), 0);
    EXPECT_EQ(in_child([&] { return attempts(pages.fd()); }), kChildExitedWell);
    EXPECT_TRUE(holds(pages, std::byte{5}));
}

/// A function process that examines an image when it is told to.
class LookingChild {
public:
    explicit LookingChild(const std::function<bool()>& look) {
        if (::pipe2(go_.data(), O_CLOEXEC) != 0) sys::throw_errno("pipe");
        ImagesInFork images;
        pid_ = ::fork();
        if (pid_ != 0) return;
        char byte = 0;
        const bool ready = images.map_again() == 0 && ::read(go_[0], &byte, 1) == 1;
        ::_exit(ready && look() ? 0 : 1);
    }
    /// Tells the child to look; true when it saw the expected bytes.
    bool look() {
        EXPECT_EQ(::write(go_[1], "x", 1), 1);
        int status = -1;
        EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
        for (const int fd : go_) ::close(fd);
        return status == 0;
    }

private:
    std::array<int, 2> go_{};
    pid_t pid_ = -1;
};

TEST_F(PageStoreTest, FunctionProcessUnderAPinReadsWhatWasThereAtTheFork) {
    for (const bool pinned : {true, false}) {
        std::optional<PageStore::Pin> pin;
        if (pinned) pin.emplace();
        std::optional<StoredPages> pages = PageStore::allocate({3});
        const std::byte* const at = pages->data();
        fill(*pages, std::byte{1});
        LookingChild child([&] { return holds(at, {3}, std::byte{1}); });
        pages.reset();
        const StoredPages next = PageStore::allocate({3});
        fill(next, std::byte{2});
        EXPECT_EQ(child.look(), pinned) << "without a pin, the memory is that of whoever has it now";
    }
}

// A forked process can only read the chunks of its parent, or has them not mapped at all.
TEST_F(PageStoreTest, ForkedProcessAllocatesFromChunksOfItsOwn) {
    const StoredPages parents = PageStore::allocate({1});
    fill(parents, std::byte{1});
    const auto allocate = [&] {
        for (int round = 0; round < 3; ++round) {
            const StoredPages own = PageStore::allocate({2});
            if (own.fd() == parents.fd()) return 1;
            fill(own, std::byte{9});
            if (!holds(own, std::byte{9})) return 2;
        }
        return 0;
    };
    EXPECT_EQ(in_child(allocate), kChildExitedWell) << "a plain fork";
    EXPECT_EQ(in_child([&] {
                  abandon_inherited_images();
                  if (const int failed = allocate(); failed != 0) return failed;
                  return in_child(allocate) == kChildExitedWell ? 0 : 3;
              }),
              kChildExitedWell)
        << "one that lives on by itself, and what it forks";
    ImagesInFork images;
    EXPECT_EQ(in_child([&] {
                  if (images.map_again() != 0) return 4;
                  if (const int failed = allocate(); failed != 0) return failed;
                  return holds(parents, std::byte{1}) ? 0 : 5;
              }),
              kChildExitedWell)
        << "a function process";
    EXPECT_TRUE(holds(parents, std::byte{1}));
}

TEST_F(PageStoreTest, NoDescriptorLeftIsEmfileAndNothingIsLeftBehind) {
    const StoredPages first = PageStore::allocate(kChunk);
    const DescriptorLimit limit(0);
    for (const PageCount count : {PageCount{1}, kChunk, PageCount{kChunk.value + 1}}) {
        EXPECT_EQ(error_of([&] { static_cast<void>(PageStore::allocate(count)); }), EMFILE);
    }
    EXPECT_EQ(PageStore::held_bytes(), PageStore::kChunkBytes);
    EXPECT_EQ(PageStore::used_bytes(), PageStore::kChunkBytes);
}

TEST_F(PageStoreTest, WithoutADescriptorWhatIsThereCanBeHadAgain) {
    const DescriptorLimit limit(0);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(PageStore::allocate(kChunk).count(), kChunk);
}

TEST(PageStoreMappingLimitTest, NoMappingLeftIsEnomemAndNothingIsLeftBehind) {
    EXPECT_EQ(in_child([] {
                  const StoredPages first = PageStore::allocate(kChunk);
                  {
                      const tests::MappingLimit limit(0);
                      const int error = error_of([] { static_cast<void>(PageStore::allocate({1})); });
                      if (error != ENOMEM) return 1;
                  }
                  if (PageStore::used_bytes() != PageStore::kChunkBytes) return 2;
                  const StoredPages second = PageStore::allocate({1});
                  fill(second, std::byte{1});
                  return 0;
              }),
              kChildExitedWell);
}

TEST_F(PageStoreTest, ThreadsNeverShareAPage) {
    std::atomic<int> damaged = 0;
    std::vector<std::thread> threads;
    for (unsigned char mark = 1; mark <= 4; ++mark) {
        threads.emplace_back([&damaged, mark] {
            std::vector<StoredPages> held;
            for (std::uint64_t round = 0; round < 300; ++round) {
                held.push_back(PageStore::allocate({1 + (round * mark) % 17}));
                fill(held.back(), std::byte{mark});
                if (round % 16 == 15) {
                    const PageStore::Pin pin;
                    for (const StoredPages& pages : held) damaged += holds(pages, std::byte{mark}) ? 0 : 1;
                    while (held.size() > 3) held.pop_back();
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(damaged, 0);
}

/// A run of pages, filled with its own byte.
struct Held {
    StoredPages pages;
    std::byte mark;
};

RC_GTEST_FIXTURE_PROP(PageStoreTest, AnyHistoryKeepsRunsApartAndCountsThemExactly, ()) {
    std::vector<std::unique_ptr<Held>> held;
    std::vector<std::unique_ptr<PageStore::Pin>> pins;
    PageCount used;
    PageCount parked;
    const auto steps = *rc::gen::inRange(1, 60);
    for (int i = 0; i < steps; ++i) {
        const int step = *rc::gen::weightedElement<int>({{10, 0}, {8, 1}, {1, 2}, {2, 3}});
        if (step == 0) {
            const PageCount count{*rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(1, 20),
                                                  rc::gen::inRange<std::uint64_t>(1, kChunk.value + 600))};
            held.push_back(std::make_unique<Held>(Held{PageStore::allocate(count), static_cast<std::byte>(i + 1)}));
            const Held& last = *held.back();
            for (std::uint64_t page = 0; page < count.value; ++page) last.pages.data()[page * kPageBytes] = last.mark;
            used += count;
        } else if (step == 1 && !held.empty()) {
            const auto which = held.begin() + *rc::gen::inRange<std::ptrdiff_t>(0, std::ssize(held));
            (pins.empty() ? used : parked) =
                pins.empty() ? used - (*which)->pages.count() : parked + (*which)->pages.count();
            held.erase(which);
        } else if (step == 2) {
            pins.push_back(std::make_unique<PageStore::Pin>());
        } else if (step == 3 && !pins.empty()) {
            pins.pop_back();
            if (pins.empty()) used = used - std::exchange(parked, PageCount{});
        }
        RC_ASSERT(PageStore::used_bytes() == used.bytes());
        RC_ASSERT(PageStore::held_bytes() >= used.bytes());
    }
    for (const auto& each : held) {
        for (std::uint64_t page = 0; page < each->pages.count().value; ++page) {
            RC_ASSERT(each->pages.data()[page * kPageBytes] == each->mark);
        }
    }
}

}  // namespace
