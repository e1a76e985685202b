// Tests the pool of tree nodes: chunks of nodes of one size that are filled, reused and given back, in any thread and
// in the child of a fork, and the state after a chunk could not be allocated.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_map.hpp"

namespace {

using vmcow::heap::block_array;
using vmcow::heap::block_map;
using vmcow::heap::MapEntry;
using vmcow::heap::Options;
using vmcow::heap::Sharing;
using vmcow::heap::detail::NodePlace;
using vmcow::heap::detail::NodePool;

/// The counts that the allocators of one `Tag` share.
template <class Tag>
struct Given {
    static inline std::atomic<std::size_t> blocks = 0;
    static inline std::atomic<std::size_t> bytes = 0;
    static inline std::atomic<std::size_t> left = std::numeric_limits<std::size_t>::max();
};

// NOLINTBEGIN(readability-identifier-naming): the names that containers look for.

/// An allocator without state, so that all of one `Tag` are equal.
template <class T, class Tag>
class StatelessAllocator {
public:
    using value_type = T;
    template <class U>
    struct rebind {
        using other = StatelessAllocator<U, Tag>;
    };

    StatelessAllocator() = default;
    template <class U>
    StatelessAllocator(const StatelessAllocator<U, Tag>&) noexcept {}  // NOLINT(google-explicit-constructor): converts
    [[nodiscard]] T* allocate(std::size_t count) {
        if (Given<Tag>::left == 0) throw std::bad_alloc();
        --Given<Tag>::left;
        ++Given<Tag>::blocks;
        Given<Tag>::bytes += count * sizeof(T);
        return static_cast<T*>(::operator new(count * sizeof(T)));
    }
    void deallocate(T* memory, std::size_t count) noexcept {
        --Given<Tag>::blocks;
        Given<Tag>::bytes -= count * sizeof(T);
        ::operator delete(memory);
    }
    template <class U>
    bool operator==(const StatelessAllocator<U, Tag>&) const noexcept {
        return true;
    }
};
// NOLINTEND(readability-identifier-naming)

/// A separate pool for each test, which allocates with the test's `Tag`.
template <class Tag>
struct Pool : NodePool<StatelessAllocator<std::byte, Tag>> {
    [[nodiscard]] static NodePlace take(std::size_t bytes) { return Pool::allocate({}, bytes); }
    static void give_back(const NodePlace& node, std::size_t bytes) { Pool::deallocate({}, node, bytes); }
};

TEST(NodePoolTest, NodesLieSideBySideAndAreUsedAgain) {
    struct Tag;
    using Nodes = Pool<Tag>;
    constexpr std::size_t kBytes = 72;
    const NodePlace first = Nodes::take(kBytes);
    const NodePlace second = Nodes::take(kBytes);
    EXPECT_EQ(static_cast<std::byte*>(second.at) - static_cast<std::byte*>(first.at), 72);
    Nodes::give_back(first, kBytes);
    const NodePlace again = Nodes::take(kBytes);
    EXPECT_EQ(again.at, first.at);
    EXPECT_EQ(again.place, first.place);
    EXPECT_EQ(Given<Tag>::blocks, 1U);
    Nodes::give_back(again, kBytes);
    Nodes::give_back(second, kBytes);
}

TEST(NodePoolTest, ChunksAreGivenBackButForOneOfEachSize) {
    struct Tag;
    using Nodes = Pool<Tag>;
    for (const std::size_t bytes : {16U, 72U, 264U, 1024U}) {
        const std::size_t before = Given<Tag>::blocks;
        std::vector<NodePlace> nodes;
        for (std::size_t taken = 0; taken < 10 * Nodes::kChunkBytes; taken += bytes)
            nodes.push_back(Nodes::take(bytes));
        const std::size_t data = nodes.size() * bytes;
        const std::size_t chunks = Given<Tag>::blocks - before;
        EXPECT_GE(chunks * Nodes::kChunkBytes, data);
        EXPECT_LE((chunks - 1) * Nodes::kChunkBytes, data + data / 25) << bytes;
        std::shuffle(nodes.begin(), nodes.end(), std::minstd_rand(1));
        for (const NodePlace& node : nodes) Nodes::give_back(node, bytes);
        EXPECT_EQ(Given<Tag>::blocks - before, 1U);
        // The chunk that is left is handed out from its beginning again.
        const NodePlace next = Nodes::take(bytes);
        EXPECT_EQ(next.place, 0U);
        EXPECT_EQ(Given<Tag>::blocks - before, 1U);
        Nodes::give_back(next, bytes);
    }
}

TEST(NodePoolTest, NodesKeepWhatIsWrittenToThem) {
    struct Tag;
    using Nodes = Pool<Tag>;
    struct Taken {
        NodePlace node;
        std::size_t bytes;
        int written;
    };
    std::minstd_rand random(7);
    std::vector<Taken> taken;
    const auto holds = [](const Taken& each) {
        const auto* const bytes = static_cast<const unsigned char*>(each.node.at);
        return std::all_of(bytes, bytes + each.bytes, [&](unsigned char byte) { return byte == each.written; });
    };
    for (int i = 0; i < 50'000; ++i) {
        if (taken.empty() || random() % 5 < (i < 25'000 ? 3U : 2U)) {
            const std::size_t bytes = 8 * (1 + random() % 20);
            const int written = static_cast<int>(random() % 256);
            taken.push_back({Nodes::take(bytes), bytes, written});
            std::memset(taken.back().node.at, written, bytes);
        } else {
            std::swap(taken[random() % taken.size()], taken.back());
            ASSERT_TRUE(holds(taken.back()));
            Nodes::give_back(taken.back().node, taken.back().bytes);
            taken.pop_back();
        }
    }
    EXPECT_TRUE(std::all_of(taken.begin(), taken.end(), holds));
    for (const Taken& each : taken) Nodes::give_back(each.node, each.bytes);
    EXPECT_LE(Given<Tag>::blocks, 20U);
}

TEST(NodePoolTest, ThreadsGiveBackWhatOthersHaveTaken) {
    struct Tag;
    using Nodes = Pool<Tag>;
    constexpr std::size_t kBytes = 136;
    constexpr std::size_t kThreads = 4;
    std::vector<std::vector<NodePlace>> taken(kThreads);
    const auto in_threads = [&](const std::function<void(std::size_t)>& work) {
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
        for (std::thread& thread : threads) thread.join();
    };
    for (int round = 0; round < 10; ++round) {
        in_threads([&](std::size_t mine) {
            for (std::uint64_t i = 0; i < 2'000; ++i) {
                taken[mine].push_back(Nodes::take(kBytes));
                *static_cast<std::uint64_t*>(taken[mine].back().at) = mine * 10'000 + i;
            }
        });
        std::atomic<int> wrong = 0;
        in_threads([&](std::size_t mine) {
            const std::size_t others = (mine + 1) % kThreads;
            for (std::uint64_t i = 0; i < 2'000; ++i) {
                const NodePlace& node = taken[others][i];
                wrong += *static_cast<std::uint64_t*>(node.at) == others * 10'000 + i ? 0 : 1;
                Nodes::give_back(node, kBytes);
                const NodePlace own = Nodes::take(kBytes);
                Nodes::give_back(own, kBytes);
            }
            taken[others].clear();
        });
        EXPECT_EQ(wrong, 0);
    }
    EXPECT_LE(Given<Tag>::blocks, 16U);  // one chunk for each shard that was used
}

// Other threads may hold the pool's locks at the moment of the fork; the child must be able to use the pool all the
// same.
TEST(NodePoolTest, AChildOfAForkCanUseIt) {
    struct Tag;
    using Nodes = Pool<Tag>;
    constexpr std::size_t kBytes = 72;
    std::atomic<bool> done = false;
    std::atomic<int> started = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] {
            ++started;
            while (!done) {
                const NodePlace node = Nodes::take(kBytes);
                Nodes::give_back(node, kBytes);
            }
        });
    }
    // The address sanitizer holds a lock while a thread starts, and a child that is forked then never gets it.
    while (started < 2) std::this_thread::yield();
    for (int i = 0; i < 20; ++i) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            ::alarm(20);
