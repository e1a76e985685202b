#include "vmcow/view.hpp"

#include <utility>

#include "vmcow/image/composed_image.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/held.hpp"
#include "vmcow/sys/page_scan_method.hpp"

namespace vmcow {

namespace {
constexpr const char* kType = "vmcow::View";
}

View::View(const Snapshot& snapshot, std::size_t room_bytes)
    : image_(std::make_unique<ComposedImage>(snapshot.layers(), room_bytes)) {}
View::View(View&& other) noexcept = default;
View& View::operator=(View&& other) noexcept = default;
View::~View() = default;

std::span<std::byte> View::bytes() & noexcept {
    ComposedImage& image = sys::held(image_, kType);
    return {image.data(), image.extent_bytes()};
}

std::span<const std::byte> View::bytes() const& noexcept {
    const ComposedImage& image = sys::held(image_, kType);
    return {image.data(), image.extent_bytes()};
}

OwnedSpan<View, std::byte> View::bytes() && {
    const std::span<std::byte> all = bytes();
    return {std::move(*this), all};
}

Snapshot View::snapshot() const { return Snapshot(sys::held(image_, kType).layers()); }

std::vector<PageRun> View::copied_runs() const { return copied_runs(sys::best_page_scan()); }

PageChanges View::changes() const { return changes(sys::best_page_scan()); }

std::vector<PageRun> View::copied_runs(sys::PageScanMethod method) const {
    return sys::held(image_, kType).copied_runs(method);
}

PageChanges View::changes(sys::PageScanMethod method) const { return sys::held(image_, kType).changes(method); }

Snapshot View::capture() const { return Snapshot(sys::held(image_, kType).capture(Delta::copy_of)); }

Snapshot View::commit() {
    sys::held(image_, kType).commit();
    return snapshot();
}

void View::grow(std::uint64_t extent_bytes) { sys::held(image_, kType).grow(extent_bytes); }

void View::reset() { sys::held(image_, kType).reset(); }

}  // namespace vmcow
