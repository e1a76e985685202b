#include "procrun/worker/worker_images.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "vmcow/image/layers.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"

namespace procrun::detail {
namespace {

using vmcow::FileState;
using vmcow::PageCount;
using vmcow::ReadOnlyImage;
using vmcow::Slot;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

/// How many private views are checked whenever the worker goes to sleep.
constexpr std::uint64_t kUsedLately = 16;
/// The most views: each takes a mapping, and a process has 65 530 (vm.max_map_count).
constexpr std::size_t kMostViews = 8192;

/// A slot at the caller's addresses if they are free in this process, else anywhere.
Slot slot_at(std::uint64_t address, std::size_t bytes) {
    std::optional<Slot> slot = Slot::claim(reinterpret_cast<const void*>(address), bytes);
    return slot ? std::move(*slot) : Slot::reserve(bytes);
}

UniqueFd take_fd(pipes::Message& message, std::size_t& next) {
    if (next >= message.fds.size()) throw_error(EBADMSG, "learn an image: a descriptor is missing");
    return std::move(message.fds[next++]);
}

CallPath path_of(vmcow::Preparation how) noexcept {
    switch (how) {
        case vmcow::Preparation::clean:
            return CallPath::mapped;
        case vmcow::Preparation::resident:
            return CallPath::resident;
        case vmcow::Preparation::too_dear:
        case vmcow::Preparation::too_many:
        case vmcow::Preparation::unrelated:
            return CallPath::remapped;
    }
    return CallPath::mapped;
}

PathReason reason_of(vmcow::Preparation how) noexcept {
    switch (how) {
        case vmcow::Preparation::clean:
            return PathReason::nothing_copied_yet;
        case vmcow::Preparation::resident:
            return PathReason::refreshed;
        case vmcow::Preparation::too_dear:
            return PathReason::refreshing_too_dear;
        case vmcow::Preparation::too_many:
            return PathReason::over_budget;
        case vmcow::Preparation::unrelated:
            return PathReason::other_snapshot;
    }
    return PathReason::first_use;
}

}  // namespace

MovedImage::MovedImage(UniqueFd fd, Slot slot, std::size_t bytes)
    : WritableImage(std::move(fd), std::move(slot), "moved") {
    check(map_for_writing(0, bytes), "map");
    capacity_ = bytes;
    // Only the mapping stays writable: the image's owner finds mappings in /proc/PID/maps, but no descriptors (I3).
    fd_ = vmcow::sys::duplicate(read_only_fd());
}

std::shared_ptr<const vmcow::Delta> WorkerImages::take_delta(const ImageUpdate::DeltaUpdate& update,
                                                             pipes::Message& message, std::size_t& next_fd,
                                                             PageCount image_pages) {
    using Kind = ImageUpdate::DeltaKind;
    if (update.kind == Kind::file) {
        return vmcow::Delta::adopt(take_fd(message, next_fd), {update.pages}, image_pages);
    }
    Chunk& lies_in = chunk(update.chunk_id, update.kind == Kind::new_chunk, message, next_fd);
    if (!lies_in.whole) {
        lies_in.whole =
            std::make_shared<const ReadOnlyImage>(lies_in.fd, Slot::reserve(vmcow::sys::file_bytes(lies_in.fd->get())),
                                                  "chunk", FileState::borrowed, vmcow::FilePart{});
    }
    return vmcow::Delta::lying_in(lies_in.whole, update.file_offset, {update.pages}, {update.first_page}, image_pages);
}

WorkerImages::Chunk& WorkerImages::chunk(std::uint64_t id, bool is_new, pipes::Message& message, std::size_t& next_fd) {
    if (is_new) {
        chunks_.insert_or_assign(id, Chunk{std::make_shared<const UniqueFd>(take_fd(message, next_fd)), nullptr});
    }
    const auto found = chunks_.find(id);
    if (found == chunks_.end()) throw_error(EBADMSG, "learn an image: no such chunk");
    return found->second;
}

std::shared_ptr<const ReadOnlyImage> WorkerImages::base_of(const ImageUpdate& update, pipes::Message& message,
                                                           std::size_t& next_fd) {
    std::string name(update.name.data(), ::strnlen(update.name.data(), update.name.size()));
    const vmcow::ShownBytes shown =
        update.is_part ? vmcow::ShownBytes{update.skip, update.extent_bytes} : vmcow::ShownBytes{};
    const vmcow::FilePart part{update.base_offset, update.base_bytes};
    Slot slot = Slot::reserve(update.mapped_bytes);
    if (update.stored) {
        const FileState state = update.borrowed ? FileState::borrowed : FileState::stored;
        return std::make_shared<const ReadOnlyImage>(chunk(update.base_chunk, update.is_new_chunk, message, next_fd).fd,
                                                     std::move(slot), std::move(name), state, part, shown);
    }
    const FileState sealed = update.on_disk ? FileState::on_disk : FileState::immutable;
    return std::make_shared<const ReadOnlyImage>(take_fd(message, next_fd), std::move(slot), std::move(name),
                                                 update.borrowed ? FileState::borrowed : sealed, part, shown);
}

void WorkerImages::drop_view(Entry& entry) noexcept {
    if (!entry.view) return;
    resident_ = resident_ - std::exchange(entry.counted, PageCount{});
    views_.erase(entry.use);
    entry.view.reset();
}

void WorkerImages::clear(std::uint16_t at) noexcept {
    drop_view(entries_[at]);
    std::erase(moved_, at);
    entries_[at] = Entry{};
}

void WorkerImages::apply_update(pipes::Message message) {
    ImageUpdate update;
    if (message.bytes.size() != sizeof(update)) throw_error(EBADMSG, "learn an image");
    std::memcpy(&update, message.bytes.data(), sizeof(update));
    if (update.kind == ImageUpdate::Kind::chunk_ended) {
        chunks_.erase(update.base_chunk);
        return;
    }
    if (update.entry >= kImageEntries) throw_error(EBADMSG, "learn an image: no such entry");
    while (update.entry >= entries_.size()) entries_.emplace_back();
    if (!update.keep_base) clear(update.entry);
    if (update.kind == ImageUpdate::Kind::entry_ended) return;
    Entry& entry = entries_[update.entry];
    std::size_t next_fd = 0;
    if (update.moved) {
        entry.moved = std::make_unique<MovedImage>(take_fd(message, next_fd),
                                                   slot_at(update.address, update.mapped_bytes), update.mapped_bytes);
        moved_.push_back(update.entry);
        return;
    }
    if (update.keep_base && !entry.snapshot) throw_error(EBADMSG, "learn an image: no such base");
    std::shared_ptr<const ReadOnlyImage> base =
        update.keep_base ? entry.snapshot->layers()->shared_base() : base_of(update, message, next_fd);
    if (!update.keep_base) entry.address = update.address;
    std::shared_ptr<const vmcow::Layers> layers =
        update.relative && update.keep_base
            ? entry.snapshot->layers()->with_extent(update.extent_bytes)
            : std::make_shared<const vmcow::Layers>(std::move(base), update.extent_bytes);
    for (std::size_t i = 0; i < std::min<std::size_t>(update.delta_count, kMaxDeltasSent); ++i) {
        const auto delta = take_delta(update.deltas[i], message, next_fd, vmcow::pages_of(update.mapped_bytes));
        layers = layers->with_delta(delta, update.extent_bytes);
    }
    entry.snapshot.emplace(std::move(layers));
}

WorkerImages::Prepared WorkerImages::prepare(const ImageRequest& request, ImageReply& reply) {
    if (request.entry >= entries_.size()) throw_error(EBADMSG, "find an image");
    Entry& entry = entries_[request.entry];
    if (request.mode == ImageMode::moved) {
        if (!entry.moved) throw_error(EBADMSG, "find a moved image");
        reply.path = CallPath::moved;
        reply.reason = PathReason::last_use;
        return {entry.moved->data(), request.extent_bytes, nullptr, entry.moved->bytes()};
    }
    if (!entry.snapshot) throw_error(EBADMSG, "find an image");
    if (request.mode == ImageMode::read_only) {
        reply.path = CallPath::alias;
        reply.reason = PathReason::read_only_parameter;
        return {const_cast<std::byte*>(entry.snapshot->bytes().data()), request.extent_bytes, nullptr, 0};
    }
    return prepare_view(request.entry, request, reply);
}

WorkerImages::Prepared WorkerImages::prepare_view(std::uint16_t at, const ImageRequest& request, ImageReply& reply) {
    Entry& entry = entries_[at];
    // Views that were used lately have been checked since (are_mapped).
    const bool is_old = entry.used_at + kUsedLately < ++clock_;
    entry.used_at = clock_;
    if (entry.view && is_old && !vmcow::sys::is_mapped(entry.view->bytes().data(), entry.view->mapped_bytes())) {
        drop_view(entry);
    }
    if (entry.view) {
        views_.splice(views_.end(), views_, entry.use);
    }
    if (!entry.view) {
        const std::size_t bytes = entry.snapshot->layers()->mapped_bytes();
        // An image that can grow holds a heap, which works at any address.
        Slot slot = request.grows ? Slot::reserve(bytes, kGrowthRoom) : slot_at(entry.address, bytes);
        entry.view = std::make_unique<vmcow::ResidentView>(*entry.snapshot, std::move(slot), costs_, budget_);
        entry.use = views_.insert(views_.end(), at);
        reply.path = CallPath::mapped;
        reply.reason = PathReason::first_use;
    } else if (request.result_of_last && !entry.view->changed().empty()) {
        entry.view->accept(*entry.snapshot);
        entry.results_follow = true;
        const vmcow::Preparation how = entry.view->prepare(*entry.snapshot, request.borrowed);
        reply.path = path_of(how);
        reply.reason = how == vmcow::Preparation::resident ? PathReason::same_as_left : reason_of(how);
    } else {
        entry.results_follow = request.result_of_last;
        const vmcow::Preparation how = entry.view->prepare(*entry.snapshot, request.borrowed);
        reply.path = path_of(how);
        reply.reason = reason_of(how);
    }
    reply.refreshed_pages = entry.view->take_refreshed().value;
    return {entry.view->bytes().data(), request.extent_bytes, entry.view.get(), 0};
}

vmcow::ResidentView* WorkerImages::view_of(const ImageRequest& request) noexcept {
    // Where the message about an image could not be received, the worker does not know its entry.
    const bool has_view = !request.is_sent && request.entry < entries_.size() &&
                          (request.mode == ImageMode::by_value || request.mode == ImageMode::apply);
    return has_view ? entries_[request.entry].view.get() : nullptr;
}

void WorkerImages::recount(Entry& entry) noexcept {
    const PageCount now = entry.view ? entry.view->resident() : PageCount{};
    resident_ = resident_ - std::exchange(entry.counted, now) + now;
}

PageCount WorkerImages::resident(const Request& request) noexcept {
    for (std::size_t i = 0; i < request.image_count; ++i) {
        if (view_of(request.images[i]) != nullptr) recount(entries_[request.images[i].entry]);
    }
    return resident_;
}

void WorkerImages::keep_to_budget(const Request& request) noexcept {
    static_cast<void>(resident(request));
    const auto is_used = [&](std::uint16_t at) {
        return std::any_of(request.images.begin(), request.images.begin() + request.image_count,
                           [&](const ImageRequest& image) { return !image.is_sent && image.entry == at; });
    };
    for (auto view = views_.begin(); view != views_.end() && (resident_ > budget_ || views_.size() > kMostViews);) {
        Entry& entry = entries_[*view];
        // A view without private pages takes next to nothing. A single view keeps to the budget by itself.
        const bool may_go = !is_used(*view) && (entry.counted > PageCount{} || views_.size() > kMostViews);
        ++view;
        if (may_go) drop_view(entry);
    }
}

bool WorkerImages::restore_now(const ImageRequest& request) const noexcept {
    if (request.borrowed) return false;  // the owner may write to the image before the next call
    return request.mode == ImageMode::by_value || !entries_[request.entry].results_follow;
}

bool WorkerImages::are_mapped(const Request& request) noexcept {
    for (std::size_t i = 0; i < request.image_count; ++i) {
        vmcow::ResidentView* const view = view_of(request.images[i]);
        if (view != nullptr && !vmcow::sys::is_mapped(view->bytes().data(), view->mapped_bytes())) return false;
    }
    return true;
}

bool WorkerImages::are_mapped() const noexcept {
    const bool moved = std::all_of(moved_.begin(), moved_.end(), [&](std::uint16_t at) {
        return vmcow::sys::is_mapped(entries_[at].moved->data(), entries_[at].moved->bytes());
    });
    std::uint64_t looks = 0;
    return moved && std::all_of(views_.rbegin(), views_.rend(), [&](std::uint16_t at) {
               if (++looks > kUsedLately) return true;
               vmcow::ResidentView& view = *entries_[at].view;
               return vmcow::sys::is_mapped(view.bytes().data(), view.mapped_bytes());
           });
}

void WorkerImages::unmap_moved() noexcept {
    for (const std::uint16_t at : std::exchange(moved_, {})) entries_[at].moved.reset();
}

}  // namespace procrun::detail