#ifdef __SANITIZE_THREAD__  // it has one shard, and allows no threads in the child of a process with threads
            Nodes::give_back(Nodes::take(kBytes), kBytes);
#else
            // Each new thread of a process takes another shard: 16 threads, one after the other, try all of them.
            std::vector<std::thread> users;
            for (int shard = 0; shard < 16; ++shard) {
                users.emplace_back([] { Nodes::give_back(Nodes::take(kBytes), kBytes); });
                users.back().join();
            }
#endif
            ::_exit(0);
        }
        int status = -1;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
    done = true;
    for (std::thread& thread : threads) thread.join();
}

// ---- with the trees

struct ArrayTag;
struct MapTag;
using Numbers = block_array<long, Options{}, StatelessAllocator<long, ArrayTag>>;
using Map = block_map<int, long, Options{}, std::hash<int>, std::equal_to<int>,
                      StatelessAllocator<MapEntry<int, long>, MapTag>>;

/// Lets one chunk later fail each time: the object that `change` changes must then be as before.
template <class Tag, class Object, class Change>
int fail_each_chunk(const Object& original, const Change& change) {
    for (int failures = 0;; ++failures) {
        Object object = original;
        Given<Tag>::left = static_cast<std::size_t>(failures);
        try {
            change(object);
            Given<Tag>::left = std::numeric_limits<std::size_t>::max();
            return failures;
        } catch (const std::bad_alloc&) {
            Given<Tag>::left = std::numeric_limits<std::size_t>::max();
        }
        EXPECT_TRUE(object == original);
    }
}

