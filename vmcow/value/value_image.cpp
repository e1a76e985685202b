#include "vmcow/value/value_image.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <variant>

#include "vmcow/image/page_store.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/held.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value/edit_room.hpp"
#include "vmcow/value/image_heap.hpp"
#include "vmcow/view.hpp"

namespace vmcow {
namespace {

/// Freezes an arena. In a function process the arena is a private copy over a file that its owner may still change: the
/// snapshot may outlive the process, so it is made of a copy. The arena is moved to `kept`, where others go on reading.
Snapshot freeze(Arena& arena, std::unique_ptr<Arena>& kept) {
    if (arena.is_own()) return std::move(arena).freeze();
    Arena copy({.name = arena.name(), .reserve_bytes = std::max(arena.extent_bytes(), std::uint64_t{kPageBytes})});
    copy.append(arena.bytes());
    Snapshot frozen = std::move(copy).freeze();
    kept = std::make_unique<Arena>(std::move(arena));
    return frozen;
}

}  // namespace

struct ValueImage::Large {
    struct PrivateView {
        View view;
        Snapshot committed;
        bool changed = false;
    };

    explicit Large(Arena arena) : content(std::move(arena)) {}
    explicit Large(Snapshot snapshot) : content(std::move(snapshot)) {}

    std::recursive_mutex mutex;
    std::variant<Arena, Snapshot, Large::PrivateView> content;
    std::unique_ptr<Arena> kept;  // the arena that `freeze` has copied: others may still read its bytes
};

ValueImage::Large& ValueImage::large() const noexcept { return *large_.load(std::memory_order_acquire); }

ValueImage::ValueImage(const ValueOptions& options, Form form, Check check)
    : options_(options == ValueOptions{} ? nullptr : std::make_unique<const ValueOptions>(options)),
      check_(check),
      form_(form) {}

ValueImage::ValueImage(ValueBlock block, const ValueOptions& options, std::size_t alignment, Form form)
    : ValueImage(options, form, nullptr) {
    block_ = std::move(block);
    extent_ = block_.size();
    data_.store(block_.data(), std::memory_order_relaxed);
    alignment_ = static_cast<std::uint16_t>(form == Form::heap ? detail::alignment_of(block_.data()) : alignment);
}

ValueImage::ValueImage(std::unique_ptr<EditRoom> room, std::size_t extent_bytes, const ValueOptions& options)
    : ValueImage(options, Form::heap, nullptr) {
    room_ = std::move(room);
    room_->note_used(extent_bytes);
    extent_ = extent_bytes;
    data_.store(room_->data(), std::memory_order_relaxed);
}

ValueImage::ValueImage(Arena arena, const ValueOptions& options, Form form, Check check)
    : ValueImage(options, form, check) {
    set_large(std::make_unique<Large>(std::move(arena)));
    has_file_ = true;
}

ValueImage::ValueImage(Snapshot snapshot, const ValueOptions& options, Form form, Check check)
    : ValueImage(options, form, check) {
    if (check != nullptr) check(snapshot.page({0}), snapshot.extent_bytes());
    extent_ = snapshot.extent_bytes();
    set_large(std::make_unique<Large>(std::move(snapshot)));
}

ValueImage::~ValueImage() { delete large_.load(std::memory_order_relaxed); }

const ValueOptions& ValueImage::options() const noexcept {
    static const ValueOptions defaults;
    return options_ ? *options_ : defaults;
}

void ValueImage::set_large(std::unique_ptr<Large> large) noexcept {
    delete large_.exchange(large.release(), std::memory_order_acq_rel);
}

std::unique_ptr<ValueImage> ValueImage::copy(bool handle_reads) {
    // Another thread may freeze the block meanwhile: that leaves its bytes where they are.
    if (!has_file_ && is_copied_whole(extent_) && data_.load(std::memory_order_acquire) != nullptr) {
        std::unique_ptr<ValueImage> made(new ValueImage(options(), form_, nullptr));
        made->alignment_ = alignment_;
        made->move_to_block(own_bytes());
        made->copied_pages_.store(static_cast<std::uint32_t>(pages_of(extent_).value), std::memory_order_relaxed);
        return made;
    }
    Snapshot frozen = snapshot();
    Large& now = large();
    const std::scoped_lock lock(now.mutex);
    auto* const view = std::get_if<Large::PrivateView>(&now.content);
    const std::uint32_t others = readers_.load(std::memory_order_acquire) - (handle_reads ? 1U : 0U);
    if (view == nullptr || view->changed || others != 0) {
        return std::make_unique<ValueImage>(std::move(frozen), options(), form_);
    }
    auto made = std::make_unique<ValueImage>(std::move(frozen), options(), form_);
    Large& its = made->large();
    Snapshot stays = view->committed;
    its.content = std::move(*view);
    now.content = std::move(stays);
    data_.store(nullptr, std::memory_order_release);
    made->has_file_ = true;
    return made;
}

const std::byte* ValueImage::checked(const Arena& arena) const {
    const auto bytes = arena.bytes();
    const bool known = data_.load(std::memory_order_relaxed) != nullptr;
    if (check_ != nullptr && !known) check_(bytes.data(), bytes.size());
    return bytes.data();
}

const std::byte* ValueImage::data_for(std::atomic<bool>& reads) {
    const std::byte* const known = data_.load(std::memory_order_acquire);
    if (known != nullptr && (!has_file_ || is_being_edited() || reads.load(std::memory_order_acquire))) return known;
    Large& now = large();
    const std::scoped_lock lock(now.mutex);
    if (!reads.exchange(true, std::memory_order_acq_rel)) readers_.fetch_add(1, std::memory_order_relaxed);
    return find_data(now);
}

/// Where the bytes are. Pre: the mutex of `now` is held.
const std::byte* ValueImage::find_data(const Large& now) const {
    const std::byte* at = nullptr;
    if (const auto* const arena = std::get_if<Arena>(&now.content)) {
        at = checked(*arena);
    } else if (const auto* const frozen = std::get_if<Snapshot>(&now.content)) {
        at = frozen->bytes().data();
    } else {
        at = std::get<Large::PrivateView>(now.content).view.bytes().data();
    }
    data_.store(at, std::memory_order_release);
    return at;
}

std::uint64_t ValueImage::extent_bytes() const {
    if (!has_file_) return extent_;
    Large& now = large();
    const std::scoped_lock lock(now.mutex);
    if (const auto* const arena = std::get_if<Arena>(&now.content)) return arena->extent_bytes();
    if (const auto* const frozen = std::get_if<Snapshot>(&now.content)) return frozen->extent_bytes();
    return std::get<Large::PrivateView>(now.content).view.bytes().size();
}

/// The snapshot of a block, made on the first call: several threads may ask for it at once.
ValueImage::Large& ValueImage::frozen_block() const {
    static std::mutex making;
    const std::scoped_lock lock(making);
    if (Large* const made = large_.load(std::memory_order_acquire)) return *made;
    std::unique_ptr<Large> frozen;
    if (room_ != nullptr) {
        frozen = std::make_unique<Large>(ValueBlock(own_bytes(), kPageBytes).freeze(options().name));
    } else {
        frozen = std::make_unique<Large>(block_.freeze(options().name));
    }
    Large& made = *frozen;
    large_.store(frozen.release(), std::memory_order_release);
    return made;
}

Snapshot ValueImage::snapshot() const {
    VMCOW_ASSERT(!is_being_edited() && "a value cannot be shared while it is being edited");
    copied_pages_.store(0, std::memory_order_relaxed);
    Large* const known = large_.load(std::memory_order_acquire);
    Large& now = known != nullptr ? *known : frozen_block();
    const std::scoped_lock lock(now.mutex);
    if (auto* const arena = std::get_if<Arena>(&now.content)) {
        static_cast<void>(checked(*arena));
        // The bytes stay mapped where they are, so that other threads can go on reading them.
        now.content = freeze(*arena, now.kept);
    }
    if (const auto* const frozen = std::get_if<Snapshot>(&now.content)) return *frozen;
    auto& view = std::get<Large::PrivateView>(now.content);
    if (view.changed) {
        view.committed = view.view.commit();
        view.changed = false;
    }
    return view.committed;
}

// ---- changes, by the only handle

void ValueImage::move_to_room(std::span<const std::byte> bytes) {
    VMCOW_ASSERT(bytes.size() <= EditRoom::kBytes && "only a small value is edited in a room");
    std::unique_ptr<EditRoom> room = EditRoom::take();
    std::memcpy(room->data(), bytes.data(), bytes.size());
    room->note_used(bytes.size());
    data_.store(room->data(), std::memory_order_release);
    extent_ = bytes.size();
    room_ = std::move(room);
    block_ = {};
    block_id_.reset();
}

void ValueImage::move_to_block(std::span<const std::byte> bytes) {
    // A snapshot does not say how strictly its bytes have to be aligned.
    const std::size_t alignment = alignment_ != 0 ? alignment_ : kPageBytes;
    ValueBlock block(bytes, alignment);
    data_.store(block.data(), std::memory_order_release);
    extent_ = bytes.size();
    block_ = std::move(block);
    block_id_.reset();
}

void ValueImage::move_to_arena() {
    const ArenaOptions wanted{.name = options().name, .reserve_bytes = options().reserve_bytes};
    if (room_ != nullptr) {
        set_large(std::make_unique<Large>(room_->become_arena(extent_, wanted)));
        room_.reset();
    } else {
        Arena arena(wanted);
        arena.append(own_bytes());
        data_.store(arena.bytes().data(), std::memory_order_release);
        set_large(std::make_unique<Large>(std::move(arena)));
        block_ = {};
        block_id_.reset();
    }
    has_file_ = true;
}

std::byte* ValueImage::open() {
    VMCOW_ASSERT(handles_.load(std::memory_order_relaxed) == 1 && "an image that others share is not changed");
    if (has_block()) {
        if (form_ == Form::heap && room_ == nullptr) {
            move_to_room(own_bytes());
        }
        set_large(nullptr);  // a snapshot that was taken shows the value before this edit
        return writable_data();
    }
    return open_large();
}

bool ValueImage::is_copied_whole(std::uint64_t extent_bytes) const noexcept {
    return options().allow_block() && extent_bytes <= (form_ == Form::heap ? EditRoom::kBytes : kCopiedWhole);
}

/// Copies a snapshot page by page, from wherever each page lies: nothing is mapped for that.
void ValueImage::take_copy(const Snapshot& frozen) {
    const std::uint64_t extent = frozen.extent_bytes();
    ValueBlock whole(0, kPageBytes, std::max<std::uint64_t>(extent, 1));
    for (std::uint64_t at = 0; at < extent; at += kPageBytes) {
        std::memcpy(whole.data() + at, frozen.page(page_at(at)), std::min<std::uint64_t>(extent - at, kPageBytes));
    }
    const std::span<const std::byte> bytes(whole.data(), extent);
    form_ == Form::heap ? move_to_room(bytes) : move_to_block(bytes);
    copied_pages_.store(static_cast<std::uint32_t>(pages_of(extent).value), std::memory_order_relaxed);
    has_file_ = false;
}

std::byte* ValueImage::open_large() {
    if (const auto* const frozen = std::get_if<Snapshot>(&large().content)) {
        if (is_copied_whole(frozen->extent_bytes())) {
            take_copy(*frozen);
            set_large(nullptr);
            return writable_data();
        }
    }
    Large& now = large();
    const std::scoped_lock lock(now.mutex);
    if (const auto* const frozen = std::get_if<Snapshot>(&now.content)) {
        View view(*frozen, options().reserve_bytes);
        now.content = Large::PrivateView{std::move(view), *frozen};
        has_file_ = true;
    }
    std::byte* at = nullptr;
    if (auto* const arena = std::get_if<Arena>(&now.content)) {
        static_cast<void>(checked(*arena));
        at = arena->bytes().data();
    } else {
        auto& view = std::get<Large::PrivateView>(now.content);
        view.changed = true;
        at = view.view.bytes().data();
    }
    data_.store(at, std::memory_order_release);
    return at;
}

void ValueImage::extend(std::size_t bytes) {
    VMCOW_ASSERT(is_being_edited() && "a value grows while it is being edited");
    if (has_block()) {
        const std::uint64_t extent = extent_ + bytes;
        if (room_ != nullptr && extent <= EditRoom::kBytes) {
            extent_ = extent;
            return room_->note_used(extent);
        }
        if (room_ == nullptr && extent <= ValueBlock::kLargest) {
            block_.resize(extent);
            extent_ = extent;
            block_id_.reset();  // it is longer, and may lie elsewhere
            return data_.store(block_.data(), std::memory_order_release);
        }
        move_to_arena();
    }
    Large& now = large();
    const std::scoped_lock lock(now.mutex);
    if (auto* const arena = std::get_if<Arena>(&now.content)) {
        static_cast<void>(arena->allocate(bytes, 1));
    } else {
        View& view = std::get<Large::PrivateView>(now.content).view;
        view.grow(view.bytes().size() + bytes);
    }
}

/// Grows in small steps, so that a value between two edits has little more memory than it needs.
std::size_t ValueImage::grow_in_room(std::size_t bytes) {
    constexpr std::size_t kStep = 64;
    const std::size_t wanted = round_up(std::max<std::size_t>(bytes, extent_ / 2), kStep);
    for (const std::size_t each : {wanted, round_up(bytes, kStep)}) {
        if (extent_ + each > EditRoom::kBytes) continue;
        extend(each);
        return each;
    }
    return 0;
}

void ValueImage::note_alignment(std::size_t alignment) noexcept {
    if (form_ == Form::heap) detail::note_alignment(writable_data(), alignment);
}

std::size_t ValueImage::grow(std::size_t bytes) {
    if (room_ != nullptr) {
        if (const std::size_t grown = grow_in_room(bytes); grown > 0) return grown;
    }
    for (const std::size_t wanted : growth_steps(extent_bytes(), bytes)) {
        try {
            extend(wanted);
            return wanted;
        } catch (const std::system_error&) {
            continue;  // the room that is left may suffice for the next, smaller step
        }
    }
    return 0;
}

void ValueImage::close() noexcept {
    --edits_;
    if (edits_ == 0 && room_ != nullptr && EditRoom::in_use() > EditRoom::kMostAtRest) leave_room();
}

void ValueImage::leave_room() noexcept {
    ImageHeap& heap = detail::heap_of(room_->data());
    heap.shrink();
    const std::uint64_t extent = sizeof(detail::ValueHeader) + heap.bytes();
    alignment_ = static_cast<std::uint16_t>(detail::alignment_of(room_->data()));
    try {
        move_to_block(std::span<const std::byte>(room_->data(), extent));
    } catch (const std::exception&) {
        extent_ = extent;
        return;  // without memory for a block the value stays in its room
    }
    room_.reset();
}

std::optional<std::span<const std::byte>> ValueImage::block_bytes() const noexcept {
    const bool known = !has_file_ && data_.load(std::memory_order_acquire) != nullptr;
    return known ? std::optional(own_bytes()) : std::nullopt;
}

std::optional<BorrowedBlock> ValueImage::borrow_block() const {
    const StoredPages* const pages = block_.stored();
    if (pages == nullptr || !pages->is_own()) return std::nullopt;
    if (!block_id_) {
        static std::atomic<std::uint64_t> next{1};
        block_id_ = std::make_shared<const std::uint64_t>(next.fetch_add(1, std::memory_order_relaxed));
    }
    return BorrowedBlock{.id = *block_id_,
                         .address = pages->data(),
                         .extent_bytes = extent_,
                         .mapped_bytes = pages_of(extent_).bytes(),
                         .file_offset = pages->file_offset(),
                         .pages = pages,
                         .alive = block_id_};
}

const Arena* ValueImage::arena(std::unique_lock<std::recursive_mutex>& lock) const {
    Large* const now = large_.load(std::memory_order_acquire);
    if (now == nullptr) return nullptr;
    lock = std::unique_lock(now->mutex);
    const auto* const arena = std::get_if<Arena>(&now->content);
    if (arena == nullptr) lock.unlock();
    return arena;
}

std::optional<Arena> ValueImage::take_arena() {
    VMCOW_ASSERT(!is_being_edited() && "a value cannot be given away while it is being edited");
    Large* const now = large_.load(std::memory_order_acquire);
    auto* const arena = now == nullptr ? nullptr : std::get_if<Arena>(&now->content);
    if (arena == nullptr) return std::nullopt;
    return std::move(*arena);
}

std::optional<Arena> ValueImage::take_own_arena() {
    VMCOW_ASSERT(!is_being_edited() && "a value cannot be given away while it is being edited");
    const Large* const now = large_.load(std::memory_order_acquire);
    const auto* const arena = now == nullptr ? nullptr : std::get_if<Arena>(&now->content);
    return arena != nullptr && arena->is_own() ? take_arena() : std::nullopt;
}

PageChanges ValueImage::changes() const {
    if (!has_file_) {
        const PageCount copied{copied_pages_.load(std::memory_order_relaxed)};
        return {.copied = copied, .identical = {}, .changed_bytes = copied.value == 0 ? 0 : extent_};
    }
    Large& now = large();
    const std::scoped_lock lock(now.mutex);
    const auto* const view = std::get_if<Large::PrivateView>(&now.content);
    return view == nullptr ? PageChanges{} : view->view.changes();
}

ValueHandle::ValueHandle(std::unique_ptr<ValueImage> image) noexcept : image_(image.release()) {
    image_->handles_.store(1, std::memory_order_relaxed);
}

ValueHandle::ValueHandle(const ValueHandle& other) noexcept : image_(other.image_) {
    if (image_ == nullptr) return;
    VMCOW_ASSERT(!image_->is_being_edited() && "a value cannot be copied while it is being edited");
    image_->handles_.fetch_add(1, std::memory_order_relaxed);
}

void ValueHandle::refuse_moved_from(const char* call) noexcept { sys::used_after_move("vmcow::Value", call); }

void ValueHandle::release() noexcept {
    if (image_ == nullptr) return;
    if (reads_.load(std::memory_order_relaxed)) image_->readers_.fetch_sub(1, std::memory_order_release);
    // acq_rel: what other handles read of the image happens before the last handle changes or destroys it.
    if (image_->handles_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    VMCOW_ASSERT(!image_->is_being_edited() && "a value cannot be assigned to or destroyed while it is being edited");
    delete image_;
}

const std::byte* ValueHandle::data(const char* call) const { return image(call).data_for(reads_); }

bool ValueHandle::is_unique(const char* call) const noexcept {
    return image(call).handles_.load(std::memory_order_acquire) == 1;
}

ValueImage& ValueHandle::unique(const char* call) {
    if (!is_unique(call)) *this = ValueHandle(image_->copy(reads_.load(std::memory_order_relaxed)));
    return *image_;
}

ValueEdit::ValueEdit(ValueHandle& handle, const char* call) : image_(handle.unique(call)) {
    // An image that is being edited is open already, and must stay where it is: its object is being changed.
    if (!image_.is_being_edited()) static_cast<void>(image_.open());
    ++image_.edits_;
}

ValueEdit::~ValueEdit() { image_.close(); }

}  // namespace vmcow
