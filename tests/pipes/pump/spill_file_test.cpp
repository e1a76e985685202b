// SpillFile: a queue of bytes on disk, and disks and directories that refuse it.
#include "pipes/pump/spill_file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <deque>
#include <filesystem>
#include <random>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"

namespace {

using pipes::SpillFile;
using tests::error_of;
using tests::noise;

// The order must hold for all sizes, and after the queue has been empty.
TEST(SpillFileTest, WhatGoesInFirstComesOutFirst) {
    std::mt19937 random(7);
    const tests::TemporaryDirectory directory;
    SpillFile file(directory.path());
    std::deque<std::byte> model;
    for (unsigned i = 0; i < 300; ++i) {
        const std::vector<std::byte> in = noise(random() % 20'000, i);
        ASSERT_EQ(file.push(in), 0);
        model.insert(model.end(), in.begin(), in.end());
        std::vector<std::byte> out(i % 50 == 49 ? model.size() + 1 : random() % 20'000);
        const std::ptrdiff_t count = file.pop(out);
        ASSERT_EQ(count, static_cast<std::ptrdiff_t>(std::min(out.size(), model.size())));
        ASSERT_TRUE(std::equal(out.begin(), out.begin() + count, model.begin()));
        model.erase(model.begin(), model.begin() + count);
        ASSERT_EQ(file.bytes(), model.size());
    }
}

TEST(SpillFileTest, EmptyFileGivesNothing) {
    SpillFile file(std::filesystem::temp_directory_path());
    std::vector<std::byte> out(10);
    EXPECT_EQ(file.pop(out), 0);
    EXPECT_EQ(file.push({}), 0);
    EXPECT_EQ(file.bytes(), 0U);
}

TEST(SpillFileTest, NothingIsSeenInTheDirectory) {
    const tests::TemporaryDirectory directory;
    SpillFile file(directory.path());
    ASSERT_EQ(file.push(noise(10)), 0);
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(SpillFileTest, MissingDirectoryIsNamed) {
    EXPECT_EQ(error_of([] { SpillFile("/no/such/directory"); }), ENOENT);
    EXPECT_NE(tests::message_of([] { SpillFile("/no/such/directory"); }).find("/no/such/directory"), std::string::npos);
}

TEST(SpillFileTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([] { SpillFile("/tmp"); }), EMFILE);
}

TEST(SpillFileTest, FullDiskIsAnErrorOfPush) {
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([] {
                  tests::set_action(SIGXFSZ, SIG_IGN);
                  const rlimit limit{5000, 5000};
                  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
                  return SpillFile("/tmp").push(noise(10'000)) == EFBIG ? 0 : 1;
              }));
}

}  // namespace
