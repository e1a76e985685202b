#include "vmcow/snapshot.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include "vmcow/arena.hpp"
#include "vmcow/image/composed_image.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/image/snapshot_parts.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/held.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/view.hpp"

namespace vmcow {

namespace {

constexpr const char* kType = "vmcow::Snapshot";

/// A snapshot of at most this size is copied when its bytes are wanted contiguous. A mapping costs as much, and the
/// number of mappings is limited.
constexpr std::size_t kCopiedWhole = std::size_t{256} << 10;

StoredPages copy_of(const Layers& layers) {
    StoredPages pages = PageStore::allocate(pages_of(layers.mapped_bytes()));
    for (PageIndex page; page.value < pages.count().value; page = page + PageCount{1}) {
        std::memcpy(pages.data() + page.byte_offset(), layers.page(page), kPageBytes);
    }
    return pages;
}

/// More than any process can map. A greater extent from another process is refused.
constexpr std::uint64_t kMostExtent = std::uint64_t{1} << 46;

}  // namespace

struct Snapshot::State {
    explicit State(std::shared_ptr<const Layers> made_of) : layers(std::move(made_of)) {}

    /// All pages one behind the other: mapped, or copied where they are few.
    struct Whole {
        std::unique_ptr<ComposedImage> mapped;
        std::optional<StoredPages> copied;

        [[nodiscard]] const std::byte* data() const noexcept { return copied ? copied->data() : mapped->data(); }
    };

    std::shared_ptr<const Layers> layers;
    // Made only for a snapshot with pages beside its base, when somebody wants its bytes contiguous.
    std::once_flag whole_once;
    std::unique_ptr<const Whole> whole;
};

Snapshot::Snapshot(std::shared_ptr<const Layers> layers) : state_(std::make_shared<State>(std::move(layers))) {}

std::uint64_t Snapshot::extent_bytes() const noexcept { return sys::held(state_, kType).layers->extent_bytes(); }

PageCount Snapshot::page_count() const noexcept { return pages_of(extent_bytes()); }

const std::string& Snapshot::name() const noexcept { return sys::held(state_, kType).layers->base().name(); }

const std::shared_ptr<const Layers>& Snapshot::layers() const noexcept { return sys::held(state_, kType).layers; }

std::span<const std::byte> Snapshot::bytes() const& {
    State& state = sys::held(state_, kType);
    if (state.layers->is_base_alone()) return {state.layers->base().data(), extent_bytes()};
    std::call_once(state.whole_once, [&] {
        auto whole = std::make_unique<State::Whole>();
        if (state.layers->mapped_bytes() <= kCopiedWhole) {
            whole->copied.emplace(copy_of(*state.layers));
        } else {
            whole->mapped = std::make_unique<ComposedImage>(state.layers);
            whole->mapped->make_read_only();
        }
        state.whole = std::move(whole);
    });
    return {state.whole->data(), extent_bytes()};
}

OwnedSpan<Snapshot, const std::byte> Snapshot::bytes() const&& { return {*this, bytes()}; }

const std::byte* Snapshot::page(PageIndex index) const noexcept {
    VMCOW_ASSERT(index.byte_offset() < sys::held(state_, kType).layers->mapped_bytes() && "the image has that page");
    return sys::held(state_, kType).layers->page(index);
}

View Snapshot::map_private() const { return View(*this); }

Snapshot Snapshot::flatten() const {
    if (sys::held(state_, kType).layers->is_base_alone() && sys::held(state_, kType).layers->base().is_sealed_file())
        return *this;
    Arena copy({.name = name(), .reserve_bytes = sys::held(state_, kType).layers->mapped_bytes()});
    copy.append(bytes());
    return std::move(copy).freeze();
}

Snapshot Snapshot::sealed() const {
    return sys::held(state_, kType).layers->base().is_sealed_file() ? *this : flatten();
}

std::size_t Snapshot::delta_count() const { return sys::held(state_, kType).layers->deltas().size(); }

PageCount Snapshot::delta_pages() const noexcept { return sys::held(state_, kType).layers->tree().count(); }

int Snapshot::base_fd() const noexcept { return sys::held(state_, kType).layers->base().fd(); }

SnapshotParts Snapshot::parts() const {
    const Layers& layers = *sys::held(state_, kType).layers;
    // The receiver looks for seals, which neither a file on disk nor a part of a larger file has.
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
    if (!parts.base || !sys::is_immutable(parts.base.get())) sys::throw_error(EBADMSG, "received image: not sealed");
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
    return Snapshot(std::make_shared<const Layers>(std::move(base), parts.extent_bytes, deltas));
}

}  // namespace vmcow
