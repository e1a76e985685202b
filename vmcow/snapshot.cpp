#include "vmcow/snapshot.hpp"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "vmcow/arena.hpp"
#include "vmcow/composed_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/view.hpp"

namespace vmcow {

namespace {

/// More than anybody can map; what another process says is no more than this.
constexpr std::uint64_t kMostExtent = std::uint64_t{1} << 46;

}  // namespace

struct Snapshot::State {
    explicit State(std::shared_ptr<const Layers> made_of) : layers(std::move(made_of)) {}

    std::shared_ptr<const Layers> layers;
    std::once_flag composed_once;
    std::unique_ptr<ComposedImage> composed;  // only for a snapshot with deltas, when someone wants it contiguous
};

Snapshot::Snapshot(std::shared_ptr<const Layers> layers) : state_(std::make_shared<State>(std::move(layers))) {}

std::uint64_t Snapshot::extent_bytes() const noexcept { return state_->layers->extent_bytes(); }

PageCount Snapshot::page_count() const noexcept { return pages_of(extent_bytes()); }

const std::string& Snapshot::name() const noexcept { return state_->layers->base().name(); }

const std::shared_ptr<const Layers>& Snapshot::layers() const noexcept { return state_->layers; }

std::span<const std::byte> Snapshot::bytes() const {
    State& state = *state_;
    if (state.layers->is_base_alone()) return {state.layers->base().data(), extent_bytes()};
    std::call_once(state.composed_once, [&] {
        auto composed = std::make_unique<ComposedImage>(state.layers);
        composed->make_read_only();
        state.composed = std::move(composed);
    });
    return {state.composed->data(), extent_bytes()};
}

const std::byte* Snapshot::page(PageIndex index) const noexcept {
    VMCOW_ASSERT(index.byte_offset() < state_->layers->mapped_bytes());
    return state_->layers->page(index);
}

View Snapshot::map_private() const { return View(*this); }

Snapshot Snapshot::flatten() const {
    if (state_->layers->is_base_alone() && state_->layers->base().is_sealed_file()) return *this;
    Arena copy({.name = name(), .reserve_bytes = state_->layers->mapped_bytes()});
    copy.append(bytes());
    return std::move(copy).freeze();
}

std::size_t Snapshot::delta_count() const noexcept { return state_->layers->deltas().size(); }

PageCount Snapshot::delta_pages() const noexcept {
    PageCount sum;
    for (const auto& delta : state_->layers->deltas()) sum += PageCount{delta->pages().size()};
    return sum;
}

int Snapshot::base_fd() const noexcept { return state_->layers->base().fd(); }

SnapshotParts Snapshot::parts() const {
    const Layers& layers = *state_->layers;
    // Whoever receives it looks for seals, which neither a file on disk nor a part of a larger file has.
    if (!layers.base().is_sealed_file()) return flatten().parts();
    SnapshotParts parts;
    parts.base = sys::duplicate(layers.base().fd());
    parts.extent_bytes = layers.extent_bytes();
    parts.slot_address = reinterpret_cast<std::uintptr_t>(layers.base().data());
    for (const auto& delta : layers.deltas()) {
        const auto own = Delta::in_own_file(delta);
        parts.deltas.push_back({sys::duplicate(own->fd()), {own->pages().size()}});
    }
    return parts;
}

bool Snapshot::fits(std::uint64_t base_bytes, std::uint64_t extent_bytes) noexcept {
    const PageCount pages = std::max(pages_of(extent_bytes), PageCount{1});  // an empty image has a page too
    const bool whole_pages = base_bytes > 0 && base_bytes % kPageBytes == 0;
    return whole_pages && pages_of(base_bytes) <= pages && extent_bytes <= kMostExtent;
}

Snapshot Snapshot::adopt(SnapshotParts parts, std::string name) {
    if (!sys::is_immutable(parts.base.get())) sys::throw_error(EBADMSG, "received image: not sealed");
    const std::uint64_t bytes = sys::file_bytes(parts.base.get());
    const PageCount pages = std::max(pages_of(parts.extent_bytes), PageCount{1});
    if (!fits(bytes, parts.extent_bytes)) {
        sys::throw_error(EBADMSG, "received image: its size does not fit its extent");
    }
    if (parts.deltas.size() > Layers::kMaxDeltas) sys::throw_error(EBADMSG, "received image: too many deltas");
    std::optional<Slot> slot = Slot::claim(reinterpret_cast<const void*>(parts.slot_address), bytes);
    if (!slot) slot = Slot::reserve(bytes);
    auto base = std::make_shared<const ReadOnlyImage>(std::move(parts.base), std::move(*slot), std::move(name));
    std::vector<std::shared_ptr<const Delta>> deltas;
    for (SnapshotParts::DeltaPart& part : parts.deltas) {
        deltas.push_back(Delta::adopt(std::move(part.fd), part.pages, pages));
    }
    return Snapshot(std::make_shared<const Layers>(std::move(base), parts.extent_bytes, std::move(deltas)));
}

}  // namespace vmcow
