#include "vmcow/resident_view.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <mutex>
#include <utility>

#include "vmcow/fork_lock.hpp"
#include "vmcow/page_compare.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memory.hpp"

namespace vmcow {
namespace {

/// How much a new call weighs in the average of pages changed.
constexpr double kWeight = 0.25;

class Stopwatch {
public:
    [[nodiscard]] double ns() const noexcept {
        return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started_).count();
    }

private:
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

/// Takes what `pages` pages have taken just now into a cost: it depends on how many there are, because few of them are
/// in a cache. A pass that was interrupted weighs no more than four times what was expected.
void learn(double& cost_ns, double elapsed_ns, std::size_t pages) noexcept {
    constexpr std::size_t kFew = 16;
    if (pages < kFew) return;
    const double seen = std::min(elapsed_ns / static_cast<double>(pages), 4 * cost_ns);
    cost_ns += (seen - cost_ns) * kWeight;
}

}  // namespace

ResidentView::ResidentView(Snapshot snapshot, Slot slot, const CopyCosts& costs, PageCount budget)
    : snapshot_(std::move(snapshot)), slot_(std::move(slot)), costs_(costs), budget_(budget) {
    VMCOW_ASSERT(slot_.bytes() >= snapshot_.layers()->mapped_bytes());
    map_anew();
}

ResidentView::~ResidentView() = default;

void ResidentView::map_anew() {
    whole_ = false;
    pages_.clear();
    changed_.clear();
    {
        const std::scoped_lock lock(fork_lock());
        if (const int error = snapshot_.layers()->map_at(slot_.address()); error != 0) {
            sys::throw_error(error, "map image '" + snapshot_.name() + "'");
        }
    }
    mapped_bytes_ = std::max(mapped_bytes_, snapshot_.layers()->mapped_bytes());
    resize(snapshot_.layers()->mapped_bytes());
    extent_bytes_ = snapshot_.extent_bytes();
    whole_ = true;
    add_pages(snapshot_.layers()->placed());
}

/// What is mapped behind the image is memory of its own.
void ResidentView::resize(std::size_t mapped_bytes) {
    if (mapped_bytes == mapped_bytes_) return;
    const auto check = [&](int error) {
        if (error != 0) sys::throw_error(error, "resize a view of image '" + snapshot_.name() + "'");
    };
    if (mapped_bytes > slot_.bytes()) check(ENOMEM);
    const std::scoped_lock lock(fork_lock());
    if (mapped_bytes > mapped_bytes_) {
        std::byte* const end = slot_.address() + mapped_bytes_;
        check(sys::map_memory_at(end, mapped_bytes - mapped_bytes_));
        check(sys::keep_out_of_children(end, mapped_bytes - mapped_bytes_));
    } else {
        check(sys::reserve_at(slot_.address() + mapped_bytes, mapped_bytes_ - mapped_bytes));
        const auto is_gone = [&](PageIndex page) { return page.byte_offset() >= mapped_bytes; };
        std::erase_if(pages_, [&](const Page& page) { return is_gone(page.index); });
        std::erase_if(changed_, is_gone);
    }
    mapped_bytes_ = mapped_bytes;
}

void ResidentView::grow(std::uint64_t extent_bytes) {
    resize(std::max(mapped_bytes_, round_up(extent_bytes, kPageBytes)));
    extent_bytes_ = std::max(extent_bytes_, extent_bytes);
}

void ResidentView::refresh(PageIndex page, const std::byte* source) noexcept {
    std::memcpy(slot_.address() + page.byte_offset(), source, kPageBytes);
    refreshed_ += PageCount{1};
}

/// Mapping anew brings back the pages that are placed, so these alone are never too many.
bool ResidentView::over_budget() const noexcept {
    return resident() > std::max(budget_, sys::total_pages(snapshot_.layers()->placed()));
}

/// Compared with mapping anew, which drops all pages and brings a fault for each that is placed or written again.
bool ResidentView::refreshing_pays(std::size_t refreshed) const noexcept {
    const auto all = static_cast<double>(pages_.size());
    const double now = static_cast<double>(refreshed) * costs_.refresh_ns;
    const double keeping = now + std::max(0.0, all - usually_changed_) * costs_.compare_ns;
    const auto placed = static_cast<double>(sys::total_pages(snapshot_.layers()->placed()).value);
    const double anew = costs_.remap_ns + all * costs_.drop_ns + (placed + usually_changed_) * costs_.fault_ns;
    return keeping <= anew;
}

void ResidentView::restore_by(Preparation& how) {
    if (!whole_) {
        how = Preparation::unrelated;
        return map_anew();
    }
    if (over_budget()) {
        how = Preparation::too_many;
        return map_anew();
    }
    if (!refreshing_pays(changed_.size())) {
        how = Preparation::too_dear;
        return map_anew();
    }
    const Stopwatch watch;
    auto page = pages_.begin();
    for (const PageIndex index : changed_) {
        while (page->index < index) ++page;
        refresh(index, page->source);
    }
    learn(costs_.refresh_ns, watch.ns(), changed_.size());
    changed_.clear();
}

void ResidentView::restore() {
    Preparation how = Preparation::clean;
    resize(snapshot_.layers()->mapped_bytes());
    extent_bytes_ = snapshot_.extent_bytes();
    restore_by(how);
    if (how != Preparation::clean) restored_ = how;
}

Preparation ResidentView::prepare(const Snapshot& wanted, bool base_may_have_changed) {
    VMCOW_ASSERT(wanted.layers()->shared_base() == snapshot_.layers()->shared_base());
    resize(wanted.layers()->mapped_bytes());
    extent_bytes_ = wanted.extent_bytes();
    if (base_may_have_changed) {
        changed_.clear();
        for (const Page& page : pages_) changed_.push_back(page.index);
    }
    Preparation how = pages_.empty() ? Preparation::clean : Preparation::resident;
    if (restored_ != Preparation::clean) how = restored_;
    if (wanted.layers() != snapshot_.layers()) {
        rebase(wanted, how);
    } else if (!whole_ || !changed_.empty() || over_budget() || !refreshing_pays(0)) {
        restore_by(how);
    }
    restored_ = Preparation::clean;
    copied_ = {};
    return how;
}

/// Another snapshot over the same base: what lies in a delta of the one or the other, and what was changed, is copied.
void ResidentView::rebase(const Snapshot& wanted, Preparation& how) {
    const std::vector<PageIndex> before = snapshot_.layers()->delta_pages();
    const std::vector<PageIndex> after = wanted.layers()->delta_pages();
    std::vector<PageIndex> either;
    std::set_union(before.begin(), before.end(), after.begin(), after.end(), std::back_inserter(either));
    std::vector<PageIndex> candidates;
    std::set_union(either.begin(), either.end(), changed_.begin(), changed_.end(), std::back_inserter(candidates));
    std::erase_if(candidates, [&](PageIndex page) {
        // Not by address: what the old snapshot had there may have ended, and the memory be another delta's.
        const bool same = wanted.layers()->source(page).delta == snapshot_.layers()->source(page).delta;
        return same && !std::binary_search(changed_.begin(), changed_.end(), page);
    });
    // What only the old one had lies behind the new one's end.
    std::erase_if(candidates, [&](PageIndex page) { return page.byte_offset() >= mapped_bytes_; });
    const Snapshot old = std::exchange(snapshot_, wanted);
    if (!whole_ || PageCount{candidates.size()} > budget_ || !refreshing_pays(candidates.size())) {
        how = Preparation::unrelated;
        return map_anew();
    }
    std::vector<PageRun> runs;
    for (const PageIndex page : candidates) {
        refresh(page, wanted.page(page));
        runs.push_back({page, {1}});
    }
    changed_.clear();
    add_pages(runs);
    find_sources();
    if (how == Preparation::clean && !candidates.empty()) how = Preparation::resident;
}

/// Returns how many of them are new.
PageCount ResidentView::add_pages(const std::vector<PageRun>& runs) {
    std::vector<Page> merged;
    merged.reserve(pages_.size() + runs.size());
    auto known = pages_.begin();
    for (const PageRun& run : runs) {
        for (PageIndex index = run.first; index < run.end(); index = index + PageCount{1}) {
            while (known != pages_.end() && known->index < index) merged.push_back(*known++);
            if (known != pages_.end() && known->index == index) continue;
            merged.push_back({index, snapshot_.layers()->page(index)});
        }
    }
    merged.insert(merged.end(), known, pages_.end());
    const PageCount added{merged.size() - pages_.size()};
    pages_ = std::move(merged);
    return added;
}

void ResidentView::find_sources() {
    for (Page& page : pages_) page.source = snapshot_.layers()->page(page.index);
}

void ResidentView::find_changes(const sys::PageScanner& scanner, bool faulted) {
    if (faulted) {
        std::vector<PageRun> runs;
        const bool was_whole = std::exchange(whole_, false);  // until it is known what was written to
        scanner.private_pages(reinterpret_cast<std::uintptr_t>(slot_.address()), mapped_bytes_, runs);
        copied_ += add_pages(runs);
        whole_ = was_whole;
    }
    changed_.clear();
    const Stopwatch watch;
    for (const Page& page : pages_) {
        if (std::memcmp(this->page(page.index), page.source, kPageBytes) != 0) changed_.push_back(page.index);
    }
    // Of a changed page only as much is read as is the same, so the time is that of the others.
    if (changed_.size() * 2 < pages_.size()) learn(costs_.compare_ns, watch.ns(), pages_.size() - changed_.size());
    usually_changed_ += (static_cast<double>(changed_.size()) - usually_changed_) * kWeight;
}

std::uint64_t ResidentView::changed_bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const PageIndex index : changed_) sum += differing_bytes(page(index), snapshot_.layers()->page(index));
    return sum;
}

