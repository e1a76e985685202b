#include "vmcow/image/composed_image.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "vmcow/image/fork_lock.hpp"
#include "vmcow/image/page_compare.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow {

ComposedImage::ComposedImage(std::shared_ptr<const Layers> layers, std::size_t room_bytes)
    : layers_(std::move(layers)),
      slot_(Slot::reserve(layers_->mapped_bytes(), room_bytes)),
      extent_bytes_(layers_->extent_bytes()),
      mapped_bytes_(layers_->mapped_bytes()) {
    reset();
    enlist();
}

ComposedImage::~ComposedImage() { delist(); }

std::vector<PageRun> ComposedImage::private_runs(const sys::PageScanner& scanner) const {
    std::vector<PageRun> runs;
    scanner.private_pages(reinterpret_cast<std::uintptr_t>(data()), mapped_bytes_, runs);
    return runs;
}

std::vector<PageRun> ComposedImage::private_before() const {
    return committed_ ? at_commit_.runs() : layers_->placed();
}

std::vector<PageRun> ComposedImage::suspects() const {
    if (!written_ || written_->bytes() != mapped_bytes_) return private_runs(sys::PageScanner());
    std::vector<PageRun> runs;
    written_->look(runs);
    return runs;
}

std::vector<PageRun> ComposedImage::copied_runs(sys::PageScanMethod method) const {
    return subtract(private_runs(sys::PageScanner(method)), private_before());
}

PageChanges ComposedImage::changes(sys::PageScanMethod method) const {
    return writable_ ? changes_in(private_runs(sys::PageScanner(method))) : PageChanges{};
}

PageChanges ComposedImage::changes(sys::PageScannerOnDemand& scanner) const {
    return writable_ ? changes_in(private_runs(scanner.get())) : PageChanges{};
}

/// The changes of the mapping, whose private pages are `runs`.
PageChanges ComposedImage::changes_in(const std::vector<PageRun>& runs) const {
    const auto before = [&](PageIndex page) { return layers_->page(page); };
    const std::vector<PageRun> private_already = private_before();
    PageChanges changes = compare_runs(subtract(runs, private_already), data(), before);
    // Writing to a page that was private from the start copies no page, but it changes bytes.
    changes.changed_bytes += compare_runs(private_already, data(), before).changed_bytes;
    return changes;
}

std::shared_ptr<const Layers> ComposedImage::capture(Layers::DeltaMaker make) const {
    return capture(suspects(), make);
}

std::shared_ptr<const Layers> ComposedImage::capture(const std::vector<PageRun>& runs, Layers::DeltaMaker make) const {
    return capture_layers(layers_, runs, data(), extent_bytes_, make);
}

void ComposedImage::commit() {
    VMCOW_ASSERT(mapped_ && "I1: memory that is still mapped would be used again");
    if (written_ && written_->bytes() != mapped_bytes_) written_.reset();
    std::vector<PageRun> runs;
    std::size_t changed_pages = 0;
    try {
        if (written_) {
            written_->take(runs);
        } else {
            runs = private_runs(sys::PageScanner());
        }
        const std::vector<PageIndex> changed = pages_that_differ(*layers_, runs, data());
        changed_pages = changed.size();
        at_commit_.insert(runs);
        layers_ = with_pages_of(layers_, changed, data(), extent_bytes_, Delta::stored_copy_of);
    } catch (...) {
        written_.reset();  // which has forgotten these pages
        throw;
    }
    committed_ = true;
    choose_watching(changed_pages);
}

/// Decides how the next commit finds what has changed: a page that is watched takes a fault when it is written again,
/// one that is not is compared at each commit.
void ComposedImage::choose_watching(std::size_t changed) {
    constexpr std::uint64_t kMany = 256;
    constexpr std::uint64_t kFew = 16;  // few: one of so many private pages
    constexpr std::uint64_t kMost = 4;  // too many: one of so many
    const std::uint64_t all = at_commit_.count().value;
    if (written_) {
        if (changed * kMost > all) written_.reset();
        return;
    }
    if (all < kMany || changed * kFew > all) return;
    auto watch = sys::WrittenPages::watch(reinterpret_cast<std::uintptr_t>(data()), mapped_bytes_);
    std::vector<PageRun> known;
    if (watch) watch->take(known);
    written_ = std::move(watch);
}

void ComposedImage::grow(std::uint64_t extent_bytes) {
    const std::size_t mapped = std::max(mapped_bytes_, round_up(extent_bytes, kPageBytes));
    const auto check = [&](int error) {
        if (error == 0) return;
        sys::throw_error(error, "grow a view of image '" + layers_->base().name() + "' to " + std::to_string(mapped) +
                                    " bytes, with " + std::to_string(slot_.room_bytes()) + " bytes of addresses");
    };
    if (!slot_.extend(mapped)) check(ENOMEM);
    if (mapped > mapped_bytes_) {
        const std::scoped_lock lock(fork_lock());
        std::byte* const end = data() + mapped_bytes_;
        check(sys::map_memory_at(end, mapped - mapped_bytes_));
        mapped_bytes_ = mapped;
        check(sys::keep_out_of_children(end, static_cast<std::size_t>(data() + mapped - end)));
    }
    extent_bytes_ = std::max(extent_bytes_, extent_bytes);
}

void ComposedImage::reset() {
    static_cast<void>(layers_->plan());
    const std::scoped_lock lock(fork_lock());
    const std::shared_ptr<const Layers> before = std::exchange(mapped_, layers_);
    int error = layers_->map_at(data());
    const std::size_t mapped = layers_->mapped_bytes();
    if (error == 0 && mapped_bytes_ > mapped) error = sys::reserve_at(data() + mapped, mapped_bytes_ - mapped);
    if (error != 0) sys::throw_error(error, "map a view of image '" + layers_->base().name() + "'");
    mapped_bytes_ = mapped;
    extent_bytes_ = layers_->extent_bytes();
    committed_ = false;
    at_commit_.clear();
    written_.reset();
}

void ComposedImage::make_read_only() {
    if (const int error = sys::make_read_only(data(), mapped_bytes_); error != 0) {
        sys::throw_error(error, "protect a view of image '" + layers_->base().name() + "'");
    }
    writable_ = false;
}

WritableRange ComposedImage::writable() const noexcept {
    if (!writable_) return {};
    const Layers& layers = for_child_ ? *for_child_ : *mapped_;
    return {reinterpret_cast<std::uintptr_t>(data()), layers.mapped_bytes(), layers.placed_at_most()};
}

void ComposedImage::before_fork() {
    parked_.reset();
    parked_written_.reset();
    for_child_ = writable_ ? capture(Delta::copy_for_child) : layers_;
    static_cast<void>(for_child_->plan());
}

void ComposedImage::forget_fork() noexcept {
    if (for_child_) for_child_.reset();
}

int ComposedImage::reserve_again() noexcept { return sys::reserve_hole(data(), mapped_bytes_); }

int ComposedImage::compose_again() noexcept {
    VMCOW_ASSERT(for_child_ && !parked_ && !parked_written_ &&
                 "I7: the child would have to make layers, or to free some");
    std::swap(layers_, for_child_);
    parked_.swap(mapped_);  // nothing is freed here (I7)
    parked_written_.swap(written_);
    mapped_ = layers_;
    committed_ = false;
    if (const int error = layers_->map_at(data()); error != 0) return error;
    return writable_ ? 0 : sys::make_read_only(data(), mapped_bytes_);
}

}  // namespace vmcow
