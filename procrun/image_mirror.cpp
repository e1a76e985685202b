#include "procrun/image_mirror.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "vmcow/delta.hpp"
#include "vmcow/layers.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mappings.hpp"

namespace procrun::detail {

std::uint64_t ImageArgument::extent_bytes() const noexcept {
    if (snapshot) return snapshot->extent_bytes();
    return moved ? moved->extent_bytes() : lent->extent_bytes();
}

std::uint64_t ImageArgument::mapped_bytes() const noexcept {
    if (snapshot) return snapshot->layers()->mapped_bytes();
    return moved ? moved->mapped_bytes() : lent->mapped_bytes();
}

const std::byte* ImageArgument::address() const noexcept {
    if (snapshot) return snapshot->layers()->base().data();
    return moved ? moved->address() : lent->address();
}

ImageMirror::Kind ImageMirror::kind_of(const ImageArgument& argument) noexcept {
    if (argument.snapshot) return Kind::snapshot;
    return argument.moved ? Kind::moved : Kind::lent;
}

std::uint64_t ImageMirror::key_of(const ImageArgument& argument) noexcept {
    if (argument.snapshot) return argument.snapshot->layers()->base().id();
    return argument.moved ? argument.moved->image_id() : argument.lent->image_id();
}

bool ImageMirror::knows(const ImageArgument& argument) const noexcept {
    const Kind kind = kind_of(argument);
    const std::uint64_t key = key_of(argument);
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const Entry& entry) { return entry.kind == kind && entry.key == key; });
}

/// The entry that has the image already, or has its base; else a free one; else the one that was used longest ago.
std::uint8_t ImageMirror::place_for(const ImageArgument& argument, std::uint32_t used, bool& found) {
    const Kind kind = kind_of(argument);
    const std::uint64_t key = key_of(argument);
    std::size_t best = kImageEntries;
    // Entries are filled from the first one on, so that the free ones behind the last need not be looked at.
    for (std::size_t i = 0; i < std::min(filled_ + 1, kImageEntries); ++i) {
        const Entry& entry = entries_[i];
        // Nobody writes to an alias, so one entry serves any number of them; a private view serves one argument.
        const bool shared = argument.mode == ImageMode::read_only && entry.layers_id == argument_layers(argument);
        const bool taken = (used >> i & 1U) != 0 && !shared;
        if (taken) continue;
        if (entry.kind == kind && entry.key == key) {
            found = true;
            return static_cast<std::uint8_t>(i);
        }
        const bool better =
            best == kImageEntries ||
            (entries_[best].kind != Kind::none && (entry.kind == Kind::none || entry.used_at < entries_[best].used_at));
        if (better && (used >> i & 1U) == 0) best = i;
    }
    found = false;
    filled_ = std::max(filled_, best + 1);
    return static_cast<std::uint8_t>(best);
}

ImageRequest ImageMirror::find(const ImageArgument& argument, std::uint32_t used, pipes::MessageSocket& socket,
                               std::uint32_t& lessons) {
    bool found = false;
    const std::uint8_t at = place_for(argument, used, found);
    Entry& entry = entries_[at];
    entry.used_at = ++clock_;
    ImageRequest request;
    request.entry = at;
    request.mode = argument.mode;
    request.extent_bytes = argument.extent_bytes();
    request.lent = argument.lent != nullptr;
    request.grows = argument.grows;
    request.skip = argument.part ? static_cast<std::uint16_t>(argument.part->skip()) : std::uint16_t{0};
    const std::uint64_t layers = argument_layers(argument);
    const std::uint64_t last_result = entry.result_id;
    if (argument.mode != ImageMode::read_only) entry.result_id = 0;  // its private view is another one after this call
    if (found && entry.layers_id == layers) return request;
    request.result_of_last = found && last_result != 0 && last_result == layers;
    ++lessons;
    teach(at, argument, found, socket);
    return request;
}

