#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/descriptor_limit.hpp"
#include "tests/support.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/faults.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/memory.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/sys/smaps.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::sys;
using tests::error_of;
using tests::in_child;
using tests::message_of;

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

UniqueFd dev_null() { return open_file("/dev/null", O_RDWR); }

/// A number that was a descriptor a moment ago.
int closed_descriptor() {
    const UniqueFd fd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 200));
    return fd.get();
}

TEST(UniqueFdTest, ClosesOnceAtTheEnd) {
    int number = -1;
    {
        const UniqueFd fd = dev_null();
        number = fd.get();
        EXPECT_TRUE(is_open(number));
    }
    EXPECT_FALSE(is_open(number));
}

TEST(UniqueFdTest, SelfMoveKeepsTheDescriptor) {
    UniqueFd fd = dev_null();
    const int number = fd.get();
    UniqueFd& same = fd;
    fd = std::move(same);
    EXPECT_EQ(fd.get(), number);
    EXPECT_TRUE(is_open(number));
}

TEST(UniqueFdTest, MoveEmptiesTheSourceAndAssignmentClosesTheTarget) {
    UniqueFd first = dev_null();
    const int number = first.get();
    UniqueFd second = dev_null();
    const int replaced = second.get();
    second = std::move(first);
    EXPECT_EQ(first.get(), -1);  // NOLINT(bugprone-use-after-move): what is left of it is the claim
    EXPECT_EQ(second.get(), number);
    EXPECT_FALSE(is_open(replaced));
    EXPECT_TRUE(is_open(number));
}

TEST(UniqueFdTest, ReleaseLeavesTheDescriptorOpen) {
    UniqueFd fd = dev_null();
    const UniqueFd again(fd.release());
    EXPECT_FALSE(fd);
    EXPECT_TRUE(is_open(again.get()));
}

TEST(FdTest, MissingFileIsEnoentWithThePath) {
    EXPECT_EQ(error_of([] { static_cast<void>(open_file("/nonexistent/file", O_RDONLY)); }), ENOENT);
    EXPECT_NE(message_of([] { static_cast<void>(open_file("/nonexistent/file", O_RDONLY)); }).find("/nonexistent/file"),
              std::string::npos);
    EXPECT_EQ(error_of([] { static_cast<void>(read_text_file("/nonexistent/file")); }), ENOENT);
}

TEST(FdTest, DescriptorsAreCloseOnExec) {
    const UniqueFd file = dev_null();
    const UniqueFd copy = duplicate(file.get());
    const UniqueFd image = create_memfd("image");
    for (const UniqueFd* const fd : {&file, &copy, &image}) EXPECT_EQ(::fcntl(fd->get(), F_GETFD), FD_CLOEXEC);
}

TEST(FdTest, ClosedDescriptorIsEbadf) {
    const int closed = closed_descriptor();
    std::array<std::byte, 4> bytes{};
    EXPECT_EQ(error_of([&] { static_cast<void>(duplicate(closed)); }), EBADF);
    EXPECT_EQ(error_of([&] { write_all(closed, bytes, "gone"); }), EBADF);
    EXPECT_EQ(error_of([&] { read_full(closed, bytes, "gone"); }), EBADF);
    EXPECT_NE(message_of([&] { write_all(closed, bytes, "gone"); }).find("'gone'"), std::string::npos);
}

TEST(FdTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit limit(0);
    EXPECT_EQ(error_of([] { static_cast<void>(open_file("/dev/null", O_RDONLY)); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(duplicate(STDERR_FILENO)); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(create_memfd("image")); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(read_text_file("/proc/self/status")); }), EMFILE);
    EXPECT_EQ(error_of([] { static_cast<void>(read_smaps(0, 4096)); }), EMFILE);
    EXPECT_EQ(error_of([] { const PageScanner scanner(PageScanMethod::pagemap_scan); }), EMFILE);
    EXPECT_EQ(error_of([] { const PageScanner scanner(PageScanMethod::pagemap_bits); }), EMFILE);
    EXPECT_EQ(page_scan_error(), EMFILE);
}

TEST(FdTest, FullDiskIsEnospc) {
    const UniqueFd full = open_file("/dev/full", O_WRONLY);
    const std::array<std::byte, 4> bytes{};
    EXPECT_EQ(error_of([&] { write_all(full.get(), bytes, "/dev/full"); }), ENOSPC);
}

