#include "procrun/worker/erased_call.hpp"

#include "procrun/worker/call_clock.hpp"
#include "vmcow/image/arena_access.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/read_only_image.hpp"

namespace procrun::detail {

using vmcow::ArenaAccess;

std::uint64_t ImageArgument::extent_bytes() const noexcept {
    if (snapshot) return snapshot->extent_bytes();
    if (is_sent()) return sent->extent_bytes();
    if (borrowed_block) return borrowed_block->extent_bytes;
    return moved ? moved->extent_bytes() : borrowed->extent_bytes();
}

std::uint64_t ImageArgument::mapped_bytes() const noexcept {
    if (snapshot) return snapshot->layers()->mapped_bytes();
    if (is_sent()) return vmcow::pages_of(sent->extent_bytes()).bytes();
    if (borrowed_block) return borrowed_block->mapped_bytes;
    return ArenaAccess::mapped_bytes(moved ? *moved : *borrowed);
}

const std::byte* ImageArgument::address() const noexcept {
    if (at != nullptr) return at;
    if (snapshot) return snapshot->layers()->base().data();
    if (is_sent()) return sent.data();
    if (borrowed_block) return borrowed_block->address;
    return ArenaAccess::address(moved ? *moved : *borrowed);
}

bool ImageArgument::may_change() const noexcept {
    return borrowed != nullptr || borrowed_block ||
           (snapshot && snapshot->layers()->base().state() == vmcow::FileState::borrowed);
}

bool send_block(ErasedCall& call, const vmcow::ValueHandle& value, ImageArgument& to) {
    const auto bytes = value->block_bytes();
    if (!bytes || bytes->size() > kLargestSent) return false;
    const std::size_t end = call.sent_bytes + vmcow::round_up(bytes->size(), kSentAlignment);
    if (end > kInlineBytes - kSentOffset) return false;
    call.sent_bytes = end;
    to.sent = value;
    return true;
}

void put_value_image(ErasedCall& call, const vmcow::ValueHandle& value, bool is_last_use, ImageArgument& to) {
    const bool is_unique = value.is_unique();
    vmcow::ValueImage& image = *value;
    to.is_last_use = is_last_use && is_unique;
    if (send_block(call, value, to)) return;
    if (is_unique && to.mode == ImageMode::apply && is_last_use) {
        // An empty image has no file that could be mapped.
        if (std::optional<vmcow::Arena> arena = image.extent_bytes() > 0 ? image.take_own_arena() : std::nullopt) {
            if (to.grows) ArenaAccess::make_room(*arena, kMovedRoom);
            to.mode = ImageMode::moved;
            to.moved = std::move(arena);
            return;
        }
    } else if (is_unique && to.mode != ImageMode::apply && call.is_synchronous) {
        to.borrowed_block = image.borrow_block();
        if (to.borrowed_block) return;
        std::unique_lock<std::recursive_mutex> lock;
        const vmcow::Arena* const arena = image.arena(lock);
        // What a function process has changed of its caller's arena is not in the file.
        if (arena != nullptr && arena->is_own() && ArenaAccess::mapped_bytes(*arena) > 0) {
            to.borrowed = arena;
            call.locks.push_back(std::move(lock));
            return;
        }
    }
    to.snapshot.emplace(image.snapshot());
}

void open_borrowed(ErasedCall& call) {
    call.locks.clear();
    for (const ImageArgument& image : call.images) {
        if (image.borrowed != nullptr) static_cast<void>(ArenaAccess::read_only_fd(*image.borrowed));
    }
}

void ErasedCall::begin(const CallOptions& how) {
    asked_ns = now_ns();
    options = how;
}

}  // namespace procrun::detail
