// Which private pages were written to since it was last asked.
#include "vmcow/sys/written_pages.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"

namespace {

using tests::Pages;
using vmcow::kPageBytes;
using vmcow::PageRun;
using vmcow::sys::WrittenPages;

constexpr std::size_t kPages = 600;

/// A private mapping of a file of zeros.
class WrittenPagesTest : public testing::Test {
protected:
    void SetUp() override {
        if (WrittenPages::error() != 0) {
            GTEST_SKIP() << "no userfaultfd that protects by itself: " << std::strerror(WrittenPages::error());
        }
        fd_ = vmcow::sys::create_memfd("written");
        vmcow::sys::resize_memfd(fd_.get(), kPages * kPageBytes, "written");
        void* const at = ::mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd_.get(), 0);
        ASSERT_NE(at, MAP_FAILED);
        bytes_ = static_cast<std::byte*>(at);
    }
    void TearDown() override {
        if (bytes_ != nullptr) ::munmap(bytes_, kPages * kPageBytes);
    }

    [[nodiscard]] std::unique_ptr<WrittenPages> watch() {
        return WrittenPages::watch(reinterpret_cast<std::uintptr_t>(bytes_), kPages * kPageBytes);
    }
    void write(const Pages& pages) {
        for (const std::uint64_t page : pages) bytes_[page * kPageBytes + 1] = std::byte{1};
    }
    void read_all() {
        for (std::size_t page = 0; page < kPages; ++page) {
            static_cast<void>(*static_cast<volatile std::byte*>(bytes_ + page * kPageBytes));
        }
    }
    static Pages take(WrittenPages& written) {
        std::vector<PageRun> runs;
        written.take(runs);
        EXPECT_TRUE(tests::is_maximal(runs));
        return tests::pages_in(runs);
    }

    vmcow::sys::UniqueFd fd_;
    std::byte* bytes_ = nullptr;
};

TEST_F(WrittenPagesTest, TellsEachPageOnceUntilItIsWrittenAgain) {
    write({3, 4});
    const auto written = watch();
    ASSERT_TRUE(written);
    EXPECT_EQ(take(*written), (Pages{3, 4})) << "private pages that were there before";
    EXPECT_EQ(take(*written), Pages{});
    write({4, 5, 599});
    EXPECT_EQ(take(*written), (Pages{4, 5, 599}));
    EXPECT_EQ(take(*written), Pages{});
    write({4, 5, 599});
    EXPECT_EQ(take(*written), (Pages{4, 5, 599})) << "private already, and written again";
}

TEST_F(WrittenPagesTest, PagesThatWereOnlyReadAreNotWritten) {
    const auto written = watch();
    ASSERT_TRUE(written);
    read_all();
    EXPECT_EQ(take(*written), Pages{});
    write({7});
    read_all();
    EXPECT_EQ(take(*written), Pages{7});
    read_all();
    EXPECT_EQ(take(*written), Pages{});
}

TEST_F(WrittenPagesTest, LookTakesNothing) {
    const auto written = watch();
    ASSERT_TRUE(written);
    write({1, 2});
    for (int i = 0; i < 2; ++i) {
        std::vector<PageRun> runs;
        written->look(runs);
        EXPECT_EQ(tests::pages_in(runs), (Pages{1, 2}));
    }
    EXPECT_EQ(take(*written), (Pages{1, 2}));
}

// The search ends when as many pages are found as the process has taken faults: faults elsewhere must not matter, nor
// the order in which pages are written.
TEST_F(WrittenPagesTest, FindsAllPagesWhereverAndAmongOtherFaults) {
    const auto written = watch();
    ASSERT_TRUE(written);
    for (std::uint64_t round = 0; round < 200; ++round) {
        Pages pages;
        for (std::uint64_t i = 0; i < round % 7; ++i) pages.insert((round * 37 + i * i * 101) % kPages);
        if (round % 3 == 0) std::vector<std::byte>(std::size_t{1} << 20, std::byte{1});
        write(pages);
        if (round % 5 == 0) read_all();
        EXPECT_EQ(take(*written), pages) << round;
    }
}

// The kernel writes here as well: read(2) into the mapping.
TEST_F(WrittenPagesTest, WritesOfSystemCallsCount) {
    const auto written = watch();
    ASSERT_TRUE(written);
    write({10, 11});
    EXPECT_EQ(take(*written), (Pages{10, 11}));
    std::vector<char> text(2 * kPageBytes, 'x');
    ASSERT_EQ(::pwrite(fd_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    ASSERT_EQ(::pread(fd_.get(), bytes_ + 10 * kPageBytes, text.size(), 0), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(take(*written), (Pages{10, 11}));
}

TEST_F(WrittenPagesTest, WhatWasWrittenKeepsItsBytes) {
    {
        const auto written = watch();
        ASSERT_TRUE(written);
        for (unsigned round = 1; round < 5; ++round) {
            for (std::size_t page = 0; page < kPages; page += round) bytes_[page * kPageBytes] = std::byte(round);
            take(*written);
        }
    }
    for (std::size_t page = 0; page < kPages; ++page) {
        const unsigned last = page % 4 == 0 ? 4 : page % 3 == 0 ? 3 : page % 2 == 0 ? 2 : 1;
        ASSERT_EQ(bytes_[page * kPageBytes], std::byte(last)) << page;
        bytes_[page * kPageBytes] = std::byte{9};  // nothing watches any more
    }
}

TEST_F(WrittenPagesTest, RefusalIsNullptrAndNothingIsLeftBehind) {
    for (const std::size_t free : {0U, 1U}) {
        const DescriptorLimit limit(free);
        EXPECT_EQ(watch(), nullptr) << free;
    }
    EXPECT_EQ(WrittenPages::watch(reinterpret_cast<std::uintptr_t>(bytes_) + 1, kPageBytes), nullptr);
}

TEST_F(WrittenPagesTest, UnmappedRangeHasNoPages) {
    const auto written = watch();
    ASSERT_TRUE(written);
    write({1});
    ASSERT_EQ(::munmap(bytes_, kPages * kPageBytes), 0);
    bytes_ = nullptr;
    EXPECT_EQ(take(*written), Pages{});
}

}  // namespace
