#include "procrun/worker_images.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "vmcow/fork_lock.hpp"
#include "vmcow/layers.hpp"
#include "vmcow/read_only_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/memory.hpp"

namespace procrun::detail {
namespace {

using vmcow::FileState;
using vmcow::PageCount;
using vmcow::ReadOnlyImage;
using vmcow::Slot;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

/// The caller's addresses if they are free here, else any.
Slot slot_at(std::uint64_t address, std::size_t bytes) {
    std::optional<Slot> slot = Slot::claim(reinterpret_cast<const void*>(address), bytes);
    return slot ? std::move(*slot) : Slot::reserve(bytes);
}

/// Of the first and the last page of a part's base, what is not the part's goes: the page becomes memory of its own.
void hide_the_rest(const ReadOnlyImage& base, std::size_t skip, std::uint64_t extent_bytes) {
    std::array<std::byte, vmcow::kPageBytes> kept;
    const auto hide = [&](vmcow::PageIndex page) {
        const std::uint64_t at = page.byte_offset();
        const std::size_t from = page.value == 0 ? skip : 0;
        const std::size_t to = std::min<std::uint64_t>(extent_bytes - at, vmcow::kPageBytes);
        if (from == 0 && to == vmcow::kPageBytes) return;
        auto* const mapped = const_cast<std::byte*>(base.data() + at);
        std::memcpy(kept.data(), mapped, kept.size());
        int error = vmcow::sys::map_memory_at(mapped, vmcow::kPageBytes);
        if (error == 0) {
            std::memcpy(mapped + from, kept.data() + from, to - from);
            error = vmcow::sys::make_read_only(mapped, vmcow::kPageBytes);
        }
        if (error == 0) error = vmcow::sys::keep_out_of_children(mapped, vmcow::kPageBytes);
        if (error != 0) throw_error(error, "map a part of an image");
    };
    const vmcow::PageIndex last = vmcow::page_at(extent_bytes - 1);
    hide({0});
    if (last.value != 0 && last.byte_offset() < base.bytes()) hide(last);
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

MovedImage::MovedImage(int fd, Slot slot, std::size_t bytes) : slot_(std::move(slot)), bytes_(bytes) {
    // Kept out of what the function forks: only this process may write, and only until it replies (I3).
    const std::scoped_lock lock(vmcow::fork_lock());
    int error = vmcow::sys::map_file_at(slot_.address(), bytes, vmcow::sys::MapMode::shared_write, fd, 0);
    if (error == 0) error = vmcow::sys::keep_out_of_children(slot_.address(), bytes);
    if (error != 0) throw_error(error, "map a moved image");
}

std::shared_ptr<const vmcow::Delta> WorkerImages::learn_delta(Entry& entry, const ImageLesson::DeltaLesson& lesson,
                                                              pipes::Message& message, std::size_t& next_fd,
                                                              PageCount image_pages) {
    using Kind = ImageLesson::DeltaKind;
    if (lesson.kind == Kind::kept) {
        if (lesson.index >= entry.deltas.size()) throw_error(EBADMSG, "learn an image: no such delta");
        return entry.deltas[lesson.index];
    }
    if (lesson.kind == Kind::file) {
        return vmcow::Delta::adopt(take_fd(message, next_fd), {lesson.pages}, image_pages);
    }
    if (lesson.kind == Kind::new_chunk) {
        UniqueFd fd = take_fd(message, next_fd);
        Slot slot = Slot::reserve(vmcow::sys::file_bytes(fd.get()));
        entry.chunks.insert_or_assign(lesson.chunk_id, std::make_shared<const ReadOnlyImage>(
                                                           std::move(fd), std::move(slot), "chunk", FileState::lent));
    }
    const auto chunk = entry.chunks.find(lesson.chunk_id);
    if (chunk == entry.chunks.end()) throw_error(EBADMSG, "learn an image: no such chunk");
    return vmcow::Delta::lying_in(chunk->second, lesson.file_offset, {lesson.pages}, image_pages);
}

void WorkerImages::learn(pipes::Message message) {
    ImageLesson lesson;
    if (message.bytes.size() != sizeof(lesson)) throw_error(EBADMSG, "learn an image");
    std::memcpy(&lesson, message.bytes.data(), sizeof(lesson));
    if (lesson.entry >= entries_.size()) throw_error(EBADMSG, "learn an image: no such entry");
    Entry& entry = entries_[lesson.entry];
    if (!lesson.keep_base) entry = Entry{};
    if (lesson.forget) return;
    std::size_t next_fd = 0;
    if (lesson.moved) {
        const UniqueFd fd = take_fd(message, next_fd);
        entry.moved =
            std::make_unique<MovedImage>(fd.get(), slot_at(lesson.address, lesson.mapped_bytes), lesson.mapped_bytes);
        return;
    }
    std::shared_ptr<const ReadOnlyImage> base;
    if (lesson.keep_base) {
        if (!entry.snapshot) throw_error(EBADMSG, "learn an image: no such base");
        base = entry.snapshot->layers()->shared_base();
    } else {
        UniqueFd fd = take_fd(message, next_fd);
        std::string name(lesson.name.data(), ::strnlen(lesson.name.data(), lesson.name.size()));
        const FileState sealed = lesson.on_disk ? FileState::on_disk : FileState::immutable;
        const FileState state = lesson.lent ? FileState::lent : sealed;
        base = std::make_shared<const ReadOnlyImage>(std::move(fd), Slot::reserve(lesson.mapped_bytes), std::move(name),
                                                     state, vmcow::FilePart{lesson.base_offset, lesson.base_bytes});
        entry.address = lesson.address;
        if (lesson.is_part) hide_the_rest(*base, lesson.skip, lesson.extent_bytes);
    }
    std::vector<std::shared_ptr<const vmcow::Delta>> deltas;
    for (std::size_t i = 0; i < std::min<std::size_t>(lesson.delta_count, kMaxDeltasSent); ++i) {
        deltas.push_back(learn_delta(entry, lesson.deltas[i], message, next_fd, vmcow::pages_of(lesson.mapped_bytes)));
    }
    entry.snapshot.emplace(std::make_shared<const vmcow::Layers>(std::move(base), lesson.extent_bytes, deltas));
    entry.deltas = std::move(deltas);
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
    return prepare_view(entry, request, reply);
}

WorkerImages::Prepared WorkerImages::prepare_view(Entry& entry, const ImageRequest& request, ImageReply& reply) {
    entry.used_at = ++clock_;
    if (!entry.view) {
        const std::size_t bytes = entry.snapshot->layers()->mapped_bytes();
        // What grows works at any address.
        Slot slot = request.grows ? Slot::reserve_up_to(bytes + kGrowthRoom, bytes) : slot_at(entry.address, bytes);
        entry.view = std::make_unique<vmcow::ResidentView>(*entry.snapshot, std::move(slot), costs_, budget_);
        reply.path = CallPath::mapped;
        reply.reason = PathReason::first_use;
    } else if (request.result_of_last && !entry.view->changed().empty()) {
        entry.view->accept(*entry.snapshot);
        entry.results_follow = true;
        const vmcow::Preparation how = entry.view->prepare(*entry.snapshot, request.lent);
        reply.path = path_of(how);
        reply.reason = how == vmcow::Preparation::resident ? PathReason::same_as_left : reason_of(how);
    } else {
        entry.results_follow = request.result_of_last;
        const vmcow::Preparation how = entry.view->prepare(*entry.snapshot, request.lent);
        reply.path = path_of(how);
        reply.reason = reason_of(how);
    }
    reply.refreshed_pages = entry.view->take_refreshed().value;
    return {entry.view->bytes().data(), request.extent_bytes, entry.view.get(), 0};
}

vmcow::ResidentView* WorkerImages::view_of(const ImageRequest& request) noexcept {
    const bool has_view = request.mode == ImageMode::by_value || request.mode == ImageMode::apply;
    return has_view ? entries_[request.entry].view.get() : nullptr;
}

vmcow::PageCount WorkerImages::resident() const noexcept {
    vmcow::PageCount sum;
    for (const Entry& entry : entries_) {
        if (entry.view) sum += entry.view->resident();
    }
    return sum;
}

void WorkerImages::keep_to_budget(const Request& request) noexcept {
    const auto is_used = [&](const Entry& entry) {
        for (std::size_t i = 0; i < request.image_count; ++i) {
            if (&entries_[request.images[i].entry] == &entry) return true;
        }
        return false;
    };
    while (resident() > budget_) {
        Entry* oldest = nullptr;
        for (Entry& entry : entries_) {
            const bool may_go = entry.view && entry.view->resident() > PageCount{} && !is_used(entry);
            if (may_go && (oldest == nullptr || entry.used_at < oldest->used_at)) oldest = &entry;
        }
        if (oldest == nullptr) return;  // a view keeps to the budget by itself
        oldest->view.reset();
    }
}

bool WorkerImages::restore_now(const ImageRequest& request) const noexcept {
    if (request.lent) return false;  // its owner may write to it before the next call
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
    return std::all_of(entries_.begin(), entries_.end(), [](const Entry& entry) {
        if (entry.moved && !vmcow::sys::is_mapped(entry.moved->data(), entry.moved->bytes())) return false;
        return !entry.view || vmcow::sys::is_mapped(entry.view->bytes().data(), entry.view->mapped_bytes());
    });
}

void WorkerImages::let_go() noexcept {
    for (Entry& entry : entries_) entry.moved.reset();
}

}  // namespace procrun::detail
