// Tests memfds: size, seals, names, and what counts as immutable or fillable.
#include "vmcow/sys/memfd.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "tests/support/support.hpp"
#include "tests/vmcow/sys/closed_descriptor.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::sys;
using tests::closed_descriptor;
using tests::error_of;
using tests::in_child;

UniqueFd dev_null() { return open_file("/dev/null", O_RDWR); }

TEST(MemfdTest, LongNameIsCutNotRefused) {
    const UniqueFd image = create_memfd(std::string(1000, 'n'));
    EXPECT_TRUE(image);
}

TEST(MemfdTest, ClosedDescriptorIsEbadf) {
    const int closed = closed_descriptor();
    EXPECT_EQ(error_of([&] { resize_memfd(closed, 4096, "gone"); }), EBADF);
    EXPECT_EQ(error_of([&] { seal_memfd(closed, "gone"); }), EBADF);
    EXPECT_EQ(error_of([&] { static_cast<void>(file_bytes(closed)); }), EBADF);
    EXPECT_EQ(error_of([&] { static_cast<void>(is_immutable(closed)); }), EBADF);
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
    EXPECT_EQ(error_of([] { static_cast<void>(is_immutable(-1)); }), EBADF);
}

// Huge pages come from a pool that may be empty, and reading the file would then be SIGBUS.
TEST(MemfdTest, SealedFileOfHugetlbPagesIsNoImage) {
    const UniqueFd file(::memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
    if (!file) GTEST_SKIP() << "no hugetlbfs in this kernel";
    ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(kHugeBytes)), 0);
    seal_memfd(file.get(), "huge");
    EXPECT_FALSE(is_immutable(file.get()));
}

TEST(MemfdTest, NameIsShownWhereMappingsAreListed) {
    const UniqueFd image = create_memfd("of a test");
    EXPECT_EQ(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(image.get())),
              "/memfd:vmcow:of a test (deleted)");
}

TEST(MemfdTest, InodeIsThatOfTheFileWhoeverHoldsIt) {
    const UniqueFd image = create_memfd("image");
    const UniqueFd other = create_memfd("image");
    EXPECT_EQ(inode_of(image.get()), inode_of(duplicate(image.get()).get()));
    EXPECT_NE(inode_of(image.get()), inode_of(other.get()));
    EXPECT_NE(inode_of(image.get()), 0U);
    EXPECT_EQ(error_of([] { static_cast<void>(inode_of(closed_descriptor())); }), EBADF);
}

TEST(MemfdTest, FileThatCannotBeSealedIsNeitherImmutableNorNot) {
    const UniqueFd image = create_memfd("image");
    EXPECT_EQ(immutability(image.get()), false);
    seal_memfd(image.get(), "image");
    EXPECT_EQ(immutability(image.get()), true);
    EXPECT_EQ(immutability(dev_null().get()), std::nullopt);
    EXPECT_EQ(error_of([] { static_cast<void>(immutability(closed_descriptor())); }), EBADF);
}

TEST(MemfdTest, FillableIsWhatCanBeWrittenResizedAndSealed) {
    const UniqueFd image = create_memfd("image");
    EXPECT_TRUE(is_fillable(image.get()));
    EXPECT_FALSE(is_fillable(open_file("/proc/self/fd/" + std::to_string(image.get()), O_RDONLY).get()));
    EXPECT_FALSE(is_fillable(open_file("/proc/self/fd/" + std::to_string(image.get()), O_WRONLY).get()));
    EXPECT_FALSE(is_fillable(dev_null().get()));
    for (const int seal : {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_SEAL}) {
        const UniqueFd sealed = create_memfd("image");
        ASSERT_EQ(::fcntl(sealed.get(), F_ADD_SEALS, seal), 0);
        EXPECT_FALSE(is_fillable(sealed.get())) << seal;
    }
    EXPECT_EQ(error_of([] { static_cast<void>(is_fillable(closed_descriptor())); }), EBADF);
}

}  // namespace