TEST(NodePoolTest, AChunkThatCannotBeHadChangesNothing) {
    int failures = 0;
    {
        Numbers numbers({.leaf_bytes = 512});
        for (long i = 0; i < 20'000; ++i) {
            if (i % 64 == 0) {
                failures += fail_each_chunk<ArrayTag>(numbers, [&](Numbers& each) { each.push_back_in_place(i); });
            }
            numbers.push_back_in_place(i);
        }
        std::vector<Numbers> versions{numbers};
        for (std::size_t i = 0; i < 400; ++i) {
            failures +=
                fail_each_chunk<ArrayTag>(versions.back(), [&](Numbers& each) { each.set_in_place(i * 40, 0); });
            versions.push_back(versions.back().set(i * 40, -1));
        }
    }
    EXPECT_GE(failures, 10);
    failures = 0;
    {
        Map map({.leaf_bytes = 512});
        for (int i = 0; i < 5'000; ++i) {
            failures += fail_each_chunk<MapTag>(map, [&](Map& each) { each.insert_in_place(i, i); });
            map.insert_in_place(i, i);
        }
    }
    EXPECT_GE(failures, 3);
    // Only a chunk for each size that was needed is left.
    EXPECT_LE(Given<ArrayTag>::bytes, 8U * Pool<ArrayTag>::kChunkBytes);
    EXPECT_LE(Given<MapTag>::bytes, 8U * Pool<MapTag>::kChunkBytes);
}

// The memory of a tree, as malloc counts it with its headers, exceeds the data by a bounded share.
TEST(NodePoolTest, OverheadIsBoundedAsMallocCountsIt) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "malloc does not count beneath a sanitizer";
#endif
    const auto given = [] {
        const struct mallinfo2 now = ::mallinfo2();
        return now.uordblks + now.hblkhd;
    };
    constexpr double kData = 1'000'000 * sizeof(std::uint64_t);
    for (const auto& [leaf_bytes, most] : {std::pair<std::size_t, double>{64, 0.30}, {256, 0.10}, {4096, 0.02}}) {
        const std::size_t before = given();
        block_array<std::uint64_t>::builder all({.leaf_bytes = leaf_bytes});
        for (std::uint64_t i = 0; i < 1'000'000; ++i) all.push_back(i);
        const auto numbers = std::move(all).build();
        EXPECT_LE(static_cast<double>(given() - before), kData * (1 + most)) << leaf_bytes;
    }
}

// Plain counting allows handles in one thread at a time, but a whole tree may go to another thread.
TEST(NodePoolTest, ATreeMayEndInAnotherThreadThanItBeganIn) {
    block_array<long> numbers;
    std::thread([&] {
        for (long i = 0; i < 10'000; ++i) numbers.push_back_in_place(i);
    }).join();
    for (std::size_t i = 0; i < 10'000; i += 100) numbers.set_in_place(i, -1);
    std::thread([taken = std::move(numbers)]() mutable {
        EXPECT_EQ(taken[9'999], 9'999);
        taken.clear_in_place();
    }).join();
}

}  // namespace