/// Pages that were mapped from a delta that the snapshot no longer has, since its owner has merged them: that memory
/// may become somebody else's (I1).
void ResidentView::keep_what_has_moved(const Snapshot& before) {
    const auto& now = snapshot_.layers()->deltas();
    const auto& old = before.layers()->deltas();
    const auto is_there = [&](const auto& delta) { return std::find(now.begin(), now.end(), delta) != now.end(); };
    if (std::all_of(old.begin(), old.end(), is_there)) return;
    std::vector<PageRun> runs;
    auto known = pages_.begin();
    for (const PageIndex page : before.layers()->delta_pages()) {
        while (known != pages_.end() && known->index < page) ++known;
        const bool is_private = known != pages_.end() && known->index == page;
        if (is_private) continue;
        const Layers::Source source = snapshot_.layers()->source(page);
        if (source.delta == before.layers()->source(page).delta) continue;
        refresh(page, source.bytes);
        runs.push_back({page, {1}});
    }
    add_pages(runs);
}

void ResidentView::accept(const Snapshot& result) {
    VMCOW_ASSERT(result.layers()->shared_base() == snapshot_.layers()->shared_base());
    const Snapshot before = std::exchange(snapshot_, result);
    keep_what_has_moved(before);
    resize(result.layers()->mapped_bytes());
    extent_bytes_ = result.extent_bytes();
    changed_.clear();
    find_sources();
}

PageCount ResidentView::take_refreshed() noexcept { return std::exchange(refreshed_, PageCount{}); }

}  // namespace vmcow
