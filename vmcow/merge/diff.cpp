#include "vmcow/diff.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "vmcow/image/byte_mask.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/merge/clipped_image.hpp"

namespace vmcow {
namespace {

using ByteRangeVisitor = std::function<void(const ByteRange&)>;

/// The pages on which two relatives can differ, ascending: the pages that their trees have in different places, the
/// page in which the shorter one ends, and the pages of the base that only the longer one reaches.
std::vector<PageIndex> candidates(const Snapshot& a, const Snapshot& b) {
    std::vector<PageIndex> pages;
    PageTree::for_each_difference(a.layers()->tree(), b.layers()->tree(),
                                  [&](PageIndex page, const auto*, const auto*) { pages.push_back(page); });
    const auto [shorter, longer] = std::minmax({a.extent_bytes(), b.extent_bytes()});
    if (shorter == longer) return pages;
    const PageCount reached = std::min(pages_of(longer), pages_of(a.layers()->base().bytes()));
    const PageIndex end = page_at(shorter);
    std::vector<PageIndex> clipped;
    if (end.value >= reached.value && a.layers()->tree().find(end) != nullptr) clipped.push_back(end);
    for (PageIndex page = end; page.value < reached.value; page = page + PageCount{1}) clipped.push_back(page);
    std::vector<PageIndex> all;
    std::set_union(pages.begin(), pages.end(), clipped.begin(), clipped.end(), std::back_inserter(all));
    return all;
}

/// Compares pages of two snapshots and visits those that differ.
class PageComparison {
public:
    PageComparison(const Snapshot& a, const Snapshot& b, const std::function<void(const ChangedPage&)>& visit)
        : a_(a), b_(b), visit_(visit) {}

    DiffCounts compare_relatives() {
        counts_.related = true;
        const Snapshot& a = a_.snapshot();
        const Snapshot& b = b_.snapshot();
        if (a.layers() == b.layers()) return counts_;
        const auto [shorter, longer] = std::minmax({a.extent_bytes(), b.extent_bytes()});
        // Below this page neither extent clips anything: two pages from the same place are equal.
        const std::uint64_t alike = shorter == longer ? pages_of(longer).value : page_at(shorter).value;
        for (const PageIndex page : candidates(a, b)) {
            if (page.value >= pages_of(longer).value) break;
            const bool same_place = a.layers()->source(page).block == b.layers()->source(page).block;
            if (!same_place || page.value >= alike) compare(page);
        }
        return counts_;
    }
    DiffCounts compare_all() {
        const PageCount pages = std::max(a_.snapshot().page_count(), b_.snapshot().page_count());
        for (PageIndex page; page.value < pages.value; page = page + PageCount{1}) compare(page);
        return counts_;
    }

private:
    void compare(PageIndex index) {
        const ChangedPage page{index, a_.page(index), b_.page(index)};
        counts_.pages_compared += PageCount{1};
        if (std::memcmp(page.a, page.b, kPageBytes) == 0) return;
        counts_.pages_changed += PageCount{1};
        visit_(page);
    }

    ClippedImage a_;
    ClippedImage b_;
    const std::function<void(const ChangedPage&)>& visit_;
    DiffCounts counts_;
};

/// Joins ranges that come in ascending order, and visits each range when it is as long as possible.
class RangeJoiner {
public:
    explicit RangeJoiner(const ByteRangeVisitor& visit) : visit_(visit) {}

    void add_page(const ChangedPage& page) {
        for (std::size_t at = 0; at < kPageBytes; at += kMaskedBytes) {
            const std::uint64_t mask = differing_mask(page.a + at, page.b + at);
            if (mask != 0) add_mask(page.index.byte_offset() + at, mask);
        }
    }
    void finish() {
        if (open_.bytes != 0) visit_(open_);
        open_ = {};
    }

private:
    void add_mask(std::uint64_t offset, std::uint64_t mask) {
        while (mask != 0) {
            const auto first = static_cast<std::size_t>(std::countr_zero(mask));
            const auto count = static_cast<std::size_t>(std::countr_one(mask >> first));
            add({offset + first, count});
            mask &= ~mask_of(first, first + count);
        }
    }
    void add(const ByteRange& range) {
        if (open_.bytes != 0 && open_.end() == range.offset) {
            open_.bytes += range.bytes;
            return;
        }
        finish();
        open_ = range;
    }

    const ByteRangeVisitor& visit_;
    ByteRange open_;
};

}  // namespace

DiffCounts for_each_changed_page(const Snapshot& a, const Snapshot& b,
                                 const std::function<void(const ChangedPage&)>& visit) {
    PageComparison comparison(a, b, visit);
    const bool related = a.layers()->shared_base() == b.layers()->shared_base();
    return related ? comparison.compare_relatives() : comparison.compare_all();
}

DiffCounts for_each_change(const Snapshot& a, const Snapshot& b, const ByteRangeVisitor& visit) {
    RangeJoiner joiner(visit);
    const DiffCounts counts = for_each_changed_page(a, b, [&](const ChangedPage& page) { joiner.add_page(page); });
    joiner.finish();
    return counts;
}

Diff diff(const Snapshot& a, const Snapshot& b) {
    Diff found;
    found.a_extent_bytes = a.extent_bytes();
    found.b_extent_bytes = b.extent_bytes();
    const ByteRangeVisitor keep = [&](const ByteRange& range) {
        found.ranges.push_back(range);
        found.changed_bytes += range.bytes;
    };
    RangeJoiner joiner(keep);
    static_cast<DiffCounts&>(found) = for_each_changed_page(a, b, [&](const ChangedPage& page) {
        joiner.add_page(page);
        if (!found.pages.empty() && found.pages.back().end() == page.index) {
            found.pages.back().count += PageCount{1};
        } else {
            found.pages.push_back({page.index, {1}});
        }
    });
    joiner.finish();
    return found;
}

}  // namespace vmcow
