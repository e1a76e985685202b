// Tests writing files through io_uring, and the same writes by system calls.
#include "vmcow/sys/io_ring.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {
namespace {

using tests::error_of;
using tests::noise;
using tests::same_bytes;
using tests::TemporaryDirectory;

constexpr std::size_t kPiece = 1000;

iovec piece(std::vector<std::byte>& bytes, std::size_t from, std::size_t count) { return {bytes.data() + from, count}; }

/// Runs `body` in a new thread and returns its errno: the kernel's threads for a ring end with the thread that made it.
int error_in_thread(const std::function<void()>& body) {
    int error = 0;
    std::thread([&] { error = error_of(body); }).join();
    return error;
}

/// Whether the kernel has io_uring; without it, tests that need a ring are skipped.
bool ring_is_there() {
    return error_in_thread([] { const IoRing ring; }) == 0;
}

class IoRingTest : public testing::Test {
protected:
    void SetUp() override {
        if (!ring_is_there()) GTEST_SKIP() << "no io_uring";
        fd_ = open_file(path_, O_RDWR | O_CREAT);
    }

    [[nodiscard]] std::vector<std::byte> content() const {
        std::vector<std::byte> bytes(std::filesystem::file_size(path_));
        const UniqueFd fd = open_file(path_, O_RDONLY);
        bytes.resize(read_full(fd.get(), bytes, path_));
        return bytes;
    }

    TemporaryDirectory directory_;
    std::string path_ = directory_ / "file";
    UniqueFd fd_;
};

TEST_F(IoRingTest, PiecesLieOneBehindTheOtherInTheFile) {
    std::vector<std::byte> bytes = noise(3 * kPiece);
    EXPECT_EQ(
        0, error_in_thread([&] {
            IoRing ring;
            ring.write(fd_.get(), {piece(bytes, 0, kPiece), piece(bytes, 0, 0), piece(bytes, kPiece, 2 * kPiece)}, 0);
            ring.sync(fd_.get());
        }));
    EXPECT_TRUE(same_bytes(bytes, content()));
}

TEST_F(IoRingTest, WritesPastItsDepthAllArrive) {
    constexpr std::size_t kWrites = std::size_t{10} * IoRing::kDepth;
    std::vector<std::byte> bytes = noise(kWrites * kPiece);
    EXPECT_EQ(0, error_in_thread([&] {
                  IoRing ring;
                  for (std::size_t i = kWrites; i-- > 0;) {
                      ring.write(fd_.get(), {piece(bytes, i * kPiece, kPiece)}, i * kPiece);
                  }
                  ring.drain();
              }));
    EXPECT_TRUE(same_bytes(bytes, content()));
}

TEST_F(IoRingTest, WriteOfNothingIsNoWrite) {
    std::vector<std::byte> bytes(1);
    EXPECT_EQ(0, error_in_thread([&] {
                  IoRing ring;
                  ring.write(fd_.get(), {piece(bytes, 0, 0)}, 5);
                  ring.drain();
              }));
    EXPECT_TRUE(content().empty());
}

TEST_F(IoRingTest, RingThatEndsEarlyHasWrittenWhatItBegan) {
    std::vector<std::byte> bytes = noise(kPiece);
    EXPECT_EQ(0, error_in_thread([&] { IoRing().write(fd_.get(), {piece(bytes, 0, kPiece)}, 0); }));
    EXPECT_TRUE(same_bytes(bytes, content()));
}

TEST_F(IoRingTest, FullDiskIsAnErrorOfDrain) {
    const UniqueFd full = open_file("/dev/full", O_WRONLY);
    std::vector<std::byte> bytes(kPiece);
    EXPECT_EQ(ENOSPC, error_in_thread([&] {
                  IoRing ring;
                  ring.write(full.get(), {piece(bytes, 0, kPiece)}, 0);
                  ring.drain();
              }));
}

TEST_F(IoRingTest, ErrorOfOneWriteEndsTheFollowing) {
    std::vector<std::byte> bytes(kPiece);
    fd_.reset();
    std::size_t begun = 0;
    constexpr std::size_t kMany = std::size_t{4} * IoRing::kDepth;
    EXPECT_EQ(EBADF, error_in_thread([&] {
                  IoRing ring;
                  for (; begun < kMany; ++begun) ring.write(-1, {piece(bytes, 0, kPiece)}, 0);
              }));
    EXPECT_LT(begun, kMany);
}

TEST_F(IoRingTest, SyncOfNoFileIsAnError) {
    EXPECT_EQ(EBADF, error_in_thread([] { IoRing().sync(-1); }));
}

/// RLIMIT_FSIZE is 1500 bytes: a write of 2000 is short first, and the rest is refused.
template <class Write>
int write_past_size_limit(const std::string& path, Write write) {
    tests::set_action(SIGXFSZ, SIG_IGN);
    const rlimit limit{1500, 1500};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    const UniqueFd fd = open_file(path, O_RDWR | O_CREAT | O_TRUNC);
    std::vector<std::byte> bytes = noise(2 * kPiece);
    if (error_of([&] { write(fd.get(), bytes); }) != EFBIG) return 3;
    std::vector<std::byte> found(2 * kPiece);
    if (read_full(fd.get(), found, path) != limit.rlim_cur) return 4;
    return std::memcmp(bytes.data(), found.data(), limit.rlim_cur) == 0 ? 0 : 5;
}

TEST_F(IoRingTest, ShortWriteIsContinuedUntilItIsRefused) {
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                  return write_past_size_limit(path_, [](int fd, std::vector<std::byte>& bytes) {
                      IoRing ring;
                      ring.write(fd, {piece(bytes, 0, kPiece), piece(bytes, kPiece, kPiece)}, 0);
                      ring.drain();
                  });
              }));
}

