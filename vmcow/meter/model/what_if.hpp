#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "vmcow/image/byte_mask.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {

/// Which bytes of a page have changed: bit i of word j stands for byte 64 j + i.
using PageMask = std::array<std::uint64_t, kPageBytes / kMaskedBytes>;

/// How many blocks hold a byte that has changed, for every size of block that is a power of two.
class BlockCounts {
public:
    static constexpr std::uint64_t kSmallestBlock = 4;
    static constexpr std::uint64_t kLargestBlock = std::uint64_t{1} << 30;

    /// Pre: `block_bytes` is a power of two from `kSmallestBlock` to `kLargestBlock`.
    [[nodiscard]] std::uint64_t blocks(std::uint64_t block_bytes) const noexcept { return counts_[index(block_bytes)]; }
    [[nodiscard]] std::uint64_t changed_bytes() const noexcept { return changed_bytes_; }

    /// Adds the counts of another process, which has its own copies.
    BlockCounts& operator+=(const BlockCounts& other) noexcept;
    bool operator==(const BlockCounts&) const = default;

private:
    friend class ChangedBlocks;
    static std::size_t index(std::uint64_t block_bytes) noexcept;
    void add_lines(std::uint64_t mask) noexcept;
    void add_page(std::uint64_t changed_lines) noexcept;

    std::array<std::uint64_t, 29> counts_{};
    std::uint64_t changed_bytes_ = 0;
};

/// Counts changed blocks of every size at once. Pages are compared with what they were, and may be added in any order.
/// An address may be an offset into an image; blocks begin at multiples of their size.
///
/// Cost: flags of differing bytes are folded into flags of blocks of twice the size, once for each size; 8 bytes are
///       kept for each page in which something has changed.
class ChangedBlocks {
public:
    /// Adds a page; `changed` tells which of its bytes differ.
    /// Pre: `address` is a multiple of the page size, and no page is added twice.
    void add_page(std::uint64_t address, const PageMask& changed);
    /// Adds a page as it is `now` and as it was `before`. Pre: `address` is a multiple of the page size, and no page is
    /// added twice.
    void add_page(std::uint64_t address, const std::byte* now, const std::byte* before);

    [[nodiscard]] BlockCounts counts() const;

private:
    BlockCounts within_pages_;
    std::vector<std::uint64_t> pages_;
};

/// What copy-on-write in blocks of one size would have copied.
///
/// Units: bytes. A block is counted whole, also at the end of an image.
struct WhatIfBlock {
    std::uint64_t block_bytes = 0;
    std::uint64_t copied_bytes = 0;
    /// The tables that find the blocks: each has 512 pointers of 8 bytes, and is copied when one of its blocks is. For
    /// pages this is what the kernel does: these tables are its page tables.
    std::uint64_t overhead_bytes = 0;
    std::optional<double> amplification = {};
    std::optional<double> expected_bytes = {};  ///< `copied_bytes` as the model expects it
    std::optional<double> sigma_bytes = {};
    std::optional<std::uint64_t> children_copied_bytes = {};  ///< in all children together

    [[nodiscard]] std::uint64_t total_bytes() const noexcept { return copied_bytes + overhead_bytes; }
};

struct WhatIf {
    std::vector<WhatIfBlock> blocks;  ///< ascending: 4, 8, 16 … 4096, 64 Ki, 2 Mi bytes
    /// The block size with the smallest total, the larger one of two equals; nothing if nothing has changed.
    std::optional<std::uint64_t> best_block_bytes;
};

/// Computes what each block size would have copied. Amplification is relative to `written_bytes`: the logical bytes or,
/// if these are unknown, the changed bytes.
[[nodiscard]] WhatIf what_if(const BlockCounts& counts, std::optional<std::uint64_t> written_bytes);

/// Adds what the model expects for the changes that `workload` makes. Values that would take too long to compute stay
/// unknown; all values do if some of the writes change nothing.
/// Cost: for patterns that the model goes through block by block, up to 2^20 blocks and pairs of neighbours for each
///       size.
void add_model(WhatIf& what_if, const Workload& workload);

/// Adds what several children would have copied together; `counts` are the changes in all of them. The best size is
/// then the best one for all children together.
void add_children(WhatIf& what_if, const BlockCounts& counts);

}  // namespace vmcow::meter
