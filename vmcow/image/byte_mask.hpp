#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vmcow {

/// How many bytes one mask stands for: a `std::uint64_t` has a bit for each.
inline constexpr std::size_t kMaskedBytes = 64;

/// The mask of the bytes `first` to `end`, end excluded.
/// Pre: end <= kMaskedBytes.
[[nodiscard]] constexpr std::uint64_t mask_of(std::size_t first, std::size_t end) {
    if (first >= end) return 0;
    return (~std::uint64_t{0} >> (kMaskedBytes - (end - first))) << first;
}

/// The mask of the bytes in which `a` and `b`, `kMaskedBytes` bytes each, differ: bit i stands for byte i.
/// Cost: reads eight words of each, and does nothing more if they are equal.
[[nodiscard]] inline std::uint64_t differing_mask(const std::byte* a, const std::byte* b) noexcept {
    static_assert(std::endian::native == std::endian::little, "byte i of a word is taken for its bits from 8 i on");
    constexpr std::uint64_t kLow7 = 0x7f7f7f7f7f7f7f7f;
    constexpr std::uint64_t kGather = 0x0102040810204080;  // moves the lowest bit of byte k to bit 56 + k
    std::array<std::uint64_t, kMaskedBytes / sizeof(std::uint64_t)> mixed{};
    std::uint64_t any = 0;
    for (std::size_t i = 0; i < mixed.size(); ++i) {
        std::uint64_t x = 0;
        std::uint64_t y = 0;
        std::memcpy(&x, a + i * sizeof(x), sizeof(x));
        std::memcpy(&y, b + i * sizeof(y), sizeof(y));
        mixed[i] = x ^ y;
        any |= mixed[i];
    }
    if (any == 0) return 0;
    std::uint64_t mask = 0;
    for (std::size_t i = 0; i < mixed.size(); ++i) {
        // The top bit of each byte of the sum says whether the byte is not zero: no carry leaves a byte.
        const std::uint64_t flags = (((mixed[i] & kLow7) + kLow7) | mixed[i]) & ~kLow7;
        mask |= (((flags >> 7) * kGather) >> 56) << (8 * i);
    }
    return mask;
}

}  // namespace vmcow
