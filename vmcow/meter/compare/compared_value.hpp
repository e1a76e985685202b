#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "vmcow/meter/model/workload.hpp"

/// The value that `vmcow compare` hands over, and the words that its writes store. They are the same on every engine,
/// in this process and in others. Only shifts and exclusive ors make them, as some languages have no wrapping numbers.
namespace vmcow::meter {

inline constexpr std::size_t kWordBytes = sizeof(std::uint64_t);

/// The word at `index` before any write. No two words are equal.
[[nodiscard]] constexpr std::uint64_t word_at(std::uint64_t index) noexcept {
    const std::uint64_t x = index + 1;
    return x ^ x << 21 ^ x << 42;
}

[[nodiscard]] inline std::uint64_t word_count(const Workload& workload) noexcept {
    return (workload.size_bytes + kWordBytes - 1) / kWordBytes;
}

/// The word from which `write` takes the bytes that it stores at `index`: the first word there, or its complement.
[[nodiscard]] constexpr std::uint64_t stored(const Write& write, std::uint64_t index) noexcept {
    return write.same ? word_at(index) : ~word_at(index);
}

/// Calls `change(index, first byte, bytes)` for each word of a write.
template <class Change>
void for_each_word(const Write& write, Change&& change) {
    for (std::uint64_t at = write.offset; at < write.offset + write.bytes;) {
        const std::size_t first = at % kWordBytes;
        const std::size_t count = std::min<std::uint64_t>(kWordBytes - first, write.offset + write.bytes - at);
        change(at / kWordBytes, first, count);
        at += count;
    }
}

/// The checksum of words read one after the other, extended by `word`.
[[nodiscard]] constexpr std::uint64_t folded(std::uint64_t checksum, std::uint64_t word) noexcept {
    return (checksum << 5 | checksum >> 59) ^ word;
}

}  // namespace vmcow::meter
