#include "vmcow/composed_image.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "vmcow/fork_lock.hpp"
#include "vmcow/page_compare.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memory.hpp"

namespace vmcow {
ComposedImage::ComposedImage(std::shared_ptr<const Layers> layers)
    : layers_(std::move(layers)), slot_(Slot::reserve(layers_->mapped_bytes())) {
    reset();
    enlist();
}

ComposedImage::~ComposedImage() { delist(); }

std::vector<PageRun> ComposedImage::private_runs(sys::PageScanMethod method) const {
    std::vector<PageRun> runs;
    sys::PageScanner(method).private_pages(reinterpret_cast<std::uintptr_t>(data()), layers_->mapped_bytes(), runs);
    return runs;
}

std::vector<PageRun> ComposedImage::copied_runs(sys::PageScanMethod method) const {
    return subtract(private_runs(method), layers_->placed());
}

PageChanges ComposedImage::changes(sys::PageScanMethod method) const {
    if (!writable_) return {};
    const auto before = [&](PageIndex page) { return layers_->page(page); };
    PageChanges changes = compare_runs(copied_runs(method), data(), before);
    // A page that was placed is private from the start: writing to it copies no page, but it changes bytes.
    changes.changed_bytes += compare_runs(layers_->placed(), data(), before).changed_bytes;
    return changes;
}

bool ComposedImage::differs(PageIndex page) const noexcept {
    return std::memcmp(data() + page.byte_offset(), layers_->page(page), kPageBytes) != 0;
}

std::shared_ptr<const Layers> ComposedImage::capture() const {
    std::vector<PageIndex> changed;
    for (const PageRun& run : private_runs(sys::best_page_scan())) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
            if (differs(page)) changed.push_back(page);
        }
    }
    if (changed.empty()) return layers_;
    return layers_->with_changes(
        changed, [&](std::size_t i) { return data() + changed[i].byte_offset(); }, Delta::copy_of);
}

void ComposedImage::reset() {
    const std::scoped_lock lock(fork_lock());
    if (const int error = layers_->map_at(data()); error != 0) {
        sys::throw_error(error, "map a view of image '" + layers_->base().name() + "'");
    }
}

void ComposedImage::make_read_only() {
    if (const int error = sys::make_read_only(data(), layers_->mapped_bytes()); error != 0) {
        sys::throw_error(error, "protect a view of image '" + layers_->base().name() + "'");
    }
    writable_ = false;
}

WritableRange ComposedImage::writable() const noexcept {
    if (!writable_) return {};
    const Layers& layers = for_child_ ? *for_child_ : *layers_;
    return {reinterpret_cast<std::uintptr_t>(data()), layers.mapped_bytes(), sys::total_pages(layers.placed())};
}

void ComposedImage::before_fork() { for_child_ = writable_ ? capture() : layers_; }

void ComposedImage::forget_fork() noexcept { for_child_.reset(); }

int ComposedImage::reserve_again() noexcept { return sys::reserve_hole(data(), layers_->mapped_bytes()); }

int ComposedImage::compose_again() noexcept {
    std::swap(layers_, for_child_);
    if (const int error = layers_->map_at(data()); error != 0) return error;
    return writable_ ? 0 : sys::make_read_only(data(), layers_->mapped_bytes());
}

}  // namespace vmcow
