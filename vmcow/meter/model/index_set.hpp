#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "vmcow/sys/error.hpp"

namespace vmcow::meter {

/// A set of whole numbers below a bound, such as byte offsets or block numbers. Cost: a bit for each number.
class IndexSet {
public:
    /// Pre: `bound` > 0.
    explicit IndexSet(std::uint64_t bound) {
        VMCOW_ASSERT(bound > 0 && "a set of no numbers");
        words_.resize((bound - 1) / 64 + 1);
    }

    /// Adds the `count` numbers from `first` on; returns how many of them are new. Pre: they are below the bound.
    std::uint64_t add(std::uint64_t first, std::uint64_t count) noexcept {
        VMCOW_ASSERT(holds(first, count) && "numbers past the bound");
        std::uint64_t added = 0;
        while (count > 0) {
            const std::uint64_t bit = first % 64;
            const std::uint64_t here = std::min(count, 64 - bit);
            const std::uint64_t mask = (~std::uint64_t{0} >> (64 - here)) << bit;
            std::uint64_t& word = words_[first / 64];
            added += static_cast<std::uint64_t>(std::popcount(mask & ~word));
            word |= mask;
            first += here;
            count -= here;
        }
        return added;
    }

    /// Removes the `count` numbers from `first` on. Pre: they are below the bound.
    void remove(std::uint64_t first, std::uint64_t count) noexcept {
        VMCOW_ASSERT(holds(first, count) && "numbers past the bound");
        for (; count > 0; ++first, --count) words_[first / 64] &= ~(std::uint64_t{1} << first % 64);
    }

private:
    [[nodiscard]] bool holds(std::uint64_t first, std::uint64_t count) const noexcept {
        const std::uint64_t all = words_.size() * 64;
        return first <= all && count <= all - first;
    }

    std::vector<std::uint64_t> words_;
};

}  // namespace vmcow::meter
