#include "vmcow/view.hpp"

#include <utility>

#include "vmcow/composed_image.hpp"

namespace vmcow {

View::View(const Snapshot& snapshot, std::size_t room_bytes)
    : image_(std::make_unique<ComposedImage>(snapshot.layers(), room_bytes)) {}
View::View(View&& other) noexcept = default;
View& View::operator=(View&& other) noexcept = default;
View::~View() = default;

std::span<std::byte> View::bytes() noexcept { return {image_->data(), image_->extent_bytes()}; }

std::span<const std::byte> View::bytes() const noexcept { return {image_->data(), image_->extent_bytes()}; }

Snapshot View::snapshot() const { return Snapshot(image_->layers()); }

std::vector<PageRun> View::copied_runs(sys::PageScanMethod method) const { return image_->copied_runs(method); }

PageChanges View::changes(sys::PageScanMethod method) const { return image_->changes(method); }

Snapshot View::capture() const { return Snapshot(image_->capture(Delta::copy_of)); }

Snapshot View::commit() {
    image_->commit();
    return snapshot();
}

void View::grow(std::uint64_t extent_bytes) { image_->grow(extent_bytes); }

void View::reset() { image_->reset(); }

}  // namespace vmcow
