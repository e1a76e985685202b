// Tests saving and loading image files: what they hold, how they replace files, and which errors they give.
#include "vmcow/image_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "tests/vmcow/file/saved_images.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/snapshot_parts.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/io_ring.hpp"
#include "vmcow/sys/memfd.hpp"

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

std::size_t entries_in(const fs::path& folder) {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

struct stat status_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(0, ::stat(path.c_str(), &status)) << path;
    return status;
}

/// Runs each test with io_uring and with write calls.
class ImageFileTest : public testing::TestWithParam<ImageIo> {
protected:
    void SetUp() override {
        if (GetParam() == ImageIo::write_calls) return;
        int error = 0;
        std::thread([&] { error = error_of([] { const sys::IoRing ring; }); }).join();
        if (error != 0) GTEST_SKIP() << "no io_uring";
    }

    [[nodiscard]] SaveOptions options() const { return {.sync = false, .io = GetParam()}; }

    TemporaryDirectory directory_;
    std::string path_ = directory_ / "image";
};

INSTANTIATE_TEST_SUITE_P(, ImageFileTest, testing::Values(ImageIo::io_uring, ImageIo::write_calls),
                         [](const auto& io) { return io.param == ImageIo::io_uring ? "IoUring" : "WriteCalls"; });

TEST_P(ImageFileTest, LoadedImageIsWhatWasSaved) {
    for (const std::size_t bytes : {0U, 1U, 4095U, 4096U, 4097U, 262144U, 262145U, 3U << 20}) {
        const Snapshot saved = snapshot_of(noise(bytes), {.name = "text"});
        SaveOptions wanted = options();
        wanted.type = 42;
        wanted.sync = true;
        const SaveReport report = save_image(saved, path_, wanted);
        EXPECT_EQ(GetParam(), report.io);
        EXPECT_EQ(0, report.io_uring_error);
        EXPECT_EQ(status_of(path_).st_size, static_cast<off_t>(report.file_bytes));
        EXPECT_EQ(saved.layers()->mapped_bytes(), report.stored.bytes());
        const LoadedImage loaded = load_image(path_);
        EXPECT_TRUE(same_bytes(saved.bytes(), loaded.snapshot.bytes())) << bytes;
        EXPECT_EQ("text", loaded.snapshot.name());
        EXPECT_EQ(42U, loaded.type);
        EXPECT_EQ(1U, loaded.files);
        EXPECT_TRUE(loaded.content_verified);
        EXPECT_FALSE(verify_image(path_));
    }
    EXPECT_EQ(1U, entries_in(directory_.path()));
}

TEST_P(ImageFileTest, PagesOfZerosAreHoles) {
    View view = tests::zeros(1000).map_private();
    const tests::Pages written{0, 5, 6, 700, 999};
    tests::write_pages(view, written);
    Arena arena({.pages = PagePolicy::small});
    arena.append(view.bytes());
    const Snapshot saved = std::move(arena).freeze();
    const SaveReport report = save_image(saved, path_, options());
    EXPECT_EQ(PageCount{1000 - written.size()}, report.holes);
    EXPECT_LT(report.written_bytes, PageCount{written.size() + 2}.bytes());
    EXPECT_TRUE(same_bytes(saved.bytes(), load_image(path_).snapshot.bytes()));
}

/// Reading a hole of a memfd would allocate a page: saving must not take memory that the image never needed.
TEST_P(ImageFileTest, HolesOfTheImageStayHoles) {
    Arena arena({.pages = PagePolicy::small});
    std::byte* const begin = arena.allocate_sparse(std::size_t{64} << 20);
    begin[std::size_t{20} << 20] = std::byte{1};
    const Snapshot saved = std::move(arena).freeze();
    struct stat before {};
    ASSERT_EQ(0, ::fstat(saved.base_fd(), &before));
    const SaveReport report = save_image(saved, path_, options());
    struct stat after {};
    ASSERT_EQ(0, ::fstat(saved.base_fd(), &after));
    EXPECT_EQ(before.st_blocks, after.st_blocks);
    EXPECT_EQ(saved.page_count() - PageCount{1}, report.holes);
    EXPECT_EQ(std::byte{1}, load_image(path_).snapshot.bytes()[std::size_t{20} << 20]);
}

