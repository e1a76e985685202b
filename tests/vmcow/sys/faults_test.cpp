// Tests the count of page faults.
#include "vmcow/sys/faults.hpp"

#include <gtest/gtest.h>

#include <cstddef>

#include "vmcow/image/slot.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::sys;

TEST(FaultsTest, FirstTouchOfAPageIsOneMinorFault) {
    constexpr std::size_t kPages = 64;
    const UniqueFd image = create_memfd("image");
    resize_memfd(image.get(), kPages * kPageBytes, "image");
    const Slot slot = Slot::reserve(kPages * kPageBytes);
    ASSERT_EQ(map_file_at(slot.address(), kPages * kPageBytes, MapMode::private_write, image.get(), 0), 0);
    const FaultCounts before = fault_counts();
    for (std::size_t page = 0; page < kPages; ++page) slot.address()[page * kPageBytes] = std::byte{1};
    EXPECT_GE(fault_counts().minor - before.minor, kPages);
}

}  // namespace