void ImageMirror::teach_deltas(Entry& entry, const vmcow::Layers& layers, ImageLesson& lesson, std::vector<int>& fds,
                               std::vector<std::shared_ptr<const vmcow::Delta>>& sent) {
    using Kind = ImageLesson::DeltaKind;
    std::vector<std::uint64_t> deltas;
    for (const auto& delta : layers.deltas()) {
        ImageLesson::DeltaLesson& said = lesson.deltas[lesson.delta_count++];
        said.pages = delta->pages().size();
        const auto kept = std::find(entry.deltas.begin(), entry.deltas.end(), delta->id());
        const vmcow::StoredPages* const stored = delta->stored();
        if (kept != entry.deltas.end()) {
            said.kind = Kind::kept;
            said.index = static_cast<std::uint8_t>(kept - entry.deltas.begin());
        } else if (stored != nullptr) {
            const bool is_new = entry.chunks.insert(stored->chunk_id()).second;
            said.kind = is_new ? Kind::new_chunk : Kind::chunk;
            said.chunk_id = stored->chunk_id();
            said.file_offset = stored->file_offset();
            if (is_new) fds.push_back(stored->fd());
        } else {
            said.kind = Kind::file;
            sent.push_back(vmcow::Delta::in_own_file(delta));  // one that was loaded lies in its file on disk
            fds.push_back(sent.back()->fd());
        }
        deltas.push_back(delta->id());
    }
    entry.deltas = std::move(deltas);
}

void ImageMirror::teach(std::uint8_t at, const ImageArgument& argument, bool keep_base, pipes::MessageSocket& socket) {
    Entry& entry = entries_[at];
    ImageLesson lesson;
    std::vector<int> fds;
    std::vector<std::shared_ptr<const vmcow::Delta>> sent;  // until their descriptors are
    lesson.entry = at;
    lesson.keep_base = keep_base;
    lesson.address = reinterpret_cast<std::uintptr_t>(argument.address());
    lesson.mapped_bytes = argument.mapped_bytes();
    lesson.extent_bytes = argument.extent_bytes();
    if (!keep_base) {
        const std::uint64_t used_at = entry.used_at;
        entry = Entry{};
        entry.kind = kind_of(argument);
        entry.key = key_of(argument);
        entry.used_at = used_at;
    }
    if (argument.snapshot) {
        const vmcow::Layers& layers = *argument.snapshot->layers();
        const std::string& name = argument.snapshot->name();
        std::memcpy(lesson.name.data(), name.data(), std::min(name.size(), lesson.name.size()));
        lesson.base_offset = layers.base().file_offset();
        lesson.base_bytes = layers.base().bytes();
        lesson.on_disk = layers.base().state() == vmcow::FileState::on_disk;
        lesson.is_part = argument.part.has_value();
        lesson.skip = argument.part ? argument.part->skip() : 0;
        if (!keep_base) fds.push_back(layers.base().fd());
        entry.alive = layers.shared_base();
        teach_deltas(entry, layers, lesson, fds, sent);
    } else if (argument.moved) {
        lesson.moved = true;
        lesson.keep_base = false;
        fds.push_back(argument.moved->fd());
        entry.alive = argument.moved->liveness();
        entry.inode = vmcow::sys::inode_of(argument.moved->fd());
    } else {
        lesson.lent = true;
        fds.push_back(argument.lent->read_only_fd());
        entry.alive = argument.lent->liveness();
    }
    entry.layers_id = argument_layers(argument);
    socket.send(std::as_bytes(std::span(&lesson, 1)), fds);
}

std::uint64_t ImageMirror::argument_layers(const ImageArgument& argument) noexcept {
    return argument.snapshot ? argument.snapshot->layers()->id() : 1;
}

void ImageMirror::note_result(std::uint8_t entry, const vmcow::Snapshot& result) {
    entries_[entry].result_id = result.layers()->id();
}

void ImageMirror::forget_ended(pipes::MessageSocket& socket, std::uint32_t& lessons) {
    for (std::size_t i = 0; i < filled_; ++i) {
        Entry& entry = entries_[i];
        if (entry.kind == Kind::none || !entry.alive.expired()) continue;
        entry = Entry{};
        ImageLesson lesson;
        lesson.entry = static_cast<std::uint8_t>(i);
        lesson.forget = true;
        ++lessons;
        socket.send(std::as_bytes(std::span(&lesson, 1)), {});
    }
}

bool ImageMirror::has_moved_but(std::span<const ImageArgument> arguments) const noexcept {
    const auto filled = std::span(entries_).first(filled_);
    return std::any_of(filled.begin(), filled.end(), [&](const Entry& entry) {
        if (entry.kind != Kind::moved) return false;
        return std::none_of(arguments.begin(), arguments.end(), [&](const ImageArgument& argument) {
            return kind_of(argument) == Kind::moved && key_of(argument) == entry.key;
        });
    });
}

std::vector<std::uint64_t> ImageMirror::forget_moved() {
    std::vector<std::uint64_t> inodes;
    for (Entry& entry : entries_) {
        if (entry.kind != Kind::moved) continue;
        inodes.push_back(entry.inode);
        entry = Entry{};
    }
    return inodes;
}

}  // namespace procrun::detail
