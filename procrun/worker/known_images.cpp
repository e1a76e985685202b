#include "procrun/worker/known_images.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "vmcow/image/arena_access.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"

namespace procrun::detail {
namespace {

using vmcow::ArenaAccess;

/// How many entries each call checks, in turn, for images that have ended.
constexpr std::size_t kLooksACall = 16;

bool is_used(std::span<const std::uint16_t> used, std::uint16_t at) noexcept {
    return std::find(used.begin(), used.end(), at) != used.end();
}

/// A quarter of the descriptors that a process of this user may have: the function has the others.
std::size_t most_files() noexcept {
    constexpr std::size_t kLeast = 64;
    constexpr std::size_t kMost = 16384;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kLeast;
    return std::clamp<std::size_t>(limit.rlim_cur / 4, kLeast, kMost);
}

}  // namespace

KnownImages::KnownImages(std::size_t budget) noexcept : budget_(budget), most_files_(most_files()) {}

KnownImages::Key KnownImages::key_of(const ImageArgument& argument) noexcept {
    if (argument.is_sent()) return {};
    if (argument.snapshot) return {Kind::snapshot, argument.snapshot->layers()->base().id()};
    if (argument.borrowed_block) return {Kind::borrowed_block, argument.borrowed_block->id};
    if (argument.moved) return {Kind::moved, ArenaAccess::image_id(*argument.moved)};
    return {Kind::borrowed, ArenaAccess::image_id(*argument.borrowed)};
}

std::uint64_t KnownImages::layers_of(const ImageArgument& argument) noexcept {
    return argument.snapshot ? argument.snapshot->layers()->id() : 1;
}

/// Whether an image takes a descriptor of its own in the worker. Pages of the store share that of their chunk.
bool KnownImages::has_file(const ImageArgument& argument) noexcept {
    if (argument.borrowed_block) return false;
    return !argument.snapshot || argument.snapshot->layers()->base().stored() == nullptr;
}

bool KnownImages::knows(const ImageArgument& argument) const noexcept {
    return !argument.is_sent() && places_.contains(key_of(argument));
}

void KnownImages::note_use(std::uint16_t at) {
    UseOrder& order = entries_[at].has_file ? with_files_ : without_files_;
    order.splice(order.end(), order, entries_[at].use);
    entries_[at].used_at = ++clock_;
}

void KnownImages::clear(std::uint16_t at) {
    Entry& entry = entries_[at];
    if (entry.key.kind == Kind::none) return;
    const auto [begin, end] = places_.equal_range(entry.key);
    const auto place = std::find_if(begin, end, [&](const auto& each) { return each.second == at; });
    if (place != end) places_.erase(place);
    (entry.has_file ? with_files_ : without_files_).erase(entry.use);
    std::erase(moved_, at);
    entry = Entry{};
}

/// A free entry or a new one; where there are too many, the entry of the image that was used longest ago.
std::uint16_t KnownImages::free_place(bool has_file, std::span<const std::uint16_t> used) {
    if (has_file && with_files_.size() >= most_files_) return forget_oldest(with_files_, used);
    if (!free_.empty()) {
        const std::uint16_t at = free_.back();
        free_.pop_back();
        return at;
    }
    if (entries_.size() >= kImageEntries) return forget_oldest(longest_unused(), used);
    entries_.emplace_back();
    return static_cast<std::uint16_t>(entries_.size() - 1);
}

/// Empties the entry whose image was used longest ago. The worker is told by the image that takes its place.
std::uint16_t KnownImages::forget_oldest(const UseOrder& order, std::span<const std::uint16_t> used) {
    const auto oldest = std::find_if(order.begin(), order.end(), [&](auto at) { return !is_used(used, at); });
    VMCOW_ASSERT(oldest != order.end() && "a call has fewer images than a worker may know");
    const std::uint16_t at = *oldest;
    clear(at);
    return at;
}

/// The order whose first image was used longest ago.
const KnownImages::UseOrder& KnownImages::longest_unused() const noexcept {
    if (with_files_.empty()) return without_files_;
    if (without_files_.empty()) return with_files_;
    const bool file_is_older = entries_[with_files_.front()].used_at < entries_[without_files_.front()].used_at;
    return file_is_older ? with_files_ : without_files_;
}

bool KnownImages::is_over_budget() const noexcept {
    const std::size_t known = with_files_.size() + without_files_.size();
    return known > kMaxImages && known * kBytesAnImage > budget_;
}

/// The entry that has the image, or another snapshot of its base (`found`); otherwise an empty entry.
std::uint16_t KnownImages::place_for(const ImageArgument& argument, std::span<const std::uint16_t> used, bool& found) {
    const auto [begin, end] = places_.equal_range(key_of(argument));
    for (auto place = begin; place != end; ++place) {
        const std::uint16_t at = place->second;
        // An alias is read-only, so one entry serves any number of aliases. A private view serves one argument.
        const bool shared = argument.mode == ImageMode::read_only && entries_[at].layers_id == layers_of(argument);
        if (is_used(used, at) && !shared) continue;
        found = true;
        note_use(at);
        return at;
    }
    found = false;
    const bool with_file = has_file(argument);
    const std::uint16_t at = free_place(with_file, used);
    Entry& entry = entries_[at];
    entry.key = key_of(argument);
    entry.has_file = with_file;
    entry.used_at = ++clock_;
    UseOrder& order = with_file ? with_files_ : without_files_;
    entry.use = order.insert(order.end(), at);
    places_.emplace(entry.key, at);
    if (entry.key.kind == Kind::moved) moved_.push_back(at);
    return at;
}

ImageRequest KnownImages::find(const ImageArgument& argument, std::span<const std::uint16_t> used,
                               pipes::MessageSocket& socket, std::uint32_t& updates) {
    VMCOW_ASSERT(!argument.is_sent() && "a value that is sent has no entry");
    bool found = false;
    const std::uint16_t at = place_for(argument, used, found);
    Entry& entry = entries_[at];
    ImageRequest request;
    request.entry = at;
    request.mode = argument.mode;
    request.extent_bytes = argument.extent_bytes();
    request.borrowed = argument.may_change();
    request.grows = argument.grows;
    request.skip = argument.part ? static_cast<std::uint16_t>(argument.part->skip()) : std::uint16_t{0};
    const std::uint64_t layers = layers_of(argument);
    const std::uint64_t last_result = entry.result_id;
    if (argument.mode != ImageMode::read_only) entry.result_id = 0;  // this call changes the private view
    if (found && entry.layers_id == layers) return request;
    request.result_of_last = found && last_result != 0 && last_result == layers;
    ++updates;
    send_update(at, argument, found, socket);
    return request;
}

bool KnownImages::is_new_chunk(const vmcow::StoredPages& pages) {
    return chunks_.try_emplace(pages.chunk_id(), pages.chunk_liveness()).second;
}

/// Tells where a delta lies. `kept` keeps its descriptor open until the message is sent.
void KnownImages::add_delta(const std::shared_ptr<const vmcow::Delta>& delta, ImageUpdate& update,
                            std::vector<int>& fds, std::vector<std::shared_ptr<const vmcow::Delta>>& kept) {
    using DeltaKind = ImageUpdate::DeltaKind;
    ImageUpdate::DeltaUpdate& said = update.deltas[update.delta_count++];
    said.pages = delta->pages().size();
    said.first_page = delta->pages().front().value;
    if (const vmcow::StoredPages* const stored = delta->stored()) {
        const bool is_new = is_new_chunk(*stored);
        said.kind = is_new ? DeltaKind::new_chunk : DeltaKind::chunk;
        said.chunk_id = stored->chunk_id();
        said.file_offset = stored->file_offset();
        if (is_new) fds.push_back(stored->fd());
        return;
    }
    said.kind = DeltaKind::file;
    kept.push_back(vmcow::Delta::in_own_file(delta));  // a delta that was loaded lies in a file on disk
    fds.push_back(kept.back()->fd());
}

/// Tells what the version has beside the one that the worker knows. The whole version is told where that is shorter for
/// the worker, or for the store: many pages of the blocks that are kept for the worker may be in no version any more.
void KnownImages::add_version(Entry& entry, const vmcow::Layers& layers, ImageUpdate& update, std::vector<int>& fds,
                              std::vector<std::shared_ptr<const vmcow::Delta>>& kept) {
    constexpr std::uint64_t kSlack = 64;
    const bool is_shorter = layers.extent_bytes() < entry.extent_bytes;
    const bool is_wasteful = entry.held.value > 2 * layers.tree().count().value + kSlack;
    update.relative = update.keep_base && !is_shorter && !is_wasteful;
    std::vector<std::shared_ptr<const vmcow::Delta>> deltas;
    if (update.relative) {
        auto news = vmcow::delta_between(entry.shown, layers.tree(), [&](auto page) { return layers.page(page); });
        if (news) deltas.push_back(std::move(news));
    } else {
        deltas = layers.deltas();
        entry.sent = {};
        entry.held = {};
    }
    for (const auto& delta : deltas) {
        add_delta(delta, update, fds, kept);
        entry.sent = entry.sent.with(delta);
        entry.held += vmcow::PageCount{delta->pages().size()};
    }
    entry.shown = layers.tree();
    entry.extent_bytes = layers.extent_bytes();
}

/// Tells where the base of a new entry lies, and adds its descriptor if the worker lacks it.
void KnownImages::add_base(const ImageArgument& argument, ImageUpdate& update, std::vector<int>& fds) {
    const auto add_stored = [&](const vmcow::StoredPages& pages) {
        update.stored = true;
        update.base_chunk = pages.chunk_id();
        update.is_new_chunk = is_new_chunk(pages);
        if (update.is_new_chunk) fds.push_back(pages.fd());
    };
    if (argument.borrowed_block) {
        update.base_offset = argument.borrowed_block->file_offset;
        update.base_bytes = argument.borrowed_block->mapped_bytes;
        return add_stored(*argument.borrowed_block->pages);
    }
    if (argument.snapshot) {
        const vmcow::ReadOnlyImage& base = argument.snapshot->layers()->base();
        update.base_offset = base.file_offset();
        update.base_bytes = base.bytes();
        update.on_disk = base.state() == vmcow::FileState::on_disk;
        if (base.stored() != nullptr) return add_stored(*base.stored());
        return fds.push_back(base.fd());
    }
    fds.push_back(argument.moved ? argument.moved->fd() : ArenaAccess::read_only_fd(*argument.borrowed));
}

void KnownImages::send_update(std::uint16_t at, const ImageArgument& argument, bool keep_base,
                              pipes::MessageSocket& socket) {
    Entry& entry = entries_[at];
    ImageUpdate update;
    std::vector<int> fds;
    std::vector<std::shared_ptr<const vmcow::Delta>> kept;  // whose descriptors are open until the message is sent
    update.entry = at;
    update.keep_base = keep_base && !argument.moved;
    update.address = reinterpret_cast<std::uintptr_t>(argument.address());
    update.mapped_bytes = argument.mapped_bytes();
    update.extent_bytes = argument.extent_bytes();
    update.borrowed = argument.may_change();
    update.moved = argument.moved.has_value();
    if (!update.keep_base) add_base(argument, update, fds);
    if (argument.snapshot) {
        const vmcow::Layers& layers = *argument.snapshot->layers();
        const std::string& name = argument.snapshot->name();
        std::memcpy(update.name.data(), name.data(), std::min(name.size(), update.name.size()));
        update.is_part = argument.part.has_value();
        update.skip = argument.part ? argument.part->skip() : 0;
        entry.alive = layers.shared_base();
        add_version(entry, layers, update, fds, kept);
    } else if (argument.moved) {
        entry.alive = ArenaAccess::liveness(*argument.moved);
        entry.inode = vmcow::sys::inode_of(argument.moved->fd());
    } else {
        entry.alive =
            argument.borrowed_block ? argument.borrowed_block->alive : ArenaAccess::liveness(*argument.borrowed);
    }
    entry.layers_id = layers_of(argument);
    socket.send(std::as_bytes(std::span(&update, 1)), fds);
}

void KnownImages::note_result(std::uint16_t entry, const vmcow::Snapshot& result) {
    entries_[entry].result_id = result.layers()->id();
}

void KnownImages::end_entry(std::uint16_t at, pipes::MessageSocket& socket, std::uint32_t& updates) {
    clear(at);
    free_.push_back(at);
    ImageUpdate update;
    update.entry = at;
    update.kind = ImageUpdate::Kind::entry_ended;
    ++updates;
    socket.send(std::as_bytes(std::span(&update, 1)), {});
}

void KnownImages::drop_unused(pipes::MessageSocket& socket, std::uint32_t& updates) {
    for (std::size_t looks = std::min(kLooksACall, entries_.size()); looks > 0; --looks) {
        next_look_ = (next_look_ + 1) % entries_.size();
        const auto at = static_cast<std::uint16_t>(next_look_);
        if (entries_[at].key.kind != Kind::none && entries_[at].alive.expired()) end_entry(at, socket, updates);
    }
    // A few at a time: the worker reads the messages when it runs the call.
    for (std::size_t i = 0; i < kLooksACall && is_over_budget(); ++i) {
        end_entry(longest_unused().front(), socket, updates);
    }
    // All chunks, because there are few.
    for (auto chunk = chunks_.begin(); chunk != chunks_.end();) {
        if (!chunk->second.expired()) {
            ++chunk;
            continue;
        }
        ImageUpdate update;
        update.base_chunk = chunk->first;
        update.kind = ImageUpdate::Kind::chunk_ended;
        chunk = chunks_.erase(chunk);
        ++updates;
        socket.send(std::as_bytes(std::span(&update, 1)), {});
    }
}

bool KnownImages::has_moved_but(std::span<const ImageArgument> arguments) const noexcept {
    return std::any_of(moved_.begin(), moved_.end(), [&](std::uint16_t at) {
        return std::none_of(arguments.begin(), arguments.end(),
                            [&](const ImageArgument& argument) { return key_of(argument) == entries_[at].key; });
    });
}

std::vector<std::uint64_t> KnownImages::drop_moved() {
    std::vector<std::uint64_t> inodes;
    while (!moved_.empty()) {
        const std::uint16_t at = moved_.back();
        inodes.push_back(entries_[at].inode);
        clear(at);
        free_.push_back(at);
    }
    return inodes;
}

}  // namespace procrun::detail
