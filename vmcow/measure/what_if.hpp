#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "vmcow/byte_mask.hpp"
#include "vmcow/measure/workload.hpp"
#include "vmcow/units.hpp"

namespace vmcow::measure {

/// Which bytes of a page have changed: bit i of word j stands for byte 64 j + i.
using PageMask = std::array<std::uint64_t, kPageBytes / kMaskedBytes>;

/// How many blocks hold a byte that has changed, for every size of block that is a power of two.
class BlockCounts {
public:
    static constexpr std::uint64_t kSmallestBlock = 4;
    static constexpr std::uint64_t kLargestBlock = std::uint64_t{1} << 30;

    /// Pre: a power of two between the two.
    [[nodiscard]] std::uint64_t blocks(std::uint64_t block_bytes) const noexcept { return counts_[index(block_bytes)]; }
    [[nodiscard]] std::uint64_t changed_bytes() const noexcept { return changed_bytes_; }

    /// Adds those of another process, which has copies of its own.
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

/// Counts changed blocks of every size at once, from pages that are compared with what they were, in any order. An
/// address may be an offset into an image: blocks begin at multiples of their size.
///
/// Cost: differing bytes are folded to blocks of twice the size, again and again; 8 bytes are kept for each page in
///       which something has changed.
class ChangedBlocks {
public:
    /// Pre: `address` is on a page, and no page is added twice.
    void add_page(std::uint64_t address, const PageMask& changed);
    /// The same from the page's bytes.
    void add_page(std::uint64_t address, const std::byte* now, const std::byte* before);

    [[nodiscard]] BlockCounts counts() const;

private:
    BlockCounts within_pages_;
    std::vector<std::uint64_t> pages_;
};

/// What would have been copied in blocks of one size.
///
/// Units: bytes. A block is counted whole, also at the end of an image.
struct WhatIfBlock {
    std::uint64_t block_bytes = 0;
    std::uint64_t copied_bytes = 0;
    /// What finds the blocks: a pointer of 8 bytes for each, in pieces of 512, and a piece is copied when one of its
    /// blocks is. For pages that is what the kernel does, whose page tables are these pieces.
    std::uint64_t overhead_bytes = 0;
    std::optional<double> amplification = {};
    std::optional<double> expected_bytes = {};  ///< of `copied_bytes`, by the model
    std::optional<double> sigma_bytes = {};
    std::optional<std::uint64_t> children_copied_bytes = {};  ///< of all children together

    [[nodiscard]] std::uint64_t total_bytes() const noexcept { return copied_bytes + overhead_bytes; }
};

struct WhatIf {
    std::vector<WhatIfBlock> blocks;  ///< ascending: 4, 8, 16 … 4096, 64 Ki, 2 Mi bytes
    /// The size with the smallest total, the larger one of two; nothing where nothing has changed.
    std::optional<std::uint64_t> best_block_bytes;
};

/// `written_bytes`: what amplification is counted against, the logical bytes or, where nobody knows these, the changed
/// ones.
[[nodiscard]] WhatIf what_if(const BlockCounts& counts, std::optional<std::uint64_t> written_bytes);

/// Adds what the model expects for the changes that `workload` makes. Unknown stays what would take too long to
/// compute, and all of it if some of the writes change nothing. Cost: for patterns that the model goes through block by
/// block, up to 2^20 blocks and pairs of neighbours for each
///       size.
void add_model(WhatIf& what_if, const Workload& workload);

/// Adds the sums of several children, of which `counts` are the changes in all; the best size is theirs then.
void add_children(WhatIf& what_if, const BlockCounts& counts);

}  // namespace vmcow::measure
