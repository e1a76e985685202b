// Tests the page counts of smaps.
#include "vmcow/sys/proc/smaps.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "vmcow/image/slot.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::sys;

TEST(SmapsTest, CountsOfAKnownMappingAreExact) {
    constexpr std::size_t kPages = 16;
    const UniqueFd image = create_memfd("image");
    resize_memfd(image.get(), kPages * kPageBytes, "image");
    const Slot slot = Slot::reserve(kPages * kPageBytes);
    std::byte* const at = slot.address();
    ASSERT_EQ(map_file_at(at, kPages * kPageBytes, MapMode::private_write, image.get(), 0), 0);
    const auto totals = [&] { return read_smaps(reinterpret_cast<std::uintptr_t>(at), kPages * kPageBytes); };
    EXPECT_EQ(totals().resident_bytes, 0U);
    for (const std::size_t page : {0U, 3U, 4U, 15U}) at[page * kPageBytes] = std::byte{1};
    EXPECT_EQ(totals().anonymous_bytes, 4 * kPageBytes);
    EXPECT_GE(totals().resident_bytes, 4 * kPageBytes);
    EXPECT_EQ(totals().huge_mapped_bytes, 0U);
    EXPECT_EQ(read_smaps(reinterpret_cast<std::uintptr_t>(at), kPageBytes).resident_bytes, 0U)
        << "a mapping that only begins in the range does not lie in it";
}

}  // namespace
