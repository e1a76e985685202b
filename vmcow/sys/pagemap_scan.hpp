#pragma once

#include <sys/ioctl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

// The ioctl PAGEMAP_SCAN as page_scan and written_pages use it. Headers of Debian 12 are older than the ioctl.
// Source: include/uapi/linux/fs.h, Linux 6.7.
namespace vmcow::sys::pagemap {

struct ScanRegion {
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t categories;
};

struct ScanArguments {
    std::uint64_t size;
    std::uint64_t flags;
    std::uint64_t start;
    std::uint64_t end;
    std::uint64_t walk_end;
    std::uint64_t regions;
    std::uint64_t region_count;
    std::uint64_t max_pages;
    std::uint64_t category_inverted;
    std::uint64_t category_mask;
    std::uint64_t category_anyof_mask;
    std::uint64_t return_mask;
};

inline constexpr unsigned long kScan = _IOWR('f', 16, ScanArguments);
inline constexpr std::uint64_t kProtectMatching = 1u << 0;
inline constexpr std::uint64_t kCategoryWritten = 1u << 1;
inline constexpr std::uint64_t kCategoryFile = 1u << 2;
inline constexpr std::uint64_t kCategoryPresent = 1u << 3;
inline constexpr std::uint64_t kCategorySwapped = 1u << 4;
inline constexpr std::uint64_t kCategoryZero = 1u << 5;
inline constexpr std::uint64_t kCategoryHuge = 1u << 6;

/// Asks for the pages from `start` to `end` that exist and are neither pages of a file nor the zero page.
[[nodiscard]] inline ScanArguments arguments_for(std::uint64_t start, std::uint64_t end) {
    ScanArguments arguments{};
    arguments.size = sizeof(arguments);
    arguments.start = start;
    arguments.end = end;
    arguments.category_inverted = kCategoryFile | kCategoryZero;
    arguments.category_mask = kCategoryFile | kCategoryZero;
    arguments.category_anyof_mask = kCategoryPresent | kCategorySwapped;
    arguments.return_mask = kCategoryPresent;
    return arguments;
}

/// Calls `take` with each region that the walk finds, until there are `most` pages.
/// Throws: std::system_error -- what the kernel answers.
template <class Take>
void walk(int pagemap, ScanArguments arguments, Take&& take, std::uint64_t most = UINT64_MAX) {
    std::array<ScanRegion, 512> regions;
    arguments.regions = reinterpret_cast<std::uintptr_t>(regions.data());
    arguments.region_count = regions.size();
    while (arguments.start < arguments.end && most > 0) {
        if (most < UINT64_MAX) arguments.max_pages = most;
        const int found = static_cast<int>(retry_interrupted([&] { return ::ioctl(pagemap, kScan, &arguments); }));
        if (found < 0) throw_errno("scan pages (PAGEMAP_SCAN)");
        for (std::size_t i = 0; i < static_cast<std::size_t>(found); ++i) {
            take(regions[i]);
            if (most < UINT64_MAX) most -= (regions[i].end - regions[i].start) / kPageBytes;
        }
        arguments.start = arguments.walk_end;  // the walk stops early when the regions are full
    }
}

/// Adds pages behind those that came since the first `first_new` runs.
inline void append(std::vector<PageRun>& runs, std::size_t first_new, PageIndex first, PageCount count) {
    if (runs.size() > first_new && runs.back().end() == first) {
        runs.back().count += count;
    } else {
        runs.push_back({first, count});
    }
}

}  // namespace vmcow::sys::pagemap