TEST(FdTest, ReadStopsAtTheEndOfTheFile) {
    const UniqueFd file = create_memfd("short");
    const auto written = tests::noise(100'000);
    write_all(file.get(), written, "short");
    ASSERT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
    std::vector<std::byte> read(200'000);
    EXPECT_EQ(read_full(file.get(), read, "short"), written.size());
    read.resize(written.size());
    EXPECT_EQ(read, written);
}

// A pipe gives what is in it, and takes what fits: both ends go round more than once.
TEST(FdTest, ShortReadsAndWritesGoOn) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const auto sent = tests::noise(1'000'000);
    const auto child = [&] {
        reader.reset();
        write_all(writer.get(), sent, "pipe");
        return 0;
    };
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(child());
    writer.reset();
    std::vector<std::byte> received(sent.size() + 1);
    EXPECT_EQ(read_full(reader.get(), received, "pipe"), sent.size());
    received.resize(sent.size());
    EXPECT_EQ(received, sent);
    ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
}

TEST(FdTest, TextFileOfUnknownSizeIsReadWhole) {
    const std::string maps = read_text_file("/proc/self/smaps");
    EXPECT_GT(maps.size(), 16384U);
    EXPECT_EQ(maps.back(), '\n');
    EXPECT_EQ(error_of([] { static_cast<void>(read_text_file("/proc")); }), EISDIR);
}

TEST(MemfdTest, LongNameIsCutNotRefused) {
    const UniqueFd image = create_memfd(std::string(1000, 'n'));
    EXPECT_TRUE(image);
}

TEST(MemfdTest, ClosedDescriptorIsEbadf) {
    const int closed = closed_descriptor();
    EXPECT_EQ(error_of([&] { resize_memfd(closed, 4096, "gone"); }), EBADF);
    EXPECT_EQ(error_of([&] { seal_memfd(closed, "gone"); }), EBADF);
    EXPECT_EQ(error_of([&] { static_cast<void>(file_bytes(closed)); }), EBADF);
    EXPECT_FALSE(is_immutable(closed));
}

TEST(MemfdTest, ResizeSetsTheSizeAndRefusesWhatNoFileCanBe) {
    const UniqueFd image = create_memfd("image");
    resize_memfd(image.get(), 12345, "image");
    EXPECT_EQ(file_bytes(image.get()), 12345U);
    EXPECT_EQ(error_of([&] { resize_memfd(image.get(), UINT64_MAX, "image"); }), EINVAL);
    EXPECT_EQ(file_bytes(image.get()), 12345U);
}

TEST(MemfdTest, FileSizeLimitIsEfbig) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGXFSZ, SIG_IGN);
                  const tests::ScopedLimit limit(RLIMIT_FSIZE, 4096);
                  const UniqueFd image = create_memfd("image");
                  return error_of([&] { resize_memfd(image.get(), 8192, "image"); });
              }),
              (tests::ChildEnd{EFBIG, 0}));
}

TEST(MemfdTest, SealedImageRefusesWriteGrowShrinkAndUnseal) {
    const UniqueFd image = create_memfd("image");
    resize_memfd(image.get(), 8192, "image");
    EXPECT_FALSE(is_immutable(image.get()));
    seal_memfd(image.get(), "image");
    EXPECT_TRUE(is_immutable(image.get()));
    EXPECT_EQ(::pwrite(image.get(), "x", 1, 0), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(error_of([&] { resize_memfd(image.get(), 4096, "image"); }), EPERM);
    EXPECT_EQ(error_of([&] { resize_memfd(image.get(), 16384, "image"); }), EPERM);
    EXPECT_EQ(error_of([&] { seal_memfd(image.get(), "image"); }), EPERM);
    EXPECT_EQ(::fallocate(image.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, image.get(), 0), MAP_FAILED);
    EXPECT_EQ(errno, EPERM);
}

TEST(MemfdTest, SealingWhileSomeoneCanWriteIsEbusy) {
    const UniqueFd image = create_memfd("image");
    resize_memfd(image.get(), 4096, "image");
    void* const writable = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, image.get(), 0);
    ASSERT_NE(writable, MAP_FAILED);
    EXPECT_EQ(error_of([&] { seal_memfd(image.get(), "image"); }), EBUSY);
    EXPECT_FALSE(is_immutable(image.get()));
    ::munmap(writable, 4096);
    seal_memfd(image.get(), "image");
}

