// Tests delta files, which are saved relative to another file, and sharing blocks with the file of a base.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "tests/vmcow/file/saved_images.hpp"
#include "vmcow/file/image_file_format.hpp"
#include "vmcow/file/save_image.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image_file.hpp"

namespace vmcow {
namespace {

namespace fs = std::filesystem;

using tests::contains;
using tests::error_of;
using tests::kFast;
using tests::message_of;
using tests::noise;
using tests::relative_to;
using tests::same_bytes;
using tests::snapshot_of;
using tests::TemporaryDirectory;
using tests::with_pages_changed;

/// A relative of `snapshot` in which `pages` are zeros.
Snapshot with_pages_zeroed(const Snapshot& snapshot, const tests::Pages& pages) {
    View view = snapshot.map_private();
    for (const std::uint64_t page : pages) std::memset(&view.bytes()[page * kPageBytes], 0, kPageBytes);
    return view.capture();
}

bool file_holds(const std::string& path, const Snapshot& expected) {
    return same_bytes(expected.bytes(), load_image(path, {.verify = Verify::content}).snapshot.bytes());
}

class ImageRelativeTest : public testing::Test {
protected:
    TemporaryDirectory directory_;
    std::string base_ = directory_ / "base";
    std::string delta_ = directory_ / "delta";
    Snapshot snapshot_ = snapshot_of(noise(100 * kPageBytes), {.name = "text"});
};

TEST_F(ImageRelativeTest, LoadedImageIsARelativeOfItsFile) {
    (void)save_image(snapshot_, base_, kFast);
    const Snapshot changed = with_pages_changed(load_image(base_).snapshot, {3, 4}, std::byte{1});
    EXPECT_EQ(PageCount{2}, save_image(changed, delta_, relative_to(base_)).stored);
    EXPECT_TRUE(file_holds(delta_, changed));
}

/// The file holds the base with the deltas, so it is not the file of the base.
TEST_F(ImageRelativeTest, SnapshotWithDeltasIsARelativeOfItsWholeFile) {
    const Snapshot saved = with_pages_changed(snapshot_, {3, 4}, std::byte{1});
    (void)save_image(saved, base_, kFast);
    const Snapshot newer = with_pages_changed(saved, {4, 5}, std::byte{2});
    EXPECT_EQ(PageCount{2}, save_image(newer, delta_, relative_to(base_)).stored);
    EXPECT_TRUE(file_holds(delta_, newer));
    EXPECT_EQ(PageCount{2}, save_image(snapshot_, delta_, relative_to(base_)).stored);
    EXPECT_TRUE(file_holds(delta_, snapshot_));
}

TEST_F(ImageRelativeTest, SiblingsAreSavedRelativeToEachOther) {
    (void)save_image(snapshot_, base_, kFast);
    const Snapshot one = with_pages_changed(snapshot_, {1, 2, 3}, std::byte{1});
    const Snapshot other = with_pages_changed(snapshot_, {3, 4}, std::byte{2});
    (void)save_image(one, delta_, relative_to(base_));
    EXPECT_EQ(PageCount{4}, save_image(other, directory_ / "other", relative_to(delta_)).stored);
    EXPECT_TRUE(file_holds(directory_ / "other", other));
}

TEST_F(ImageRelativeTest, NothingChangedIsADeltaFileWithoutPages) {
    (void)save_image(snapshot_, base_, kFast);
    EXPECT_EQ(PageCount{0}, save_image(snapshot_, delta_, relative_to(base_)).stored);
    EXPECT_TRUE(file_holds(delta_, snapshot_));
    const Snapshot back = with_pages_changed(with_pages_changed(snapshot_, {7}, std::byte{1}), {7},
                                             snapshot_.bytes()[7 * kPageBytes + 17]);
    EXPECT_EQ(PageCount{0}, save_image(back, delta_, relative_to(base_)).stored);
}

TEST_F(ImageRelativeTest, PagesThatBecameZeroAreHolesOfTheDeltaFile) {
    (void)save_image(snapshot_, base_, kFast);
    const Snapshot zeroed = with_pages_zeroed(snapshot_, tests::run_of(10, 20));
    const SaveReport report = save_image(zeroed, delta_, relative_to(base_));
    EXPECT_EQ(PageCount{20}, report.stored);
    EXPECT_EQ(PageCount{20}, report.holes);
    EXPECT_TRUE(file_holds(delta_, zeroed));
}

TEST_F(ImageRelativeTest, GrownImageIsSavedWithWhatItGrewBy) {
    (void)save_image(snapshot_, base_, kFast);
    View view(snapshot_, std::size_t{1} << 20);
    view.grow(130 * kPageBytes + 5);
    view.bytes()[110 * kPageBytes] = std::byte{7};
    const Snapshot grown = view.capture();
    EXPECT_EQ(PageCount{1}, save_image(grown, delta_, relative_to(base_)).stored);
    EXPECT_TRUE(file_holds(delta_, grown));
    (void)save_image(grown, directory_ / "whole", kFast);
    EXPECT_TRUE(file_holds(directory_ / "whole", grown));
    EXPECT_EQ(EINVAL, error_of([&] { (void)save_image(snapshot_, directory_ / "other", relative_to(delta_)); }));
}

/// The chain of files is deeper than deltas are stacked in memory.
TEST_F(ImageRelativeTest, ChainOfFilesIsAsDeepAsAllowedAndNotDeeper) {
    (void)save_image(snapshot_, base_, kFast);
    std::string below = base_;
    Snapshot newest = snapshot_;
    for (std::uint64_t i = 1; i <= kMaxImageFileDepth; ++i) {
        newest = with_pages_changed(newest, {i % 7, i}, static_cast<std::byte>(i));
        const std::string path = directory_ / std::to_string(i);
        (void)save_image(newest, path, relative_to(below));
        below = path;
    }
    const LoadedImage loaded = load_image(below);
    EXPECT_EQ(kMaxImageFileDepth + 1, loaded.files);
    EXPECT_LE(loaded.snapshot.delta_count(), Layers::kMaxDeltas);
    EXPECT_TRUE(same_bytes(newest.bytes(), loaded.snapshot.bytes()));
    EXPECT_EQ(E2BIG, error_of([&] { (void)save_image(newest, directory_ / "more", relative_to(below)); }));
    EXPECT_FALSE(fs::exists(directory_ / "more"));
}

TEST_F(ImageRelativeTest, StrangerIsRefusedWithBothNames) {
    (void)save_image(snapshot_, base_, kFast);
    const Snapshot stranger = snapshot_of(noise(100 * kPageBytes), {.name = "stranger"});
    const auto save = [&] { (void)save_image(stranger, delta_, relative_to(base_)); };
    EXPECT_EQ(EINVAL, error_of(save));
    for (const std::string& part : {delta_, base_, std::string("stranger"), std::string("does not hold a relative")}) {
        EXPECT_TRUE(contains(message_of(save), part)) << message_of(save);
    }
    EXPECT_FALSE(fs::exists(delta_));
}

TEST_F(ImageRelativeTest, FileDoesNotStandOnItself) {
    (void)save_image(snapshot_, base_, kFast);
    (void)save_image(with_pages_changed(snapshot_, {1}, std::byte{1}), delta_, relative_to(base_));
    EXPECT_EQ(EINVAL, error_of([&] { (void)save_image(snapshot_, base_, relative_to(base_)); }));
    EXPECT_EQ(EINVAL, error_of([&] { (void)save_image(snapshot_, base_, relative_to(delta_)); }));
    EXPECT_TRUE(file_holds(base_, snapshot_));
}

TEST_F(ImageRelativeTest, FilesThatStandOnEachOtherMoveTogether) {
    fs::create_directories(directory_ / "a/bases");
    fs::create_directories(directory_ / "a/deltas");
    (void)save_image(snapshot_, directory_ / "a/bases/base", kFast);
    const Snapshot changed = with_pages_changed(snapshot_, {1}, std::byte{1});
    (void)save_image(changed, directory_ / "a/deltas/delta", relative_to(directory_ / "a/bases/base"));
    fs::rename(directory_ / "a", directory_ / "b");
    EXPECT_TRUE(file_holds(directory_ / "b/deltas/delta", changed));
}

TEST_F(ImageRelativeTest, MissingOrReplacedFileBelowIsAnErrorThatNamesBoth) {
    (void)save_image(snapshot_, base_, kFast);
    (void)save_image(with_pages_changed(snapshot_, {1}, std::byte{1}), delta_, relative_to(base_));
    (void)save_image(snapshot_, base_, kFast);
    const auto load = [&] { (void)load_image(delta_); };
    EXPECT_EQ(EBADMSG, error_of(load));
    EXPECT_TRUE(contains(message_of(load), delta_) && contains(message_of(load), base_)) << message_of(load);
    EXPECT_TRUE(contains(message_of(load), "not the file that it was saved relative to")) << message_of(load);
    fs::remove(base_);
    EXPECT_EQ(ENOENT, error_of(load));
    EXPECT_TRUE(contains(message_of(load), delta_) && contains(message_of(load), base_)) << message_of(load);
    EXPECT_EQ(EBADMSG, error_of([&] {
                  std::ofstream(base_) << "text";
                  load();
              }));
    EXPECT_TRUE(contains(message_of(load), delta_) && contains(message_of(load), base_)) << message_of(load);
}

/// Stands in for a file system that shares blocks: copies them.
int copy_instead(int from, std::uint64_t from_offset, std::uint64_t bytes, int to, std::uint64_t to_offset) noexcept {
    std::vector<std::byte> buffer(bytes);
    if (::pread(from, buffer.data(), bytes, static_cast<off_t>(from_offset)) != static_cast<ssize_t>(bytes)) return EIO;
    const ssize_t written = ::pwrite(to, buffer.data(), bytes, static_cast<off_t>(to_offset));
    return written == static_cast<ssize_t>(bytes) ? 0 : EIO;
}

/// Writes junk and then fails, like a clone that is refused half-way.
int spoil_and_refuse(int /*from*/, std::uint64_t /*from_offset*/, std::uint64_t bytes, int to,
                     std::uint64_t to_offset) noexcept {
    const std::vector<std::byte> junk(bytes, std::byte{0xee});
    (void)!::pwrite(to, junk.data(), bytes, static_cast<off_t>(to_offset));
    return EOPNOTSUPP;
}

class ImageCloneTest : public ImageRelativeTest {
protected:
    Snapshot large_ = snapshot_of(noise(5 * kImageBlockBytes + 3 * kPageBytes + 100));
};

TEST_F(ImageCloneTest, WhatDidNotChangeIsSharedWithTheFileOfTheBase) {
    (void)save_image(large_, base_, kFast);
    for (const Snapshot& relative : {large_, load_image(base_).snapshot}) {
        const Snapshot changed =
            with_pages_zeroed(with_pages_changed(relative, {0, 200, 322}, std::byte{1}), {70, 71, 200});
        const SaveReport report = save_image(changed, directory_ / "new", kFast, copy_instead);
        EXPECT_EQ(0, report.clone_error);
        EXPECT_EQ(large_.page_count().bytes(), report.cloned_bytes);
        EXPECT_LT(report.written_bytes, PageCount{5 + 2}.bytes());
        EXPECT_TRUE(file_holds(directory_ / "new", changed));
    }
}

TEST_F(ImageCloneTest, FileThatWasClonedIsClonedFrom) {
    (void)save_image(large_, base_, kFast);
    const Snapshot one = with_pages_changed(large_, {0, 200}, std::byte{1});
    (void)save_image(one, directory_ / "one", kFast, copy_instead);
    // The latest disk copy of the base is now that file, which differs from the base.
    const Snapshot other = with_pages_changed(large_, {200, 201}, std::byte{2});
    (void)save_image(other, directory_ / "other", kFast, copy_instead);
    EXPECT_TRUE(file_holds(directory_ / "other", other));
    EXPECT_EQ(0, save_image(large_, directory_ / "again", kFast, copy_instead).clone_error);
    EXPECT_TRUE(file_holds(directory_ / "again", large_));
}

TEST_F(ImageCloneTest, ImageThatGrewSharesWhatItHadBefore) {
    (void)save_image(large_, base_, kFast);
    View view(large_, std::size_t{4} << 20);
    view.grow(8 * kImageBlockBytes);
    view.bytes()[7 * kImageBlockBytes] = std::byte{7};
    view.bytes()[10] = std::byte{7};
    const Snapshot grown = view.capture();
    EXPECT_EQ(0, save_image(grown, delta_, kFast, copy_instead).clone_error);
    EXPECT_TRUE(file_holds(delta_, grown));
    EXPECT_EQ(0, save_image(large_, directory_ / "small", kFast, copy_instead).clone_error);
    EXPECT_TRUE(file_holds(directory_ / "small", large_));
}

TEST_F(ImageCloneTest, MappedFileIsClonedFromEvenWhenItsNameIsGone) {
    (void)save_image(large_, base_, kFast);
    const Snapshot loaded = load_image(base_).snapshot;
    fs::remove(base_);
    EXPECT_EQ(0, save_image(loaded, delta_, kFast, copy_instead).clone_error);
    EXPECT_TRUE(file_holds(delta_, large_));
}

TEST_F(ImageCloneTest, FileThatIsNoLongerTheSameIsNotClonedFrom) {
    (void)save_image(large_, base_, kFast);
    (void)save_image(snapshot_, base_, kFast);
    EXPECT_EQ(std::nullopt, save_image(large_, delta_, kFast, copy_instead).clone_error);
    fs::remove(delta_);
    fs::remove(base_);
    EXPECT_EQ(std::nullopt, save_image(large_, delta_, kFast, copy_instead).clone_error);
    EXPECT_TRUE(file_holds(delta_, large_));
}

TEST_F(ImageCloneTest, RefusedCloneIsReportedAndEverythingIsWritten) {
    (void)save_image(large_, base_, kFast);
    const Snapshot zeroed = with_pages_zeroed(large_, tests::run_of(60, 70));
    const SaveReport report = save_image(zeroed, delta_, kFast, spoil_and_refuse);
    EXPECT_EQ(EOPNOTSUPP, report.clone_error);
    EXPECT_EQ(0U, report.cloned_bytes);
    EXPECT_EQ(PageCount{70}, report.holes);
    EXPECT_GT(report.written_bytes, (large_.page_count() - PageCount{70}).bytes());
    EXPECT_TRUE(file_holds(delta_, zeroed));
}

/// The file system of the temporary directory shares blocks, or the errno says that it does not.
TEST_F(ImageCloneTest, KernelsAnswerIsReported) {
    (void)save_image(large_, base_, kFast);
    const SaveReport report = save_image(large_, delta_, kFast);
    ASSERT_TRUE(report.clone_error);
    EXPECT_EQ(*report.clone_error == 0, report.cloned_bytes > 0);
    EXPECT_TRUE(file_holds(delta_, large_));
    EXPECT_EQ(EBADF, sys::clone_range(-1, 0, kPageBytes, -1, 0));
}

/// A saved snapshot, the path of its file, and the bytes that both must have.
struct Saved {
    std::string path;
    Snapshot snapshot;
    std::vector<std::byte> expected;
};

void change_some(View& view) {
    const auto writes = *rc::gen::container<std::vector<std::pair<std::uint16_t, std::uint8_t>>>(
        rc::gen::arbitrary<std::pair<std::uint16_t, std::uint8_t>>());
    for (const auto& [at, value] : writes) {
        std::byte* const page = &view.bytes()[at % (view.bytes().size() / kPageBytes) * kPageBytes];
        if (value % 4 == 0) {
            std::memset(page, 0, kPageBytes);
        } else {
            page[at % kPageBytes] = std::byte{value};
        }
    }
}

RC_GTEST_PROP(ImagePropertyTest, ProgramsOfEditsSavesAndLoadsAgreeWithDeepCopies, ()) {
    const TemporaryDirectory directory;
    const Snapshot first = snapshot_of(noise(90 * kPageBytes));
    (void)save_image(first, directory / "0", kFast);
    std::vector<Saved> saved{{directory / "0", first, tests::copy_of(first.bytes())}};
    const auto steps = *rc::gen::inRange<std::size_t>(1, 12);
    for (std::size_t i = 1; i <= steps; ++i) {
        const Saved& from = saved[*rc::gen::inRange<std::size_t>(0, saved.size())];
        const bool loads = *rc::gen::arbitrary<bool>();
        View view = (loads ? load_image(from.path).snapshot : from.snapshot).map_private();
        change_some(view);
        Snapshot now = view.capture();
        const std::string path = directory / std::to_string(i);
        const Saved& below = saved[*rc::gen::inRange<std::size_t>(0, saved.size())];
        // Any file may be the base. That of a stranger is refused, and then the image is saved whole.
        const int refused = error_of([&] { (void)save_image(now, path, relative_to(below.path)); });
        RC_ASSERT(refused == 0 || refused == EINVAL);
        const bool whole = refused != 0 || *rc::gen::arbitrary<bool>();
        if (whole) (void)save_image(now, path, kFast, *rc::gen::arbitrary<bool>() ? copy_instead : spoil_and_refuse);
        std::vector<std::byte> expected = tests::copy_of(view.bytes());
        saved.push_back({path, std::move(now), std::move(expected)});
    }
    for (const Saved& each : saved) {
        RC_ASSERT(same_bytes(each.expected, each.snapshot.bytes()));
        RC_ASSERT(same_bytes(each.expected, load_image(each.path).snapshot.bytes()));
    }
}

}  // namespace
}  // namespace vmcow
