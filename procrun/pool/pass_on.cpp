#include "procrun/pass_on.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "procrun/worker/erased_call.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"
#include "vmcow/value/snapshot_part.hpp"

namespace procrun::detail {
namespace {

using vmcow::Snapshot;

/// The image around `bytes`, if there is one that this call may pass on. An image that its owner may still write to is
/// passed on only by a synchronous call, whose caller waits (I2).
std::optional<vmcow::PresentImage> image_around(const ErasedCall& call, std::span<const std::byte> bytes) {
    auto present = vmcow::MappedImage::present_at(bytes.data(), bytes.size());
    if (!present || call.is_synchronous) return present;
    const bool may_change = present->layers->base().state() == vmcow::FileState::borrowed;
    return may_change ? std::nullopt : present;
}

/// The strictest alignment that the function's parameter may need.
constexpr std::size_t kCopyAlignment = 64;

void put_copy(ErasedCall& call, std::span<const std::byte> bytes, ImageArgument& to) {
    if (bytes.size() <= vmcow::ValueBlock::kLargest) {
        const vmcow::ValueHandle copy(std::make_unique<vmcow::ValueImage>(
            vmcow::ValueBlock(bytes, kCopyAlignment), vmcow::ValueOptions{.name = "passed on"}, kCopyAlignment));
        if (!send_block(call, copy, to)) to.snapshot.emplace(copy->snapshot());
        return;
    }
    vmcow::Arena copy({.name = "passed on", .reserve_bytes = std::max(bytes.size(), vmcow::kPageBytes)});
    copy.append(bytes);
    to.snapshot.emplace(std::move(copy).freeze());
}

}  // namespace

void put_present(ErasedCall& call, std::span<const std::byte> bytes, ImageArgument& to) {
    const auto present = bytes.empty() ? std::nullopt : image_around(call, bytes);
    if (!present) {
        return put_copy(call, bytes, to);
    }
    const vmcow::Layers& layers = *present->layers;
    const auto offset = static_cast<std::uint64_t>(bytes.data() - present->begin);
    to.at = bytes.data();
    if (offset == 0 && vmcow::pages_of(bytes.size()) == vmcow::pages_of(layers.mapped_bytes())) {
        to.snapshot.emplace(Snapshot(layers.with_extent(bytes.size())));
        return;
    }
    to.part.emplace(Snapshot(present->layers), offset, bytes.size());
    to.snapshot = to.part->image();
    to.at = bytes.data() - to.part->skip();
}

bool put_present_object(const ErasedCall& call, std::span<const std::byte> bytes, ImageArgument& to) {
    const auto present = image_around(call, bytes);
    if (!present || present->layers->extent_bytes() < sizeof(vmcow::detail::ValueHeader)) return false;
    const auto* const header = reinterpret_cast<const vmcow::detail::ValueHeader*>(present->begin);
    if (header->object != static_cast<std::uint64_t>(bytes.data() - present->begin)) return false;
    to.snapshot.emplace(Snapshot(present->layers));
    to.at = present->begin;
    return true;
}

void put_arena(ErasedCall& call, const vmcow::Arena& arena, ImageArgument& to) {
    if (arena.is_own()) {
        to.borrowed = &arena;
    } else {
        put_present(call, arena.bytes(), to);
    }
}

vmcow::Arena own_copy_of(const vmcow::Arena& arena) {
    vmcow::Arena copy({.name = arena.name(), .reserve_bytes = std::max(arena.extent_bytes(), vmcow::kPageBytes)});
    copy.append(arena.bytes());
    return copy;
}

}  // namespace procrun::detail
