#include "vmcow/image/resident_view.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <iterator>
#include <mutex>
#include <utility>

#include "vmcow/image/delta.hpp"
#include "vmcow/image/fork_lock.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/page_compare.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"

namespace vmcow {
namespace {

/// The weight of a new call in the average of changed pages.
constexpr double kWeight = 0.25;

class Stopwatch {
public:
    [[nodiscard]] double ns() const noexcept {
        return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started_).count();
    }

private:
    std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

/// Takes the time that `pages` pages have taken just now into the average of a cost. The cost depends on the number of
/// pages: a few are in a cache, so they do not count. A pass that was interrupted counts as at most four times the
/// expected time.
void learn(double& cost_ns, double elapsed_ns, std::size_t pages) noexcept {
    constexpr std::size_t kFew = 16;
    if (pages < kFew) return;
    const double seen = std::min(elapsed_ns / static_cast<double>(pages), 4 * cost_ns);
    cost_ns += (seen - cost_ns) * kWeight;
}

}  // namespace

ResidentView::ResidentView(Snapshot snapshot, Slot slot, const CopyCosts& costs, PageCount budget)
    : snapshot_(std::move(snapshot)), slot_(std::move(slot)), costs_(costs), budget_(budget) {
    VMCOW_ASSERT(slot_.bytes() >= snapshot_.layers()->mapped_bytes() && "the slot is as large as the snapshot");
    map_anew();
    enlist();
}

ResidentView::~ResidentView() { delist(); }

void ResidentView::map_anew() {
    static_cast<void>(snapshot_.layers()->plan());
    whole_ = false;
    pages_.clear();
    changed_.clear();
    written_.reset();
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
    pages_.insert(snapshot_.layers()->placed());
}

/// Sets how many bytes are mapped. Behind the image lies private memory of this process.
void ResidentView::resize(std::size_t mapped_bytes) {
    if (mapped_bytes == mapped_bytes_) return;
    const auto check = [&](int error) {
        if (error != 0) sys::throw_error(error, "resize a view of image '" + snapshot_.name() + "'");
    };
    if (!slot_.extend(mapped_bytes)) check(ENOMEM);
    const std::scoped_lock lock(fork_lock());
    if (mapped_bytes > mapped_bytes_) {
        std::byte* const end = slot_.address() + mapped_bytes_;
        check(sys::map_memory_at(end, mapped_bytes - mapped_bytes_));
        check(sys::keep_out_of_children(end, mapped_bytes - mapped_bytes_));
    } else {
        check(sys::reserve_at(slot_.address() + mapped_bytes, mapped_bytes_ - mapped_bytes));
        pages_.cut(page_at(mapped_bytes));
        std::erase_if(changed_, [&](PageIndex page) { return page.byte_offset() >= mapped_bytes; });
    }
    written_.reset();
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

/// Whether there are more private pages than allowed. Mapping anew brings back the placed pages, so these alone are
/// never too many.
bool ResidentView::over_budget() const noexcept {
    return resident() > std::max(budget_, snapshot_.layers()->placed_at_most());
}

/// Whether refreshing `refreshed` pages costs less than mapping anew, which drops all pages and brings a fault for each
/// page that is placed or written again.
bool ResidentView::refreshing_pays(std::size_t refreshed) const noexcept {
    const auto all = static_cast<double>(resident().value);
    const double now = static_cast<double>(refreshed) * costs_.refresh_ns;
    const double compared = written_ ? 0 : std::max(0.0, all - usually_changed_);
    const double keeping = now + compared * costs_.compare_ns;
    const auto placed = static_cast<double>(snapshot_.layers()->placed_at_most().value);
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
    VMCOW_ASSERT(PageCount{changed_.size()} <= resident() && "I6: a page that was not copied has changed");
    const Stopwatch watch;
    for (const PageIndex index : changed_) refresh(index, snapshot_.layers()->page(index));
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
    VMCOW_ASSERT(wanted.layers()->shared_base() == snapshot_.layers()->shared_base() && "one base for all calls");
    const bool is_borrowed = wanted.layers()->base().state() == FileState::borrowed;
    VMCOW_ASSERT((is_borrowed || !base_may_have_changed) && "I1: a base that nobody lends would have changed");
    resize(wanted.layers()->mapped_bytes());
    extent_bytes_ = wanted.extent_bytes();
    if (base_may_have_changed) {
        changed_.clear();
        pages_.for_each([&](PageIndex page) { changed_.push_back(page); });
    }
    Preparation how = pages_.is_empty() ? Preparation::clean : Preparation::resident;
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

/// Goes over to another snapshot of the same base. The pages that the two have in different places, and the changed
/// pages, are copied.
void ResidentView::rebase(const Snapshot& wanted, Preparation& how) {
    std::vector<PageIndex> moved;
    PageTree::for_each_difference(snapshot_.layers()->tree(), wanted.layers()->tree(),
                                  [&](PageIndex page, const auto*, const auto*) { moved.push_back(page); });
    std::vector<PageIndex> candidates;
    std::set_union(moved.begin(), moved.end(), changed_.begin(), changed_.end(), std::back_inserter(candidates));
    // Pages that only the old snapshot had lie behind the end of the new one.
    std::erase_if(candidates, [&](PageIndex page) { return page.byte_offset() >= mapped_bytes_; });
    const Snapshot old = std::exchange(snapshot_, wanted);
    if (!whole_ || PageCount{candidates.size()} > budget_ || !refreshing_pays(candidates.size())) {
        how = Preparation::unrelated;
        return map_anew();
    }
    for (const PageIndex page : candidates) {
        refresh(page, wanted.page(page));
        pages_.insert(page);
    }
    changed_.clear();
    if (how == Preparation::clean && !candidates.empty()) how = Preparation::resident;
}

void ResidentView::find_changes(const sys::PageScanner& scanner, bool faulted) {
    std::vector<PageRun> found;
    // A page that was refreshed can be written to without a fault; `written_` knows of those as well.
    if (faulted || written_) {
        const bool was_whole = std::exchange(whole_, false);  // until the scan has told which pages were written to
        if (written_) {
            written_->take(found);
        } else {
            scanner.private_pages(reinterpret_cast<std::uintptr_t>(slot_.address()), mapped_bytes_, found);
        }
        copied_ += pages_.insert(found);
        whole_ = was_whole;
    }
    const bool within = found.empty() || found.back().end().byte_offset() <= mapped_bytes_;
    VMCOW_ASSERT(within && "I5: a page behind the mapping is counted");
    compare(written_ ? found : pages_.runs());
    usually_changed_ += (static_cast<double>(changed_.size()) - usually_changed_) * kWeight;
    choose_watching();
}

/// Finds which of these pages differ from the snapshot.
void ResidentView::compare(const std::vector<PageRun>& suspects) {
    changed_.clear();
    std::size_t compared = 0;
    const Stopwatch watch;
    for (const PageRun& run : suspects) {
        for (PageIndex index = run.first; index < run.end(); index = index + PageCount{1}) {
            if (std::memcmp(page(index), snapshot_.layers()->page(index), kPageBytes) != 0) changed_.push_back(index);
        }
        compared += run.count.value;
    }
    // Of a changed page only the part before the first difference is read, so the time counts for the other pages.
    if (changed_.size() * 2 < compared) learn(costs_.compare_ns, watch.ns(), compared - changed_.size());
}

/// Decides how the next call's changes are found: a page that is watched takes a fault when it is written again, one
/// that is not is compared after each call.
void ResidentView::choose_watching() {
    constexpr std::uint64_t kMany = 256;
    constexpr double kMuch = 2;
    const auto all = static_cast<double>(resident().value);
    const double faults = usually_changed_ * costs_.fault_ns;
    const double comparing = std::max(0.0, all - usually_changed_) * costs_.compare_ns;
    if (written_) {
        if (faults > comparing) written_.reset();
        return;
    }
    const bool may_lend = snapshot_.layers()->base().state() == FileState::borrowed;
    if (resident().value < kMany || kMuch * faults > comparing || may_lend) return;
    auto watch = sys::WrittenPages::watch(reinterpret_cast<std::uintptr_t>(slot_.address()), mapped_bytes_);
    if (!watch) return;
    // What was found just now is known.
    std::vector<PageRun> known;
    watch->take(known);
    written_ = std::move(watch);
}

std::uint64_t ResidentView::changed_bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const PageIndex index : changed_) sum += differing_bytes(page(index), snapshot_.layers()->page(index));
    return sum;
}

/// Copies pages that are mapped from a block in which the snapshot no longer has them, because its owner has gathered
/// pages in a new one. The memory of the old block may become somebody else's (I1).
void ResidentView::keep_what_has_moved(const Snapshot& before) {
    const auto keep = [&](PageIndex page, const PageTree::Place* was, const PageTree::Place*) {
        if (was == nullptr || pages_.contains(page)) return;
        refresh(page, snapshot_.layers()->page(page));
        pages_.insert(page);
    };
    PageTree::for_each_difference(before.layers()->tree(), snapshot_.layers()->tree(), keep);
}

void ResidentView::accept(const Snapshot& result) {
    VMCOW_ASSERT(result.layers()->shared_base() == snapshot_.layers()->shared_base() && "one base for all calls");
    const Snapshot before = std::exchange(snapshot_, result);
    keep_what_has_moved(before);
    resize(result.layers()->mapped_bytes());
    extent_bytes_ = result.extent_bytes();
    changed_.clear();
}

PageCount ResidentView::take_refreshed() noexcept { return std::exchange(refreshed_, PageCount{}); }

std::vector<PageRun> ResidentView::private_runs(const sys::PageScanner& scanner) const {
    std::vector<PageRun> runs;
    scanner.private_pages(reinterpret_cast<std::uintptr_t>(slot_.address()), mapped_bytes_, runs);
    return runs;
}

std::shared_ptr<const Layers> ResidentView::layers_now() const { return capture(Delta::stored_copy_of); }

void ResidentView::before_fork() {
    for_child_ = capture(Delta::copy_for_child);
    static_cast<void>(for_child_->plan());
}

std::shared_ptr<const Layers> ResidentView::capture(Layers::DeltaMaker make) const {
    const std::vector<PageRun> runs = private_runs(sys::PageScanner());  // whose descriptor is closed again here
    return capture_layers(below(), runs, slot_.address(), extent_bytes_, make);
}

int ResidentView::reserve_again() noexcept { return sys::reserve_hole(slot_.address(), mapped_bytes_); }

int ResidentView::compose_again() noexcept {
    VMCOW_ASSERT(for_child_ && "I7: the child would have to make layers");
    std::swap(inherited_, for_child_);  // nothing is freed here (I7)
    return inherited_->map_at(slot_.address());
}

PageChanges ResidentView::changes(sys::PageScannerOnDemand& scanner) const {
    if (!inherited_) return {};
    const std::vector<PageRun> runs = private_runs(scanner.get());
    const auto before = [&](PageIndex page) { return inherited_->page(page); };
    PageChanges changes = compare_runs(subtract(runs, inherited_->placed()), slot_.address(), before);
    // Writing to a page that was private from the start copies no page, but it changes bytes.
    changes.changed_bytes += compare_runs(inherited_->placed(), slot_.address(), before).changed_bytes;
    return changes;
}

WritableRange ResidentView::writable() const noexcept {
    const Layers& layers = for_child_ ? *for_child_ : *below();
    return {reinterpret_cast<std::uintptr_t>(slot_.address()), layers.mapped_bytes(), layers.placed_at_most()};
}

}  // namespace vmcow
