// Tests access to an object through a handle that may be empty.
#include "vmcow/sys/held.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <memory>
#include <string>

#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/memfd.hpp"

namespace {

using namespace vmcow::sys;

struct Handle {
    [[nodiscard]] int& value() const { return held(value_, "Handle"); }
    template <class T>
    [[nodiscard]] int& value_as() const {
        return held(value_, "Handle");
    }
    std::shared_ptr<int> value_;
};

/// What `call` prints on standard error in a child before it aborts the child.
std::string words_before_the_end(int& (*call)(const Handle&)) {
    const UniqueFd file = create_memfd("output");
    const tests::ChildEnd end = tests::in_child([&] {
        tests::set_action(SIGABRT, SIG_DFL);
        const tests::ScopedLimit no_core(RLIMIT_CORE, 0);
        if (::dup2(file.get(), STDERR_FILENO) < 0) return 1;
        return call(Handle{});
    });
    EXPECT_EQ(end, (tests::ChildEnd{-1, SIGABRT}));
    std::string text(file_bytes(file.get()), '\0');
    EXPECT_EQ(::pread(file.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    return text;
}

TEST(HeldTest, WhatIsPointedToIsThere) {
    const Handle handle{std::make_shared<int>(5)};
    EXPECT_EQ(handle.value(), 5);
    EXPECT_EQ(&handle.value(), handle.value_.get());
}

TEST(HeldTest, EmptyHandleSaysWhichCallOfWhichClassAndAborts) {
    EXPECT_EQ(words_before_the_end([](const Handle& handle) -> int& { return handle.value(); }),
              "Handle::value: this object was moved from and holds nothing: it can only be assigned to or destroyed\n");
}

TEST(HeldTest, WhatATemplateWasMadeForIsNotSaid) {
    EXPECT_EQ(words_before_the_end([](const Handle& handle) -> int& {
                  return handle.value_as<long>();
              }).find("Handle::value_as: "),
              0U);
}

}  // namespace
