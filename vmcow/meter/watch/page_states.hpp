#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "vmcow/meter/watch/page_lineage.hpp"
#include "vmcow/meter/watch/watch_sample.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {

/// The private pages of a process as two looks found them, and what has become of each.
///
/// Shape: a chunk of 512 entries for each 2 MiB of addresses that have a page; addresses are counted in pages from 0.
/// Cost:  5 bytes for each page of a chunk, and 8 more if the kernel tells page frame numbers.
class PageStates {
public:
    static constexpr std::size_t kChunkPages = kHugeBytes / kPageBytes;

    class Chunk {
    public:
        [[nodiscard]] PagePair pair(std::size_t index) const noexcept {
            return {unpack(before_[index], frames_ ? frames_->before[index] : 0),
                    unpack(now_[index], frames_ ? frames_->now[index] : 0)};
        }
        [[nodiscard]] bool exists_now(std::size_t index) const noexcept { return now_[index] != 0; }
        [[nodiscard]] PageLineage lineage(std::size_t index) const noexcept { return lineage_[index]; }
        void set_lineage(std::size_t index, PageLineage lineage) noexcept { lineage_[index] = lineage; }
        [[nodiscard]] std::uint32_t copied_pages() const noexcept;
        /// Whether the chunk holds a page that may still be copied, or that has not been judged yet.
        [[nodiscard]] bool is_open() const noexcept { return is_open_; }
        /// In how many successive looks the chunk was found unchanged; 2 stands for two or more.
        [[nodiscard]] unsigned unchanged_looks() const noexcept { return unchanged_looks_; }

        /// What was counted when the pages of the chunk were judged, for as long as that holds.
        struct Verdict {
            PageFigures figures;
            std::uint32_t copied_pages = 0;
            bool beside_parent = false;  ///< the parent had the chunk, too
        };
        [[nodiscard]] const std::optional<Verdict>& verdict() const noexcept { return verdict_; }
        /// Notes that all pages of the chunk have been judged. `verdict`: nothing if a later look may judge otherwise.
        void settle(std::optional<Verdict> verdict) noexcept;

    private:
        friend class PageStates;
        struct Frames {
            std::array<std::uint32_t, kChunkPages> before{};
            std::array<std::uint32_t, kChunkPages> now{};
        };

        [[nodiscard]] static PageSeen unpack(std::uint8_t bits, std::uint32_t frame) noexcept;
        void set(std::size_t index, const PageSeen& seen);
        [[nodiscard]] bool keep(std::size_t index, std::size_t count) noexcept;
        void keep_all() noexcept;
        void begin_look() noexcept;
        /// Forgets pages that no longer exist; false if none is left.
        [[nodiscard]] bool end_look() noexcept;
        void count_unchanged(bool unchanged) noexcept;

        std::array<std::uint8_t, kChunkPages> before_{};
        std::array<std::uint8_t, kChunkPages> now_{};
        std::array<PageLineage, kChunkPages> lineage_{};
        std::unique_ptr<Frames> frames_;
        std::optional<Verdict> verdict_;
        bool is_open_ = true;
        bool is_looked_at_ = true;  ///< between begin_look and end_look
        std::uint8_t unchanged_looks_ = 0;
    };

    /// Begins a look: what the last look found becomes what was found before, and nothing has been found yet.
    void begin_look() noexcept;
    /// Begins a look at `chunks` alone. All other chunks are taken to be as the last look found them.
    void begin_look(const std::set<std::uint64_t>& chunks) noexcept;
    void set(std::uint64_t page, const PageSeen& seen);
    /// Takes `count` neighbouring pages of one chunk to be as the look before found them. Does nothing and returns
    /// false if one of them was not in memory then.
    [[nodiscard]] bool keep(std::uint64_t page, std::uint64_t count) noexcept;
    /// Takes all pages to be as the last look found them.
    void keep_all() noexcept;
    void end_look() noexcept;
    void clear() noexcept { chunks_.clear(); }

    /// A chunk by number; nullptr if it has no page, neither now nor before.
    [[nodiscard]] const Chunk* find(std::uint64_t chunk) const noexcept;
    [[nodiscard]] PagePair pair(std::uint64_t page) const noexcept;
    /// The chunks by number, which is the address divided by 2 MiB.
    [[nodiscard]] std::map<std::uint64_t, Chunk>& chunks() noexcept { return chunks_; }
    [[nodiscard]] const std::map<std::uint64_t, Chunk>& chunks() const noexcept { return chunks_; }

    [[nodiscard]] std::uint64_t memory_bytes() const noexcept;

private:
    std::map<std::uint64_t, Chunk> chunks_;
    std::map<std::uint64_t, Chunk>::iterator last_ = chunks_.end();  ///< where the last page was set
};

}  // namespace vmcow::meter
