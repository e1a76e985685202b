// Tests which images a forked child has: none after a plain fork, all of them in a function process.
#include "vmcow/image/mapped_image.hpp"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cerrno>
#include <csignal>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/view.hpp"

namespace {

using namespace vmcow;
using tests::error_of;
using tests::in_child;
using tests::kChildExitedWell;
using tests::noise;

/// One image of each kind that a plain fork leaves out: an arena, a snapshot, a view, and a snapshot of several layers.
class ImagesTest : public testing::Test {
protected:
    ImagesTest() {
        tests::write_pages(view_, tests::run_of(2, 10), std::byte{9});
        view_.bytes()[30 * kPageBytes] = std::byte{8};
    }

    std::vector<std::span<const std::byte>> all() {
        return {arena_.bytes(), snapshot_.bytes(), view_.bytes(), layered_.bytes()};
    }

    const std::vector<std::byte> content_ = noise(40 * kPageBytes);
    Arena arena_ = tests::arena_of(content_);
    const Snapshot snapshot_ = tests::snapshot_of(content_);
    View view_{snapshot_};
    const Snapshot layered_ = [this] {
        View view(snapshot_);
        tests::write_pages(view, {1, 20});
        return view.capture();
    }();
};

TEST_F(ImagesTest, PlainForkHasNoImageMapped) {
    for (const auto image : all()) {
        EXPECT_EQ(in_child([&] {
                      tests::set_action(SIGSEGV, SIG_DFL);
                      return static_cast<int>(*const_cast<volatile const std::byte*>(image.data()));
                  }),
                  (tests::ChildEnd{-1, SIGSEGV}));
    }
}

// If they were free, the child's heap could grow into them, and ending the image would unmap that heap.
TEST_F(ImagesTest, PlainForkKeepsTheAddressesReserved) {
    for (const auto image : all()) {
        auto* const at = const_cast<std::byte*>(image.data());
        EXPECT_EQ(in_child([&] { return sys::reserve_hole(at, kPageBytes); }), (tests::ChildEnd{EEXIST, 0}));
    }
}

// A fork handler may map memory before the images' addresses are reserved again; that memory must not lie where an
// image was.
std::byte* volatile handler_maps_at = nullptr;  // nullptr: at any free address
volatile bool handler_maps = false;
void* handler_mapped = nullptr;
int handler_registered = -1;

void map_in_child() {
    if (!handler_maps) return;
    const bool fixed = handler_maps_at != nullptr;
    const std::size_t bytes = fixed ? kPageBytes : std::size_t{8} << 20;
    handler_mapped = ::mmap(handler_maps_at, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | (fixed ? MAP_FIXED_NOREPLACE : 0), -1, 0);
}

/// Handlers run in the order of their registration. Registered here, this one runs before those of every static object
/// that has an image.
[[gnu::constructor(101)]] void register_handler() {
    handler_registered = ::pthread_atfork(nullptr, nullptr, map_in_child);
}

/// Forks while the handler maps memory, at `at` if that is not nullptr, and runs `body` in the child.
template <class Body>
tests::ChildEnd in_child_with_handler(std::byte* at, Body&& body) {
    handler_maps_at = at;
    handler_maps = true;
    const tests::ChildEnd end = in_child(body);
    handler_maps = false;
    return end;
}

TEST_F(ImagesTest, WhatAForkHandlerMapsIsNotPlacedWhereAnImageWas) {
    ASSERT_EQ(handler_registered, 0);
    ImagesInFork images;
    EXPECT_EQ(in_child_with_handler(nullptr,
                                    [&] {
                                        if (handler_mapped == MAP_FAILED || images.map_again() != 0) return 1;
                                        *static_cast<volatile int*>(handler_mapped) = 7;  // not an image: writable
                                        return snapshot_.bytes()[5] == content_[5] ? 0 : 2;
                                    }),
              kChildExitedWell);
}

TEST_F(ImagesTest, SomethingMappedWhereAnImageWasIsAnErrorAndStays) {
    auto* const taken = const_cast<std::byte*>(snapshot_.bytes().data());
    ImagesInFork images;
    EXPECT_EQ(in_child_with_handler(taken,
                                    [&] {
                                        if (handler_mapped != taken) return 1;
                                        if (images.map_again() != EEXIST) return 2;
                                        *static_cast<volatile int*>(handler_mapped) = 7;
                                        return 0;
                                    }),
              kChildExitedWell);
}

TEST_F(ImagesTest, FunctionProcessOfAPlainChildHasTheImages) {
    EXPECT_EQ(in_child([&] {
                  ImagesInFork images;
                  const tests::ChildEnd end = in_child([&] {
                      if (images.map_again() != 0) return 1;
                      return snapshot_.bytes()[5] == content_[5] ? 0 : 2;
                  });
                  return end == kChildExitedWell ? 0 : 3;
              }),
              kChildExitedWell);
}

TEST_F(ImagesTest, PlainForkMayEndItsImages) {
    EXPECT_EQ(in_child([&] {
                  arena_ = Arena();
                  view_ = View(tests::snapshot_of(noise(10)));
                  return 0;
              }),
              kChildExitedWell);
}

TEST_F(ImagesTest, FunctionProcessHasEveryImageAsItWasAtTheFork) {
    std::vector<std::vector<std::byte>> before;
    for (const auto image : all()) before.push_back(tests::copy_of(image));
    ImagesInFork images;
    EXPECT_EQ(in_child([&] {
                  if (images.map_again() != 0) return 1;
                  const auto now = all();
                  for (std::size_t i = 0; i < now.size(); ++i) {
                      if (!tests::same_bytes(now[i], before[i])) return 2;
                  }
                  return images.changes() == PageChanges{} ? 0 : 3;
              }),
              kChildExitedWell);
}

TEST_F(ImagesTest, FunctionProcessChangesOnlyItsOwnCopiesAndCountsThem) {
    {
        ImagesInFork images;
        EXPECT_EQ(in_child([&] {
                      if (images.map_again() != 0) return 1;
                      arena_.bytes()[0] ^= std::byte{1};
                      tests::write_pages(view_, {0, 30}, std::byte{77});
                      tests::touch_pages(view_, {33});
                      // Page 30 was changed before the fork: the function process has it placed, and writing to it
                      // copies nothing more.
                      return images.changes() == PageChanges{{3}, {1}, 3} ? 0 : 2;
                  }),
                  kChildExitedWell);
    }
    EXPECT_TRUE(tests::same_bytes(content_, arena_.bytes()));
    EXPECT_EQ(view_.changes(), (PageChanges{{11}, {0}, 11}));
    EXPECT_NE(view_.bytes()[17], std::byte{77});
}

// I1
TEST_F(ImagesTest, FunctionProcessCannotWriteASnapshotOfAFile) {
    auto* const at = const_cast<std::byte*>(snapshot_.bytes().data());
    ImagesInFork images;
    EXPECT_EQ(in_child([&] {
                  if (images.map_again() != 0) return 1;
                  tests::set_action(SIGSEGV, SIG_DFL);
                  *at = std::byte{1};
                  return 0;
              }),
              (tests::ChildEnd{-1, SIGSEGV}));
}

// I1. A function process can write to pages of the store, because it edits its values there. Whoever casts the const
// away writes to that process's copy.
TEST_F(ImagesTest, FunctionProcessCannotChangeTheCallersPagesOfTheStore) {
    const auto image = layered_.bytes();
    const std::vector<std::byte> before = tests::copy_of(image);
    ImagesInFork images;
    EXPECT_EQ(in_child([&] {
                  if (images.map_again() != 0) return 1;
                  for (const std::byte& byte : image) const_cast<std::byte&>(byte) ^= std::byte{1};
                  return 0;
              }),
              kChildExitedWell);
    EXPECT_TRUE(tests::same_bytes(image, before));
}

TEST_F(ImagesTest, ForkOfAForkHasTheImagesToo) {
    ImagesInFork images;
    EXPECT_EQ(in_child([&] {
                  if (images.map_again() != 0) return 1;
                  tests::write_pages(view_, {0}, std::byte{77});
                  ImagesInFork again;
                  const tests::ChildEnd end = in_child([&] {
                      if (again.map_again() != 0) return 2;
                      return view_.bytes()[17] == std::byte{77} && arena_.bytes()[5] == content_[5] ? 0 : 3;
                  });
                  return end.exit_status;
              }),
              kChildExitedWell);
}

TEST_F(ImagesTest, PreparationThatFailsHasChangedNothing) {
    const PageChanges before = view_.changes();
    {
        const DescriptorLimit limit(0);
        EXPECT_EQ(error_of([] { const ImagesInFork images; }), EMFILE);
    }
    EXPECT_EQ(view_.changes(), before);
    ImagesInFork images;
    EXPECT_EQ(in_child([&] { return images.map_again(); }), kChildExitedWell);
}

}  // namespace