TEST_P(ImageFileTest, DeltaFileHoldsOnlyPagesThatDiffer) {
    const Snapshot base = snapshot_of(noise(4 << 20));
    (void)save_image(base, path_, options());
    const tests::Pages changed{0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 300, 1023};
    const Snapshot relative = with_pages_changed(base, changed, std::byte{1});
    SaveOptions wanted = options();
    wanted.relative_to = path_;
    const SaveReport report = save_image(relative, directory_ / "delta", wanted);
    EXPECT_EQ(relative.delta_pages(), report.stored);
    EXPECT_LT(report.written_bytes, report.stored.bytes() + 2 * kPageBytes);
    const LoadedImage loaded = load_image(directory_ / "delta");
    EXPECT_EQ(2U, loaded.files);
    EXPECT_EQ(relative.delta_pages(), loaded.snapshot.delta_pages());
    EXPECT_TRUE(same_bytes(relative.bytes(), loaded.snapshot.bytes()));
    EXPECT_TRUE(same_bytes(relative.bytes(), loaded.snapshot.map_private().bytes()));
    EXPECT_FALSE(verify_image(directory_ / "delta"));
}

/// RLIMIT_FSIZE ends the file in the middle of the image.
TEST_P(ImageFileTest, FullFileLeavesTheOldOneAndNoTemporary) {
    const Snapshot old = snapshot_of(noise(10000, 1));
    (void)save_image(old, path_, options());
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                  tests::set_action(SIGXFSZ, SIG_IGN);
                  const Snapshot in_child = snapshot_of(noise(3 << 20, 2));
                  const rlimit limit{1 << 20, 1 << 20};
                  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
                  const std::string message = message_of([&] { (void)save_image(in_child, path_, options()); });
                  return contains(message, fmt::format("save image '{}': File too large", path_)) ? 0 : 1;
              }));
    EXPECT_EQ(1U, entries_in(directory_.path()));
    EXPECT_TRUE(same_bytes(old.bytes(), load_image(path_).snapshot.bytes()));
}

TEST(ImageFileRefusalTest, ImageIsWrittenByCallsWhereTheRingIsRefused) {
    const TemporaryDirectory directory;
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                  if (!tests::forbid_call(SYS_io_uring_setup, EPERM)) return 2;
                  const Snapshot saved = snapshot_of(noise(10000));
                  const SaveReport report = save_image(saved, directory / "image", kFast);
                  if (report.io != ImageIo::write_calls || report.io_uring_error != EPERM) return 3;
                  if (!same_bytes(saved.bytes(), load_image(directory / "image").snapshot.bytes())) return 4;
                  SaveOptions forced = kFast;
                  forced.io = ImageIo::io_uring;
                  return error_of([&] { (void)save_image(saved, directory / "other", forced); }) == EPERM ? 0 : 5;
              }));
    EXPECT_EQ(1U, entries_in(directory.path()));
}

class ImagePathTest : public testing::Test {
protected:
    TemporaryDirectory directory_;
    std::string path_ = directory_ / "image";
    Snapshot snapshot_ = snapshot_of(noise(10000), {.name = "text"});
};

TEST_F(ImagePathTest, WhatCannotBeReplacedIsAnErrorThatNamesIt) {
    ASSERT_EQ(0, ::mkfifo((directory_ / "pipe").c_str(), 0600));
    const std::vector<std::pair<std::string, int>> cases{{directory_ / "none/image", ENOENT},
                                                         {directory_.path().string(), EISDIR},
                                                         {directory_ / "pipe", EINVAL},
                                                         {directory_ / "pipe/image", ENOTDIR},
                                                         {directory_ / std::string(300, 'x'), ENAMETOOLONG}};
    for (const auto& [path, error] : cases) {
        EXPECT_EQ(error, error_of([&, &to = path] { (void)save_image(snapshot_, to, kFast); })) << path;
        EXPECT_TRUE(contains(message_of([&, &to = path] { (void)save_image(snapshot_, to, kFast); }), path));
    }
    EXPECT_NE(0, error_of([&] { (void)save_image(snapshot_, "", kFast); }));
    EXPECT_NE(0, error_of([&] { (void)save_image(snapshot_, "/proc/image", kFast); }));
    EXPECT_EQ(1U, entries_in(directory_.path()));
}

TEST_F(ImagePathTest, NoDescriptorIsAnErrorAndLeavesNothing) {
    (void)save_image(snapshot_, path_, kFast);
    const Snapshot relative = with_pages_changed(snapshot_, {1}, std::byte{1});
    (void)save_image(relative, directory_ / "delta", relative_to(path_));
    for (std::size_t free = 0; free < 2; ++free) {
        const DescriptorLimit limit(free);
        EXPECT_EQ(EMFILE, error_of([&] { (void)load_image(directory_ / "delta"); })) << free;
    }
    {
        const DescriptorLimit limit(0);
        EXPECT_EQ(EMFILE, error_of([&] { (void)save_image(snapshot_, path_, kFast); }));
    }
    EXPECT_EQ(2U, entries_in(directory_.path()));
}