TEST_F(IoRingTest, NoDescriptorIsAnErrorOfTheConstructor) {
    int error = 0;
    {
        const DescriptorLimit none(0);
        error = error_in_thread([] { const IoRing ring; });
    }
    EXPECT_EQ(EMFILE, error);
}

TEST(IoRingRefusalTest, ForbiddenCallIsAnErrorOfTheConstructor) {
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([] {
                  if (!tests::forbid_call(SYS_io_uring_setup, EPERM)) return 2;
                  return error_of([] { const IoRing ring; }) == EPERM ? 0 : 1;
              }));
}

TEST(WritePiecesTest, ShortWriteIsContinuedUntilItIsRefused) {
    const TemporaryDirectory directory;
    EXPECT_EQ(tests::kChildExitedWell, tests::in_child([&] {
                  return write_past_size_limit(directory / "file", [](int fd, std::vector<std::byte>& bytes) {
                      write_pieces(fd, {piece(bytes, 0, kPiece), piece(bytes, kPiece, kPiece)}, 0);
                  });
              }));
}

TEST(WritePiecesTest, FullDiskAndClosedDescriptorAreErrors) {
    std::vector<std::byte> bytes(kPiece);
    const UniqueFd full = open_file("/dev/full", O_WRONLY);
    EXPECT_EQ(ENOSPC, error_of([&] { write_pieces(full.get(), {piece(bytes, 0, kPiece)}, 0); }));
    EXPECT_EQ(EBADF, error_of([&] { write_pieces(-1, {piece(bytes, 0, kPiece)}, 0); }));
    EXPECT_EQ(0, error_of([&] { write_pieces(-1, {piece(bytes, 0, 0)}, 0); }));
}

TEST(DropWrittenTest, WhatIsLeftIsTheRestInOrder) {
    std::vector<std::byte> bytes = noise(30);
    for (std::size_t written = 0; written <= bytes.size(); ++written) {
        std::vector<iovec> pieces{piece(bytes, 0, 10), piece(bytes, 10, 0), piece(bytes, 10, 5), piece(bytes, 15, 15)};
        drop_written(pieces, written);
        std::vector<std::byte> rest;
        for (const iovec& left : pieces) {
            const auto* const begin = static_cast<const std::byte*>(left.iov_base);
            rest.insert(rest.end(), begin, begin + left.iov_len);
        }
        EXPECT_TRUE(same_bytes(std::span(bytes).subspan(written), rest)) << written;
    }
}

TEST(DropWrittenDeathTest, MoreThanThereWasIsABug) {
    std::vector<std::byte> bytes(10);
    std::vector<iovec> pieces{piece(bytes, 0, 10)};
    EXPECT_DEATH(drop_written(pieces, 11), "no more was written");
}

}  // namespace
}  // namespace vmcow::sys
