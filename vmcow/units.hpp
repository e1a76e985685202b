#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace vmcow {

/// The unit in which the kernel copies on a write fault, in bytes. Checked against sysconf(_SC_PAGESIZE) by `doctor`.
inline constexpr std::size_t kPageBytes = 4096;
/// The unit of a huge chunk of an image: one entry of a page middle directory, in bytes.
inline constexpr std::size_t kHugeBytes = std::size_t{2} << 20;

/// A number of pages. Not convertible to bytes or to an index by accident.
struct PageCount {
    std::uint64_t value = 0;

    [[nodiscard]] constexpr std::uint64_t bytes() const { return value * kPageBytes; }
    constexpr auto operator<=>(const PageCount&) const = default;
    constexpr PageCount& operator+=(PageCount other) { return value += other.value, *this; }
    friend constexpr PageCount operator+(PageCount a, PageCount b) { return {a.value + b.value}; }
    friend constexpr PageCount operator-(PageCount a, PageCount b) { return {a.value - b.value}; }
};

/// The position of a page in an image: 0 is the page that holds byte 0.
struct PageIndex {
    std::uint64_t value = 0;

    [[nodiscard]] constexpr std::uint64_t byte_offset() const { return value * kPageBytes; }
    constexpr auto operator<=>(const PageIndex&) const = default;
    friend constexpr PageIndex operator+(PageIndex index, PageCount pages) { return {index.value + pages.value}; }
    friend constexpr PageCount operator-(PageIndex a, PageIndex b) { return {a.value - b.value}; }
};

/// Neighbouring pages of an image, `first` to `first + count`, end excluded.
struct PageRun {
    PageIndex first;
    PageCount count;

    [[nodiscard]] constexpr PageIndex end() const { return first + count; }
    constexpr bool operator==(const PageRun&) const = default;
};

/// How many pages the first `bytes` bytes of an image lie on.
[[nodiscard]] constexpr PageCount pages_of(std::uint64_t bytes) {
    return {bytes / kPageBytes + (bytes % kPageBytes != 0 ? 1 : 0)};
}

[[nodiscard]] constexpr PageIndex page_at(std::uint64_t byte_offset) { return {byte_offset / kPageBytes}; }

/// `bytes` rounded up to a multiple of `unit`, a power of two.
[[nodiscard]] constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) {
    return (bytes + unit - 1) & ~(unit - 1);
}

/// `bytes` rounded down to a multiple of `unit`, a power of two.
[[nodiscard]] constexpr std::size_t round_down(std::size_t bytes, std::size_t unit) { return bytes & ~(unit - 1); }

}  // namespace vmcow
