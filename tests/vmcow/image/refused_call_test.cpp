// Tests calls that hardly ever fail, when the kernel refuses them once.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>
#include <utility>

#include "tests/support/forbidden_call.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/copy_costs.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using tests::CallArgument;
using tests::error_of;
using tests::forbid_call;
using tests::in_child;

constexpr int kNoFilter = 124;
const CallArgument kGetSeals{1, F_GET_SEALS};

// A failed fcntl(2) gives no answer; taking it as 'not sealed' would be an answer.
TEST(RefusedCallTest, SealsThatCannotBeAskedForAreAnErrorAndNotNo) {
    const auto ask = [](auto question, int call, int error, CallArgument argument) {
        const sys::UniqueFd image = sys::create_memfd("image");
        sys::resize_memfd(image.get(), kPageBytes, "image");
        if (!forbid_call(call, error, argument)) return kNoFilter;
        return error_of([&] { static_cast<void>(question(image.get())); });
    };
    EXPECT_EQ(in_child([&] { return ask(sys::is_immutable, SYS_fcntl, EPERM, kGetSeals); }),
              (tests::ChildEnd{EPERM, 0}));
    EXPECT_EQ(in_child([&] { return ask(sys::is_fillable, SYS_fcntl, EPERM, kGetSeals); }),
              (tests::ChildEnd{EPERM, 0}));
    EXPECT_EQ(in_child([&] {
                  return ask(sys::is_fillable, SYS_fcntl, EIO, CallArgument{1, F_GETFL});
              }),
              (tests::ChildEnd{EIO, 0}));
}

TEST(RefusedCallTest, FileSystemThatCannotBeAskedForIsAnErrorAndNotNo) {
    const auto ask = [](auto question, bool sealed) {
        const sys::UniqueFd image = sys::create_memfd("image");
        sys::resize_memfd(image.get(), kPageBytes, "image");
        if (sealed) sys::seal_memfd(image.get(), "image");
        if (!forbid_call(SYS_fstatfs, ENOSYS)) return kNoFilter;
        return error_of([&] { static_cast<void>(question(image.get())); });
    };
    EXPECT_EQ(in_child([&] { return ask(sys::is_immutable, true); }), (tests::ChildEnd{ENOSYS, 0}));
    EXPECT_EQ(in_child([&] { return ask(sys::is_fillable, false); }), (tests::ChildEnd{ENOSYS, 0}));
}

// A seal cannot be removed: a call that could fail after sealing would cost the owner the image.
TEST(RefusedCallTest, FreezeAsksNothingOfTheKernelOnceItHasSealed) {
    const auto content = tests::noise(3 * kPageBytes);
    const auto freeze = [&](int call, int error, auto... argument) {
        Arena arena = tests::arena_of(content);
        if (!forbid_call(call, error, argument...)) return kNoFilter;
        const Snapshot frozen = std::move(arena).freeze();
        return std::ranges::equal(frozen.bytes(), std::as_bytes(std::span(content))) ? 0 : 1;
    };
    EXPECT_EQ(in_child([&] { return freeze(SYS_fcntl, EPERM, kGetSeals); }), tests::kChildExitedWell);
    EXPECT_EQ(in_child([&] { return freeze(SYS_fstatfs, EIO); }), tests::kChildExitedWell);
    EXPECT_EQ(in_child([&] { return freeze(SYS_newfstatat, EIO); }), tests::kChildExitedWell);
    EXPECT_EQ(in_child([&] { return freeze(SYS_fstat, EIO); }), tests::kChildExitedWell);
}

TEST(RefusedCallTest, ArenaThatCannotBeSealedIsAsBefore) {
    EXPECT_EQ(in_child([] {
                  const auto content = tests::noise(3 * kPageBytes);
                  Arena arena = tests::arena_of(content);
                  if (!forbid_call(SYS_fcntl, EPERM, CallArgument{1, F_ADD_SEALS})) return kNoFilter;
                  if (error_of([&] { static_cast<void>(std::move(arena).freeze()); }) != EPERM) return 1;
                  if (!std::ranges::equal(arena.bytes(), std::as_bytes(std::span(content)))) return 2;
                  arena.bytes()[kPageBytes] = std::byte{7};
                  arena.append(std::as_bytes(std::span(content)));
                  return arena.extent_bytes() == 6 * kPageBytes ? 0 : 3;
              }),
              tests::kChildExitedWell);
}

TEST(RefusedCallTest, CostsThatCannotBeMeasuredAreTheUsualOnes) {
    EXPECT_EQ(in_child([] {
                  constexpr unsigned kPrivateFile = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
                  if (!forbid_call(SYS_mmap, ENOMEM, CallArgument{3, kPrivateFile})) return kNoFilter;
                  const CopyCosts costs = CopyCosts::measure();
                  const CopyCosts usual;
                  return costs.fault_ns == usual.fault_ns && costs.remap_ns == usual.remap_ns ? 0 : 1;
              }),
              tests::kChildExitedWell);
}

}  // namespace