TEST(MemfdTest, SealingThroughAReadOnlyDescriptorIsEperm) {
    const UniqueFd image = create_memfd("image");
    const UniqueFd reader = open_file("/proc/self/fd/" + std::to_string(image.get()), O_RDONLY);
    EXPECT_EQ(error_of([&] { seal_memfd(reader.get(), "image"); }), EPERM);
    EXPECT_EQ(error_of([&] { resize_memfd(reader.get(), 4096, "image"); }), EINVAL);
}

TEST(MemfdTest, OnlyACompletelySealedMemfdIsImmutable) {
    const UniqueFd image = create_memfd("image");
    ASSERT_EQ(::fcntl(image.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK), 0);
    EXPECT_FALSE(is_immutable(image.get())) << "further seals can still be added";
    EXPECT_FALSE(is_immutable(dev_null().get()));
    EXPECT_FALSE(is_immutable(-1));
}

// Its pages come from a pool that may be empty: reading it would be SIGBUS.
TEST(MemfdTest, SealedFileOfHugetlbPagesIsNoImage) {
    const UniqueFd file(::memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
    if (!file) GTEST_SKIP() << "no hugetlbfs in this kernel";
    ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(kHugeBytes)), 0);
    seal_memfd(file.get(), "huge");
    EXPECT_FALSE(is_immutable(file.get()));
}

class MemoryTest : public testing::Test {
protected:
    MemoryTest() { resize_memfd(image_.get(), kBytes, "image"); }

    static constexpr std::size_t kBytes = 4 * kPageBytes;
    const UniqueFd image_ = create_memfd("image");
    const Slot slot_ = Slot::reserve(kBytes);
    std::byte* const at_ = slot_.address();
};

TEST_F(MemoryTest, SharedWriteReachesTheFileAndPrivateWriteDoesNot) {
    ASSERT_EQ(map_file_at(at_, kBytes, MapMode::shared_write, image_.get(), 0), 0);
    at_[0] = std::byte{1};
    ASSERT_EQ(map_file_at(at_, kBytes, MapMode::private_write, image_.get(), 0), 0);
    EXPECT_EQ(at_[0], std::byte{1});
    at_[0] = std::byte{2};
    ASSERT_EQ(map_file_at(at_, kBytes, MapMode::read_only, image_.get(), 0), 0);
    EXPECT_EQ(at_[0], std::byte{1});
}

TEST_F(MemoryTest, ReadOnlyMappingOfASealedImageIsAllowed) {
    seal_memfd(image_.get(), "image");
    EXPECT_EQ(map_file_at(at_, kBytes, MapMode::read_only, image_.get(), 0), 0);
    EXPECT_EQ(map_file_at(at_, kBytes, MapMode::private_write, image_.get(), 0), 0);
    EXPECT_EQ(map_file_at(at_, kBytes, MapMode::shared_write, image_.get(), 0), EPERM);
}

TEST_F(MemoryTest, MappingAFileThatIsNotThereIsEbadf) {
    EXPECT_EQ(map_file_at(at_, kBytes, MapMode::read_only, closed_descriptor(), 0), EBADF);
}

TEST_F(MemoryTest, UnalignedRangesAreEinval) {
    EXPECT_EQ(map_file_at(at_ + 1, kBytes, MapMode::read_only, image_.get(), 0), EINVAL);
    EXPECT_EQ(map_file_at(at_, kBytes, MapMode::read_only, image_.get(), 1), EINVAL);
    EXPECT_EQ(reserve_at(at_ + 1, kBytes), EINVAL);
    EXPECT_EQ(unmap(at_ + 1, kBytes), EINVAL);
    EXPECT_EQ(keep_out_of_children(at_ + 1, kBytes), EINVAL);
    EXPECT_EQ(make_read_only(at_ + 1, kBytes), EINVAL);
    EXPECT_EQ(collapse(at_ + 1, kHugeBytes), EINVAL);
}