TEST_F(ImagePathTest, NewFileHasThePermissionsThatTheUmaskLeaves) {
    const mode_t previous = ::umask(027);
    (void)save_image(snapshot_, path_, kFast);
    ::umask(previous);
    EXPECT_EQ(0640U, status_of(path_).st_mode & 07777U);
}

TEST_F(ImagePathTest, ReplacedFileKeepsItsPermissions) {
    (void)save_image(snapshot_, path_, kFast);
    ASSERT_EQ(0, ::chmod(path_.c_str(), 0604));
    (void)save_image(snapshot_, path_, kFast);
    EXPECT_EQ(0604U, status_of(path_).st_mode & 07777U);
}

TEST_F(ImagePathTest, LinkStaysAndItsTargetIsReplaced) {
    fs::create_directory(directory_ / "folder");
    fs::create_symlink("folder/real", path_);
    for (int i = 0; i < 2; ++i) {
        (void)save_image(snapshot_, path_, kFast);
        EXPECT_TRUE(fs::is_symlink(path_));
        EXPECT_TRUE(fs::is_regular_file(directory_ / "folder/real"));
    }
    const Snapshot relative = with_pages_changed(snapshot_, {1}, std::byte{1});
    (void)save_image(relative, directory_ / "folder/delta", relative_to(path_));
    fs::create_symlink("folder/delta", directory_ / "link");
    EXPECT_TRUE(same_bytes(relative.bytes(), load_image(directory_ / "link").snapshot.bytes()));
}

TEST_F(ImagePathTest, LinkToItselfIsAnError) {
    fs::create_symlink("image", path_);
    EXPECT_EQ(ELOOP, error_of([&] { (void)save_image(snapshot_, path_, kFast); }));
    EXPECT_EQ(ELOOP, error_of([&] { (void)load_image(path_); }));
}

TEST_F(ImagePathTest, LoadedImageOutlivesItsReplacedFile) {
    (void)save_image(snapshot_, path_, kFast);
    const LoadedImage loaded = load_image(path_);
    const Snapshot changed = with_pages_changed(loaded.snapshot, {0, 2}, std::byte{1});
    (void)save_image(changed, path_, kFast);
    EXPECT_TRUE(same_bytes(snapshot_.bytes(), loaded.snapshot.bytes()));
    EXPECT_TRUE(same_bytes(changed.bytes(), load_image(path_).snapshot.bytes()));
    fs::remove(path_);
    EXPECT_TRUE(same_bytes(snapshot_.bytes(), loaded.snapshot.map_private().bytes()));
}

TEST_F(ImagePathTest, WritesToAViewOfALoadedImageDoNotReachTheFile) {
    (void)save_image(snapshot_, path_, kFast);
    const LoadedImage loaded = load_image(path_);
    View view = loaded.snapshot.map_private();
    tests::write_pages(view, {0, 1, 2});
    EXPECT_EQ(PageCount{3}, view.changes().copied);
    EXPECT_TRUE(same_bytes(snapshot_.bytes(), load_image(path_).snapshot.bytes()));
}

/// The receiving process requires seals, which a file on disk does not have.
TEST_F(ImagePathTest, PartsOfALoadedImageAreSealed) {
    (void)save_image(snapshot_, path_, kFast);
    const Snapshot loaded = load_image(path_).snapshot;
    const Snapshot relative = with_pages_changed(loaded, {1}, std::byte{1});
    for (const Snapshot& sent : {loaded, relative}) {
        SnapshotParts parts = sent.parts();
        EXPECT_TRUE(sys::is_immutable(parts.base.get()));
        EXPECT_TRUE(same_bytes(sent.bytes(), Snapshot::adopt(std::move(parts), "received").bytes()));
        EXPECT_TRUE(sys::is_immutable(sent.flatten().base_fd()));
    }
}

TEST_F(ImagePathTest, SavesOfSeveralThreadsDoNotMeet) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
            for (int k = 0; k < 5; ++k) (void)save_image(snapshot_, directory_ / std::to_string(i % 2), kFast);
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const char* const name : {"0", "1"}) {
        EXPECT_TRUE(same_bytes(snapshot_.bytes(), load_image(directory_ / name).snapshot.bytes()));
    }
    EXPECT_EQ(2U, entries_in(directory_.path()));
}

}  // namespace
}  // namespace vmcow
