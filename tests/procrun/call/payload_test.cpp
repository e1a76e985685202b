// Payload: bytes that came in a message or in a sealed file, and files and lengths that are refused.
#include "procrun/call/payload.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/mapping_limit.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/sys/memfd.hpp"

namespace {

using procrun::detail::file_of_payload;
using procrun::detail::Payload;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using tests::noise;
using tests::same_bytes;
using vmcow::sys::UniqueFd;

/// Makes a payload of one file, out of the list of descriptors that a message brings.
Payload payload_of(UniqueFd fd, std::uint64_t bytes) {
    std::vector<UniqueFd> fds;
    fds.push_back(std::move(fd));
    return Payload::of_file(fds, bytes);
}

TEST(PayloadTest, BytesThatCameInAMessageAreKept) {
    EXPECT_TRUE(Payload(std::vector<std::byte>{}).bytes().empty());
    const auto content = noise(1000);
    Payload payload(content);
    EXPECT_TRUE(same_bytes(payload.bytes(), content));
    const Payload moved = std::move(payload);
    EXPECT_TRUE(same_bytes(moved.bytes(), content));
}

TEST(PayloadTest, FewBytesAreCopied) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, Payload::kSmall}) {
        auto content = noise(bytes);
        const auto before = content;
        Payload payload = Payload::of_small(content);
        std::fill(content.begin(), content.end(), std::byte{0});
        EXPECT_TRUE(same_bytes(payload.bytes(), before));
        const Payload moved = std::move(payload);
        EXPECT_TRUE(same_bytes(moved.bytes(), before));
    }
}

TEST(PayloadTest, BytesOfAFileAreMapped) {
    for (const std::size_t bytes : {std::size_t{1}, vmcow::kPageBytes, 3 * vmcow::kHugeBytes + 5}) {
        const auto content = noise(bytes);
        Payload payload = payload_of(file_of_payload(content), bytes);
        EXPECT_TRUE(same_bytes(payload.bytes(), content));
        const Payload moved = std::move(payload);
        EXPECT_TRUE(same_bytes(moved.bytes(), content));
    }
}

TEST(PayloadTest, OnlyTheFirstDescriptorIsTaken) {
    std::vector<UniqueFd> fds;
    fds.push_back(file_of_payload(noise(10, 1)));
    fds.push_back(file_of_payload(noise(10, 2)));
    const int second = fds[1].get();
    EXPECT_TRUE(same_bytes(Payload::of_file(fds, 10).bytes(), noise(10, 1)));
    ASSERT_EQ(fds.size(), 1U);
    EXPECT_EQ(fds[0].get(), second);
}

TEST(PayloadTest, FileOfAPayloadCannotChange) {
    const UniqueFd file = file_of_payload(noise(100));
    EXPECT_TRUE(vmcow::sys::is_immutable(file.get()));
    EXPECT_EQ(vmcow::sys::file_bytes(file.get()), 100U);
    EXPECT_EQ(::pwrite(file.get(), "x", 1, 0), -1);
}

// I3: another process states the length and sends the file, so that the two may disagree.
TEST(PayloadTest, LengthThatIsNotTheFilesIsRefused) {
    for (const std::uint64_t said : {std::uint64_t{0}, std::uint64_t{99}, std::uint64_t{101}, UINT64_MAX}) {
        EXPECT_EQ(error_of([&] { static_cast<void>(payload_of(file_of_payload(noise(100)), said)); }), EBADMSG) << said;
    }
    EXPECT_EQ(error_of([] { static_cast<void>(payload_of(file_of_payload({}), 0)); }), EBADMSG) << "an empty file";
}

TEST(PayloadTest, WhatIsNotASealedFileIsRefused) {
    UniqueFd open = vmcow::sys::create_memfd("open");
    vmcow::sys::resize_memfd(open.get(), 100, "open");
    EXPECT_EQ(error_of([&] { static_cast<void>(payload_of(std::move(open), 100)); }), EBADMSG);
    EXPECT_EQ(error_of([] { static_cast<void>(payload_of(vmcow::sys::open_file("/dev/null", O_RDONLY), 100)); }),
              EBADMSG);
    EXPECT_EQ(error_of([] { static_cast<void>(payload_of(UniqueFd(), 100)); }), EBADMSG);
    std::vector<UniqueFd> none;
    EXPECT_EQ(error_of([&] { static_cast<void>(Payload::of_file(none, 100)); }), EBADMSG) << "none came";
}

TEST(PayloadTest, NoDescriptorLeftForAFileIsEmfile) {
    const auto content = noise(100);
    const DescriptorLimit limit(0);
    EXPECT_EQ(error_of([&] { static_cast<void>(file_of_payload(content)); }), EMFILE);
}

TEST(PayloadTest, FileThatMayNotBecomeSoLongIsAnErrorAndNothingIsLeftBehind) {
    EXPECT_EQ(in_child([] {
                  tests::set_action(SIGXFSZ, SIG_IGN);
                  const tests::ScopedLimit limit(RLIMIT_FSIZE, 1 << 20);
                  return error_of([] { static_cast<void>(file_of_payload(noise(2 << 20))); }) == EFBIG ? 0 : 1;
              }),
              kChildExitedWell);
}

TEST(PayloadMappingLimitTest, NoMappingLeftIsEnomemAndNothingIsLeftBehind) {
    EXPECT_EQ(in_child([] {
                  const auto content = noise(100);
                  std::vector<UniqueFd> fds;
                  fds.reserve(2);
                  for (int i = 0; i < 2; ++i) fds.push_back(file_of_payload(content));
                  const vmcow::Slot region = vmcow::Slot::reserve(1);
                  {
                      const tests::MappingLimit limit(0);
                      if (error_of([&] { static_cast<void>(Payload::of_file(fds, 100)); }) != ENOMEM) return 1;
                  }
                  return same_bytes(Payload::of_file(fds, 100).bytes(), content) ? 0 : 2;
              }),
              kChildExitedWell);
}

}  // namespace