TEST_F(MemoryTest, RangesThatAreNotMappedAreEnomem) {
    std::byte* const nothing = reserve(kHugeBytes);
    ASSERT_NE(nothing, nullptr);
    ASSERT_EQ(unmap(nothing, kHugeBytes), 0);
    EXPECT_EQ(keep_out_of_children(nothing, kBytes), ENOMEM);
    EXPECT_EQ(make_read_only(nothing, kBytes), ENOMEM);
    EXPECT_NE(collapse(nothing, kHugeBytes), 0);
}

TEST_F(MemoryTest, ReservationIsAlignedAndAnyAccessToItIsSigsegv) {
    std::byte* const range = reserve(3 * kPageBytes);
    ASSERT_NE(range, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(range) % kHugeBytes, 0U);
    const auto touch = [](std::byte* byte) {
        tests::set_action(SIGSEGV, SIG_DFL);
        return static_cast<int>(*const_cast<volatile std::byte*>(byte));
    };
    EXPECT_EQ(in_child([&] { return touch(range + 2 * kPageBytes); }), (tests::ChildEnd{-1, SIGSEGV}));
    ASSERT_EQ(map_file_at(at_, kBytes, MapMode::shared_write, image_.get(), 0), 0);
    EXPECT_EQ(in_child([&] { return touch(at_); }), tests::kChildExitedWell);
    ASSERT_EQ(reserve_at(at_, kBytes), 0);
    EXPECT_EQ(in_child([&] { return touch(at_); }), (tests::ChildEnd{-1, SIGSEGV}));
    EXPECT_EQ(unmap(range, 3 * kPageBytes), 0);
}

TEST_F(MemoryTest, ReservationBeyondTheAddressSpaceIsNull) {
    EXPECT_EQ(reserve(std::size_t{1} << 60), nullptr);
    EXPECT_EQ(errno, ENOMEM);
}

TEST_F(MemoryTest, PrivateWriteAfterProtectionIsSigsegv) {
    ASSERT_EQ(map_file_at(at_, kBytes, MapMode::private_write, image_.get(), 0), 0);
    at_[0] = std::byte{1};
    ASSERT_EQ(make_read_only(at_, kBytes), 0);
    EXPECT_EQ(at_[0], std::byte{1});
    EXPECT_EQ(in_child([&] {
                  tests::set_action(SIGSEGV, SIG_DFL);
                  at_[0] = std::byte{2};
                  return 0;
              }),
              (tests::ChildEnd{-1, SIGSEGV}));
}

TEST(SmapsTest, CountsOfAKnownMappingAreExact) {
    constexpr std::size_t kPages = 16;
    const UniqueFd image = create_memfd("image");
    resize_memfd(image.get(), kPages * kPageBytes, "image");
    const Slot slot = Slot::reserve(kPages * kPageBytes);
    std::byte* const at = slot.address();
    ASSERT_EQ(map_file_at(at, kPages * kPageBytes, MapMode::private_write, image.get(), 0), 0);
    const auto totals = [&] { return read_smaps(reinterpret_cast<std::uintptr_t>(at), kPages * kPageBytes); };
    EXPECT_EQ(totals().resident_bytes, 0U);
    for (const std::size_t page : {0U, 3U, 4U, 15U}) at[page * kPageBytes] = std::byte{1};
    EXPECT_EQ(totals().anonymous_bytes, 4 * kPageBytes);
    EXPECT_GE(totals().resident_bytes, 4 * kPageBytes);
    EXPECT_EQ(totals().huge_mapped_bytes, 0U);
    EXPECT_EQ(read_smaps(reinterpret_cast<std::uintptr_t>(at), kPageBytes).resident_bytes, 0U)
        << "a mapping that only begins in the range does not lie in it";
}

TEST(FaultsTest, FirstTouchOfAPageIsOneMinorFault) {
    constexpr std::size_t kPages = 64;
    const UniqueFd image = create_memfd("image");
    resize_memfd(image.get(), kPages * kPageBytes, "image");
    const Slot slot = Slot::reserve(kPages * kPageBytes);
    ASSERT_EQ(map_file_at(slot.address(), kPages * kPageBytes, MapMode::private_write, image.get(), 0), 0);
    const FaultCounts before = fault_counts();
    for (std::size_t page = 0; page < kPages; ++page) slot.address()[page * kPageBytes] = std::byte{1};
    EXPECT_GE(fault_counts().minor - before.minor, kPages);
}

}  // namespace
