// Tests images that are a part of a file on disk.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/sys/memfd.hpp"

namespace vmcow {
namespace {

using tests::error_of;
using tests::noise;
using tests::same_bytes;
using tests::snapshot_of;
using tests::TemporaryDirectory;

/// A regular file of four pages of noise.
class FilePartTest : public testing::Test {
protected:
    FilePartTest() {
        const sys::UniqueFd fd = sys::open_file(path_, O_WRONLY | O_CREAT);
        sys::write_all(fd.get(), bytes_, path_);
    }

    [[nodiscard]] std::shared_ptr<const ReadOnlyImage> map(FilePart part) const {
        return std::make_shared<const ReadOnlyImage>(sys::open_file(path_, O_RDONLY), Slot::reserve(4 * kPageBytes),
                                                     "part", FileState::on_disk, part);
    }

    TemporaryDirectory directory_;
    std::string path_ = directory_ / "file";
    std::vector<std::byte> bytes_ = noise(4 * kPageBytes);
};

TEST_F(FilePartTest, ImageIsThePartAndNothingElse) {
    const auto part = map({kPageBytes, 2 * kPageBytes});
    EXPECT_EQ(kPageBytes, part->file_offset());
    EXPECT_EQ(2 * kPageBytes, part->bytes());
    EXPECT_FALSE(part->is_sealed_file());
    EXPECT_TRUE(same_bytes(std::span(bytes_).subspan(kPageBytes, 2 * kPageBytes), {part->data(), part->bytes()}));
    EXPECT_EQ(4 * kPageBytes, map({})->bytes());
    EXPECT_EQ(3 * kPageBytes, map({kPageBytes, 0})->bytes());
}

TEST_F(FilePartTest, DeltaThatFillsAPartIsMappedFromThere) {
    std::vector<PageIndex> pages;
    for (std::uint64_t i = 0; i < 20; ++i) pages.push_back({i * (i < 10 ? 1 : 2)});
    const std::vector<std::byte> content = noise(20 * kPageBytes, 5);
    {
        const sys::UniqueFd fd = sys::open_file(path_, O_WRONLY);
        ASSERT_EQ(static_cast<ssize_t>(content.size()),
                  ::pwrite(fd.get(), content.data(), content.size(), 3 * kPageBytes));
    }
    auto image =
        std::make_shared<const ReadOnlyImage>(sys::open_file(path_, O_RDONLY), Slot::reserve(content.size()), "delta",
                                              FileState::on_disk, FilePart{3 * kPageBytes, content.size()});
    const Snapshot below = snapshot_of(noise(40 * kPageBytes));
    const Snapshot above(below.layers()->with_delta(Delta::filling(image, pages)));
    const View view = above.map_private();
    for (std::size_t i = 0; i < pages.size(); ++i) {
        const std::byte* const expected = &content[i * kPageBytes];
        EXPECT_EQ(0, std::memcmp(expected, above.page(pages[i]), kPageBytes)) << i;
        EXPECT_EQ(0, std::memcmp(expected, &view.bytes()[pages[i].byte_offset()], kPageBytes)) << i;
    }
}

TEST_F(FilePartTest, FunctionProcessSeesThePart) {
    const auto part = map({kPageBytes, kPageBytes});
    ImagesInFork fork;
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                  if (fork.map_again() != 0) return 2;
                  return std::memcmp(part->data(), &bytes_[kPageBytes], kPageBytes) == 0 ? 0 : 1;
              }));
}

TEST_F(FilePartTest, LatestDiskCopiesAreRemembered) {
    const auto part = map({});
    constexpr std::size_t kMany = ReadOnlyImage::kMaxDiskCopies + 3;
    for (std::size_t i = 0; i < kMany; ++i) {
        DiskCopy copy;
        copy.path = std::to_string(i);
        part->remember(copy);
    }
    DiskCopy again;
    again.path = std::to_string(kMany - 2);
    part->remember(again);
    const auto copies = part->disk_copies();
    ASSERT_EQ(ReadOnlyImage::kMaxDiskCopies, copies.size());
    EXPECT_EQ(again.path, copies[0]->path);
    EXPECT_EQ(std::to_string(kMany - 1), copies[1]->path);
    EXPECT_EQ(std::to_string(kMany - 3), copies[2]->path);
}

TEST_F(FilePartTest, FileOnDiskIsNotImmutable) {
    EXPECT_EQ(error_of([&] { ReadOnlyImage(sys::open_file(path_, O_RDONLY), Slot::reserve(4 * kPageBytes), "file"); }),
              EINVAL);
}

using FilePartDeathTest = FilePartTest;

TEST_F(FilePartDeathTest, PartBehindTheEndIsABug) {
    EXPECT_DEATH((void)map({kPageBytes, 4 * kPageBytes}), "part.bytes <= file_bytes");
}

}  // namespace
}  // namespace vmcow
