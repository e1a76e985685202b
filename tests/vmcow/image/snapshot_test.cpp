// Tests snapshots: that nothing changes them, how they are flattened and sent, and which parts of another process are
// refused.
#include "vmcow/snapshot.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/image/snapshot_parts.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/view.hpp"

namespace {

using namespace vmcow;
using sys::UniqueFd;
using tests::copy_of;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using tests::message_of;
using tests::noise;
using tests::run_of;
using tests::same_bytes;
using tests::snapshot_of;

/// A snapshot of 40 pages with two deltas: one run that is mapped and pages that are copied into place.
Snapshot layered() {
    View view(snapshot_of(noise(40 * kPageBytes - 100)));
    tests::write_pages(view, run_of(3, 12));
    View above(view.capture());
    tests::write_pages(above, {5, 20, 39}, std::byte{2});
    return above.capture();
}

// I1
TEST(SnapshotTest, NothingCanChangeTheImage) {
    const Snapshot snapshot = snapshot_of(noise(3 * kPageBytes));
    const int fd = snapshot.base_fd();
    EXPECT_TRUE(sys::is_immutable(fd));
    EXPECT_EQ(::pwrite(fd, "x", 1, 0), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::ftruncate(fd, 0), -1);
    EXPECT_EQ(::ftruncate(fd, 1 << 20), -1);
    EXPECT_EQ(::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    EXPECT_EQ(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    // A second descriptor cannot write either.
    const UniqueFd again = sys::open_file("/proc/self/fd/" + std::to_string(fd), O_RDWR);
    EXPECT_EQ(::pwrite(again.get(), "x", 1, 0), -1);
    for (const SnapshotParts::DeltaPart& part : layered().parts().deltas) {
        EXPECT_TRUE(sys::is_immutable(part.fd.get()));
    }
}

TEST(SnapshotTest, WriteThroughTheCallersPointerIsSigsegv) {
    for (const Snapshot& snapshot : {snapshot_of(noise(kPageBytes)), layered()}) {
        auto* const at = const_cast<std::byte*>(snapshot.bytes().data());
        EXPECT_EQ(in_child([&] {
                      tests::set_action(SIGSEGV, SIG_DFL);
                      *at = std::byte{1};
                      return 0;
                  }),
                  (tests::ChildEnd{-1, SIGSEGV}));
    }
}

TEST(SnapshotTest, CopyOfAHandleIsTheSameImage) {
    const auto content = noise(100);
    Snapshot copy = snapshot_of({});
    {
        const Snapshot first = snapshot_of(content);
        copy = first;
        EXPECT_EQ(copy.bytes().data(), first.bytes().data());
    }
    EXPECT_TRUE(same_bytes(copy.bytes(), content)) << "the image lives as long as any handle";
}

TEST(SnapshotTest, NameIsThatOfTheArena) {
    const Snapshot snapshot = snapshot_of(noise(1), {.name = "text"});
    EXPECT_EQ(snapshot.name(), "text");
    EXPECT_EQ(View(snapshot).capture().name(), "text");
}

TEST(SnapshotTest, BytesOfLayersAreContiguousAndPageFindsTheNewest) {
    const Snapshot snapshot = layered();
    ASSERT_EQ(snapshot.delta_count(), 2U);
    EXPECT_EQ(snapshot.delta_pages(), PageCount{12 + 2}) << "the second has one of the first's";
    std::vector<std::byte> expected = noise(40 * kPageBytes - 100);
    for (const auto page : run_of(3, 12)) expected[page * kPageBytes + 17] = std::byte{1};
    for (const auto page : {5U, 20U, 39U}) expected[page * kPageBytes + 17] = std::byte{2};
    EXPECT_TRUE(same_bytes(snapshot.bytes(), expected));
    expected.resize(40 * kPageBytes);
    for (std::uint64_t page = 0; page < 40; ++page) {
        EXPECT_TRUE(same_bytes({snapshot.page({page}), kPageBytes}, {expected.data() + page * kPageBytes, kPageBytes}))
            << page;
    }
}

TEST(SnapshotTest, BytesMayBeAskedForByManyThreadsAtOnce) {
    const Snapshot snapshot = layered();
    std::vector<const std::byte*> found(4);
    std::vector<std::thread> threads;
    threads.reserve(found.size());
    for (auto& place : found) threads.emplace_back([&] { place = snapshot.bytes().data(); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(std::count(found.begin(), found.end(), found[0]), 4);
}

TEST(SnapshotTest, FlattenOfABaseIsTheSnapshotItself) {
    const Snapshot snapshot = snapshot_of(noise(100));
    EXPECT_EQ(snapshot.flatten().bytes().data(), snapshot.bytes().data());
}

TEST(SnapshotTest, FlattenPutsTheSameBytesInOneFile) {
    const Snapshot snapshot = layered();
    const Snapshot flat = snapshot.flatten();
    EXPECT_EQ(flat.delta_count(), 0U);
    EXPECT_EQ(flat.delta_pages(), PageCount{0});
    EXPECT_EQ(flat.name(), snapshot.name());
    ASSERT_TRUE(same_bytes(flat.bytes(), snapshot.bytes()));
    std::vector<std::byte> file(flat.extent_bytes());
    ASSERT_EQ(::pread(flat.base_fd(), file.data(), file.size(), 0), static_cast<ssize_t>(file.size()));
    EXPECT_TRUE(same_bytes(file, snapshot.bytes()));
}

TEST(SnapshotTest, NoDescriptorLeftIsEmfileAndNothingIsLeftBehind) {
    const Snapshot snapshot = layered();
    for (const std::size_t free : {0U, 1U, 2U}) {
        const DescriptorLimit limit(free);
        EXPECT_EQ(error_of([&] { static_cast<void>(snapshot.parts()); }), EMFILE) << free;
    }
    const DescriptorLimit limit(0);
    EXPECT_EQ(error_of([&] { static_cast<void>(snapshot.flatten()); }), EMFILE);
}

TEST(AdoptTest, PartsAreTheSameSnapshotAgain) {
    for (const Snapshot& snapshot : {snapshot_of({}), snapshot_of(noise(kPageBytes)), layered()}) {
        const Snapshot adopted = Snapshot::adopt(snapshot.parts(), "received");
        EXPECT_TRUE(same_bytes(adopted.bytes(), snapshot.bytes()));
        EXPECT_EQ(adopted.delta_count(), snapshot.delta_count());
        EXPECT_EQ(adopted.delta_pages(), snapshot.delta_pages());
        EXPECT_EQ(adopted.name(), "received");
        EXPECT_NE(adopted.layers()->base().data(), snapshot.layers()->base().data()) << "the slot was taken";
    }
}

/// A snapshot of 40 pages with two deltas in files and one in the page store.
Snapshot partly_stored() {
    const Snapshot below = layered();
    std::vector<PageIndex> pages;
    for (const auto page : run_of(12, 20)) pages.push_back({page});
    const auto content = noise(pages.size() * kPageBytes, 5);
    return Snapshot(below.layers()->with_changes(
        pages, [&](std::size_t i) { return content.data() + i * kPageBytes; }, Delta::stored_copy_of));
}

// This process may reuse the store's memory at any time, so other processes get a copy (I1).
TEST(AdoptTest, PartsOfAStoredDeltaAreFilesOfTheirOwn) {
    std::optional<Snapshot> snapshot = partly_stored();
    const auto expected = copy_of(snapshot->bytes());
    SnapshotParts parts = snapshot->parts();
    ASSERT_EQ(parts.deltas.size(), 3U);
    for (const SnapshotParts::DeltaPart& part : parts.deltas) EXPECT_TRUE(sys::is_immutable(part.fd.get()));
    EXPECT_EQ(sys::file_bytes(parts.deltas[2].fd.get()), (20 + 1) * kPageBytes);
    const std::uint64_t offset = snapshot->layers()->deltas().back()->file_offset();
    snapshot.reset();
    const StoredPages others = PageStore::allocate({21});
    ASSERT_EQ(others.file_offset(), offset) << "handed out again";
    std::memset(others.data(), 0xee, others.count().bytes());
    const Snapshot adopted = Snapshot::adopt(std::move(parts), "received");
    EXPECT_TRUE(same_bytes(adopted.bytes(), expected));
    EXPECT_EQ(adopted.layers()->deltas().back()->stored(), nullptr);
}

TEST(AdoptTest, NoDescriptorLeftForTheCopyIsEmfileAndNothingIsLeftBehind) {
    const Snapshot snapshot = partly_stored();
    for (const std::size_t free :
         {0U, 1U, 2U, 3U, 4U}) {  // base, two deltas, and for the third its file and a duplicate
        const DescriptorLimit limit(free);
        EXPECT_EQ(error_of([&] { static_cast<void>(snapshot.parts()); }), EMFILE) << free;
    }
    const DescriptorLimit limit(5);
    EXPECT_EQ(snapshot.parts().deltas.size(), 3U);
}

TEST(AdoptTest, SlotIsThatOfTheMakerWhenItIsFree) {
    SnapshotParts parts;
    {
        const Snapshot snapshot = snapshot_of(noise(3 * kHugeBytes));
        parts = snapshot.parts();
    }
    const std::uintptr_t address = parts.slot_address;
    const Snapshot adopted = Snapshot::adopt(std::move(parts), "received");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(adopted.bytes().data()), address);
}

TEST(AdoptTest, SlotThatMakesNoSenseIsReplaced) {
    const auto content = noise(5000);
    const Snapshot snapshot = snapshot_of(content);
    const int local = 0;
    for (const std::uintptr_t address :
         {std::uintptr_t{0}, std::uintptr_t{1}, ~std::uintptr_t{0}, ~std::uintptr_t{0} & ~(kHugeBytes - 1),
          round_down(reinterpret_cast<std::uintptr_t>(&local), kHugeBytes)}) {
        SnapshotParts parts = snapshot.parts();
        parts.slot_address = address;
        EXPECT_TRUE(same_bytes(Snapshot::adopt(std::move(parts), "received").bytes(), content)) << address;
    }
}

UniqueFd sealed_file(std::span<const std::byte> content, std::uint64_t bytes) {
    UniqueFd file = sys::create_memfd("forged");
    sys::write_all(file.get(), content, "forged");
    sys::resize_memfd(file.get(), bytes, "forged");
    sys::seal_memfd(file.get(), "forged");
    return file;
}

/// The message with which `adopt` refuses this base; the test fails when it does not refuse with EBADMSG.
std::string refusal(UniqueFd base, std::uint64_t extent_bytes) {
    SnapshotParts parts;
    parts.base = std::move(base);
    parts.extent_bytes = extent_bytes;
    std::string message;
    const auto adopt = [&] {
        message = message_of([&] { static_cast<void>(Snapshot::adopt(std::move(parts), "x")); });
    };
    adopt();
    EXPECT_NE(message.find("Bad message"), std::string::npos) << message;
    return message;
}

TEST(AdoptTest, FileThatIsNotSealedIsRefused) {
    UniqueFd open = sys::create_memfd("open");
    sys::resize_memfd(open.get(), kPageBytes, "open");
    EXPECT_NE(refusal(std::move(open), 1).find("not sealed"), std::string::npos);
    EXPECT_NE(refusal(sys::open_file("/dev/null", O_RDONLY), 1).find("not sealed"), std::string::npos);
    EXPECT_NE(refusal(UniqueFd(), 1).find("not sealed"), std::string::npos);
}

TEST(AdoptTest, ExtentThatEndsBeforeTheLastPageOrNowhereIsRefused) {
    struct Case {
        std::uint64_t file;
        std::uint64_t extent;
    };
    for (const auto& [file, extent] :
         {Case{0, 0}, Case{0, 1}, Case{kPageBytes - 1, 1}, Case{kPageBytes + 1, 1}, Case{2 * kPageBytes, 0},
          Case{2 * kPageBytes, kPageBytes}, Case{3 * kPageBytes, kPageBytes + 1}, Case{kPageBytes, UINT64_MAX},
          Case{kPageBytes, UINT64_MAX - kPageBytes + 2}}) {
        EXPECT_NE(refusal(sealed_file({}, file), extent).find("extent"), std::string::npos) << file << " " << extent;
    }
    for (const auto& [file, extent] : {Case{kPageBytes, 0}, Case{kPageBytes, 1}, Case{kPageBytes, kPageBytes},
                                       Case{2 * kPageBytes, kPageBytes + 1}, Case{kPageBytes, kPageBytes + 1}}) {
        SnapshotParts parts;
        parts.base = sealed_file({}, file);
        parts.extent_bytes = extent;
        EXPECT_EQ(Snapshot::adopt(std::move(parts), "x").extent_bytes(), extent);
    }
}

/// A delta as another process may forge it: `pages` pages of content and any table.
UniqueFd forged_delta(const std::vector<std::uint64_t>& table, std::size_t pages = 2) {
    std::vector<std::byte> content((pages + 1) * kPageBytes);
    std::memcpy(content.data() + pages * kPageBytes, table.data(), table.size() * sizeof(table[0]));
    return sealed_file(content, content.size());
}

Snapshot adopt_with(UniqueFd delta, PageCount count) {
    SnapshotParts parts = tests::zeros(10).parts();
    parts.deltas.push_back({std::move(delta), count});
    return Snapshot::adopt(std::move(parts), "received");
}

TEST(AdoptTest, DeltaOfAscendingPagesWithinTheImageIsTaken) {
    const Snapshot adopted = adopt_with(forged_delta({0, 9}), {2});
    EXPECT_EQ(adopted.delta_pages(), PageCount{2});
    EXPECT_EQ(adopted.page_count(), PageCount{10});
}

TEST(AdoptTest, ForgedDeltaTableIsRefused) {
    const std::vector<std::vector<std::uint64_t>> tables = {
        {9, 0},          {4, 4},          {0, 10},
        {0, UINT64_MAX}, {UINT64_MAX, 0}, {std::uint64_t{1} << 52, (std::uint64_t{1} << 52) + 1}};
    for (const auto& table : tables) {
        EXPECT_EQ(error_of([&] { static_cast<void>(adopt_with(forged_delta(table), {2})); }), EBADMSG)
            << table[0] << ", " << table[1];
    }
}

TEST(AdoptTest, DeltaWhoseSizeIsNotThatOfItsCountIsRefused) {
    for (const std::uint64_t count : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{11},
                                      UINT64_MAX, UINT64_MAX / kPageBytes + 3}) {
        EXPECT_EQ(error_of([&] { static_cast<void>(adopt_with(forged_delta({0, 9}), {count})); }), EBADMSG) << count;
    }
}

TEST(AdoptTest, DeltaThatIsNotSealedIsRefused) {
    UniqueFd open = sys::create_memfd("open");
    sys::resize_memfd(open.get(), 3 * kPageBytes, "open");
    EXPECT_EQ(error_of([&] { static_cast<void>(adopt_with(std::move(open), {2})); }), EBADMSG);
    EXPECT_EQ(error_of([&] { static_cast<void>(adopt_with(UniqueFd(), {2})); }), EBADMSG);
}

TEST(AdoptTest, MoreDeltasThanASnapshotHasAreRefused) {
    for (const std::size_t count : {Layers::kMaxDeltas, Layers::kMaxDeltas + 1}) {
        SnapshotParts parts = tests::zeros(10).parts();
        for (std::size_t i = 0; i < count; ++i) parts.deltas.push_back({forged_delta({0, 9}), {2}});
        const int expected = count <= Layers::kMaxDeltas ? 0 : EBADMSG;
        EXPECT_EQ(error_of([&] { static_cast<void>(Snapshot::adopt(std::move(parts), "x")); }), expected);
    }
}

TEST(DeltaTest, NoDescriptorLeftIsEmfile) {
    View view(tests::zeros(4));
    tests::write_pages(view, {1});
    const DescriptorLimit limit(1);  // one descriptor for the page scan
    EXPECT_EQ(error_of([&] { static_cast<void>(view.capture()); }), 0) << "the scan's descriptor is closed again";
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([&] { static_cast<void>(view.capture()); }), EMFILE);
    const std::vector<PageIndex> pages{{1}};
    EXPECT_EQ(
        error_of([&] { static_cast<void>(Delta::copy_of(pages, [&](std::size_t) { return view.bytes().data(); })); }),
        EMFILE);
}

// A child that was forked while another thread filled the delta has it mapped for writing, and such a mapping would
// forbid the seal.
TEST(DeltaTest, OtherThreadsMayForkWhileItIsMade) {
    View view(tests::zeros(256));
    tests::write_pages(view, run_of(0, 256));
    std::atomic<bool> done = false;
    std::vector<pid_t> children;
    std::thread forker([&] {
        while (!done && children.size() < 100) {
            const pid_t pid = ::fork();
            if (pid == 0) {
                for (;;) ::pause();
            }
            children.push_back(pid);
        }
    });
    int error = 0;
    for (int i = 0; i < 100 && error == 0; ++i) {
        error = error_of([&] { static_cast<void>(view.capture()); });
        if (error == 0) error = error_of([] { static_cast<void>(snapshot_of(noise(100))); });
    }
    done = true;
    forker.join();
    for (const pid_t pid : children) {
        vmcow::sys::signal_process(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    EXPECT_EQ(error, 0) << std::strerror(error);
}

}  // namespace
