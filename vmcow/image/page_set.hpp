#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "vmcow/units.hpp"

namespace vmcow {

/// Some pages of an image: a bit for each, in pieces that stand for 16 MiB and are there from their first page on.
///
/// Cost:   a step for a page. Memory: 8 bytes for each 16 MiB of the image, and 512 for those that have a page.
class PageSet {
public:
    [[nodiscard]] PageCount count() const noexcept { return count_; }
    [[nodiscard]] bool is_empty() const noexcept { return count_.value == 0; }
    [[nodiscard]] bool contains(PageIndex page) const noexcept {
        const std::size_t at = page.value / kPiecePages;
        if (at >= pieces_.size() || pieces_[at] == nullptr) return false;
        return ((*pieces_[at])[word_of(page)] & bit_of(page)) != 0;
    }

    /// Adds a page. Returns whether it is new.
    /// Throws: std::bad_alloc.
    bool insert(PageIndex page) {
        const std::size_t at = page.value / kPiecePages;
        if (at >= pieces_.size()) pieces_.resize(at + 1);
        if (pieces_[at] == nullptr) pieces_[at] = std::make_unique<Piece>();
        std::uint64_t& word = (*pieces_[at])[word_of(page)];
        if ((word & bit_of(page)) != 0) return false;
        word |= bit_of(page);
        count_ += PageCount{1};
        return true;
    }
    /// Adds the pages of all runs. Returns how many of them are new.
    PageCount insert(const std::vector<PageRun>& runs) {
        const PageCount before = count_;
        for (const PageRun& run : runs) {
            for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) insert(page);
        }
        return count_ - before;
    }
    void clear() noexcept {
        pieces_.clear();
        count_ = {};
    }
    /// Takes out all pages from `end` on.
    void cut(PageIndex end) noexcept {
        for (std::size_t at = end.value / kPiecePages; at < pieces_.size(); ++at) {
            if (pieces_[at] == nullptr) continue;
            for (std::size_t word = 0; word < kWords; ++word) {
                std::uint64_t& bits = (*pieces_[at])[word];
                const std::uint64_t first = at * kPiecePages + word * 64;
                const std::uint64_t kept = first >= end.value        ? 0
                                           : end.value - first >= 64 ? ~std::uint64_t{0}
                                                                     : (std::uint64_t{1} << (end.value - first)) - 1;
                count_ = count_ - PageCount{static_cast<std::uint64_t>(std::popcount(bits & ~kept))};
                bits &= kept;
            }
        }
    }

    /// Calls `visit(page)` for all pages, ascending.
    template <class Visit>
    void for_each(Visit&& visit) const {
        for (std::size_t at = 0; at < pieces_.size(); ++at) {
            if (pieces_[at] == nullptr) continue;
            for (std::size_t word = 0; word < kWords; ++word) {
                for (std::uint64_t bits = (*pieces_[at])[word]; bits != 0; bits &= bits - 1) {
                    const auto bit = static_cast<std::uint64_t>(std::countr_zero(bits));
                    visit(PageIndex{at * kPiecePages + word * 64 + bit});
                }
            }
        }
    }
    /// All pages as runs, ascending and as long as possible.
    [[nodiscard]] std::vector<PageRun> runs() const {
        std::vector<PageRun> found;
        for_each([&](PageIndex page) {
            if (!found.empty() && found.back().end() == page) {
                found.back().count += PageCount{1};
            } else {
                found.push_back({page, {1}});
            }
        });
        return found;
    }

private:
    static constexpr std::size_t kWords = 64;
    static constexpr std::uint64_t kPiecePages = kWords * 64;
    using Piece = std::array<std::uint64_t, kWords>;

    [[nodiscard]] static std::size_t word_of(PageIndex page) noexcept { return page.value / 64 % kWords; }
    [[nodiscard]] static std::uint64_t bit_of(PageIndex page) noexcept { return std::uint64_t{1} << (page.value % 64); }

    std::vector<std::unique_ptr<Piece>> pieces_;
    PageCount count_;
};

}  // namespace vmcow
