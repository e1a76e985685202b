// Tests mapping, reserving and protecting memory.
#include "vmcow/sys/mmap.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>

#include "tests/support/support.hpp"
#include "tests/vmcow/sys/closed_descriptor.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::sys;
using tests::closed_descriptor;
using tests::in_child;

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

}  // namespace
