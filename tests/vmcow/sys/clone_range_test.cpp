// Tests sharing the blocks of one file with another.
#include "vmcow/sys/clone_range.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <vector>

#include "tests/support/support.hpp"
#include "tests/vmcow/sys/closed_descriptor.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/memfd.hpp"

namespace {

using namespace vmcow::sys;
using tests::closed_descriptor;

constexpr std::size_t kBlockBytes = 65536;  // a multiple of the block size of any file system

class CloneRangeTest : public testing::Test {
protected:
    CloneRangeTest() { write_all(from_.get(), content_, "from"); }

    [[nodiscard]] UniqueFd file(const std::string& name) const { return open_file(folder_ / name, O_RDWR | O_CREAT); }
    [[nodiscard]] int clone(std::size_t bytes, std::size_t to_offset) const {
        return clone_range(from_.get(), 0, bytes, to_.get(), to_offset);
    }
    [[nodiscard]] std::vector<std::byte> bytes_at(std::size_t offset) const {
        std::vector<std::byte> bytes(kBlockBytes);
        EXPECT_EQ(::pread(to_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
                  static_cast<ssize_t>(bytes.size()));
        return bytes;
    }

    const tests::TemporaryDirectory folder_;
    const std::vector<std::byte> content_ = tests::noise(kBlockBytes);
    const UniqueFd from_ = file("from");
    const UniqueFd to_ = file("to");
};

// The file system of the temporary directory decides whether blocks can be shared.
TEST_F(CloneRangeTest, RangeIsTheSameInBothUntilOneIsWrittenOrNothingIsDone) {
    const int error = clone(kBlockBytes, 0);
    if (error != 0) {
        EXPECT_EQ(error, EOPNOTSUPP);
        EXPECT_EQ(file_bytes(to_.get()), 0U);
        return;
    }
    ASSERT_EQ(clone(kBlockBytes, kBlockBytes), 0);
    EXPECT_EQ(bytes_at(0), content_);
    EXPECT_EQ(bytes_at(kBlockBytes), content_);
    ASSERT_EQ(::pwrite(from_.get(), "x", 1, 0), 1);
    EXPECT_EQ(bytes_at(0), content_);
    EXPECT_EQ(clone(kBlockBytes, 1), EINVAL);
}

TEST_F(CloneRangeTest, AnotherFileSystemIsExdev) {
    const UniqueFd elsewhere = create_memfd("elsewhere");
    EXPECT_EQ(clone_range(from_.get(), 0, kBlockBytes, elsewhere.get(), 0), EXDEV);
}

TEST_F(CloneRangeTest, ClosedDescriptorIsEbadf) {
    const int closed = closed_descriptor();
    EXPECT_EQ(clone_range(closed, 0, kBlockBytes, to_.get(), 0), EBADF);
    EXPECT_EQ(clone_range(from_.get(), 0, kBlockBytes, closed, 0), EBADF);
}

TEST_F(CloneRangeTest, FileThatIsOpenForReadingAloneIsEbadf) {
    const UniqueFd reader = open_file(folder_ / "to", O_RDONLY);
    EXPECT_EQ(clone_range(from_.get(), 0, kBlockBytes, reader.get(), 0), EBADF);
}

}  // namespace
