// Tests telling the holes of a file from its data.
#include "vmcow/sys/data_ranges.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;

TEST(DataRangesTest, HolesAndDataOfASparseFileAreTold) {
    const sys::UniqueFd fd = sys::create_memfd("sparse");
    sys::resize_memfd(fd.get(), 100 * kPageBytes, "sparse");
    const tests::Pages data{1, 2, 50, 99};
    for (const std::uint64_t page : data) {
        ASSERT_EQ(1, ::pwrite(fd.get(), "x", 1, static_cast<off_t>(page * kPageBytes)));
    }
    sys::DataRanges ranges(fd.get());
    for (std::uint64_t page = 0; page < 100; ++page) {
        EXPECT_EQ(!data.contains(page), ranges.is_hole(page * kPageBytes)) << page;
    }
    EXPECT_EQ(0, ::lseek(fd.get(), 0, SEEK_CUR)) << "somebody else's position was moved";
}

TEST(DataRangesTest, WhatCannotBeAskedIsData) {
    sys::DataRanges none(-1);
    EXPECT_FALSE(none.is_hole(0));
    const sys::UniqueFd device = sys::open_file("/dev/null", O_RDONLY);
    sys::DataRanges unseekable(device.get());
    EXPECT_FALSE(unseekable.is_hole(kPageBytes));
}

TEST(DataRangesTest, DescriptorMayBeClosedAndTheLastPagesAreAHole) {
    sys::UniqueFd fd = sys::create_memfd("sparse");
    sys::resize_memfd(fd.get(), 4 * kPageBytes, "sparse");
    ASSERT_EQ(1, ::pwrite(fd.get(), "x", 1, 0));
    sys::DataRanges ranges(fd.get());
    fd.reset();
    EXPECT_FALSE(ranges.is_hole(0));
    for (const std::uint64_t page : {1U, 2U, 3U}) EXPECT_TRUE(ranges.is_hole(page * kPageBytes)) << page;
}

TEST(DataRangesTest, FileWithoutHolesIsDataAndOneWithoutDataAHole) {
    const sys::UniqueFd full = sys::create_memfd("full");
    sys::write_all(full.get(), tests::noise(3 * kPageBytes), "full");
    sys::DataRanges data(full.get());
    const sys::UniqueFd empty = sys::create_memfd("empty");
    sys::resize_memfd(empty.get(), 3 * kPageBytes, "empty");
    sys::DataRanges holes(empty.get());
    for (const std::uint64_t page : {0U, 1U, 2U}) {
        EXPECT_FALSE(data.is_hole(page * kPageBytes)) << page;
        EXPECT_TRUE(holes.is_hole(page * kPageBytes)) << page;
    }
}

TEST(DataRangesTest, WithoutADescriptorEverythingIsData) {
    const sys::UniqueFd fd = sys::create_memfd("empty");
    sys::resize_memfd(fd.get(), kPageBytes, "empty");
    const DescriptorLimit none(0);
    sys::DataRanges ranges(fd.get());
    EXPECT_FALSE(ranges.is_hole(0));
}

}  // namespace
