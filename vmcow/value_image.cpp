#include "vmcow/value_image.hpp"

#include <algorithm>
#include <system_error>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow {
namespace {

/// In a function process an arena is a private copy over a file that its owner may still change: what is to outlive the
/// process is copied. Whoever reads it goes on with the arena, which is `kept`.
Snapshot freeze(Arena& arena, std::optional<Arena>& kept) {
    try {
        return std::move(arena).freeze();
    } catch (const std::system_error& error) {
        if (error.code() != std::errc::operation_not_permitted) throw;
    }
    Arena copy({.name = arena.name(), .reserve_bytes = std::max(arena.extent_bytes(), std::uint64_t{kPageBytes})});
    copy.append(arena.bytes());
    Snapshot frozen = std::move(copy).freeze();
    kept = std::move(arena);
    return frozen;
}

}  // namespace

ValueImage::ValueImage(Arena arena, const ValueOptions& options, Check check)
    : options_(options), check_(check), content_(std::move(arena)) {}

ValueImage::ValueImage(Snapshot snapshot, const ValueOptions& options, Check check)
    : options_(options), content_(std::move(snapshot)) {
    const auto& frozen = std::get<Snapshot>(content_);
    if (check != nullptr) check(frozen.page({0}), frozen.extent_bytes());
}

const std::byte* ValueImage::checked(const Arena& arena) const {
    const auto bytes = arena.bytes();
    const bool known = data_.load(std::memory_order_relaxed) != nullptr;
    if (check_ != nullptr && !known) check_(bytes.data(), bytes.size());
    return bytes.data();
}

const std::byte* ValueImage::data() const {
    if (const std::byte* const known = data_.load(std::memory_order_acquire)) return known;
    const std::scoped_lock lock(mutex_);
    const std::byte* at = nullptr;
    if (const auto* const arena = std::get_if<Arena>(&content_)) {
        at = checked(*arena);
    } else if (const auto* const frozen = std::get_if<Snapshot>(&content_)) {
        at = frozen->bytes().data();
    } else {
        at = std::get<PrivateView>(content_).view.bytes().data();
    }
    data_.store(at, std::memory_order_release);
    return at;
}

std::uint64_t ValueImage::extent_bytes() const {
    const std::scoped_lock lock(mutex_);
    if (const auto* const arena = std::get_if<Arena>(&content_)) return arena->extent_bytes();
    if (const auto* const frozen = std::get_if<Snapshot>(&content_)) return frozen->extent_bytes();
    return std::get<PrivateView>(content_).view.bytes().size();
}

Snapshot ValueImage::snapshot() const {
    const std::scoped_lock lock(mutex_);
    VMCOW_ASSERT(!is_being_edited() && "a value cannot be shared while it is being edited");
    if (auto* const arena = std::get_if<Arena>(&content_)) {
        static_cast<void>(checked(*arena));
        // It stays mapped where it is, so that whoever reads it goes on.
        content_ = freeze(*arena, kept_);
    }
    if (const auto* const frozen = std::get_if<Snapshot>(&content_)) return *frozen;
    auto& view = std::get<PrivateView>(content_);
    if (view.changed) {
        view.committed = view.view.commit();
        view.changed = false;
    }
    return view.committed;
}

std::byte* ValueImage::open() {
    const std::scoped_lock lock(mutex_);
    if (auto* const frozen = std::get_if<Snapshot>(&content_)) {
        View view(*frozen, options_.reserve_bytes);
        content_ = PrivateView{std::move(view), *frozen};
    }
    std::byte* at = nullptr;
    if (auto* const arena = std::get_if<Arena>(&content_)) {
        static_cast<void>(checked(*arena));
        at = arena->bytes().data();
    } else {
        auto& view = std::get<PrivateView>(content_);
        view.changed = true;
        at = view.view.bytes().data();
    }
    data_.store(at, std::memory_order_release);
    return at;
}

void ValueImage::extend(std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    if (auto* const arena = std::get_if<Arena>(&content_)) {
        static_cast<void>(arena->allocate(bytes, 1));
    } else {
        View& view = std::get<PrivateView>(content_).view;
        view.grow(view.bytes().size() + bytes);
    }
}

std::size_t ValueImage::grow(std::size_t bytes) {
    for (const std::size_t wanted : growth_steps(extent_bytes(), bytes)) {
        try {
            extend(wanted);
            return wanted;
        } catch (const std::system_error&) {
            continue;  // the room that is left may do for what is needed
        }
    }
    return 0;
}

const Arena* ValueImage::arena(std::unique_lock<std::recursive_mutex>& lock) const {
    lock = std::unique_lock(mutex_);
    const auto* const arena = std::get_if<Arena>(&content_);
    if (arena == nullptr) lock.unlock();
    return arena;
}

std::optional<Arena> ValueImage::take_arena() {
    auto* const arena = std::get_if<Arena>(&content_);
    if (arena == nullptr) return std::nullopt;
    return std::move(*arena);
}

std::optional<Arena> ValueImage::take_own_arena() {
    VMCOW_ASSERT(!is_being_edited() && "a value cannot be given away while it is being edited");
    const auto* const arena = std::get_if<Arena>(&content_);
    return arena != nullptr && arena->is_own() ? take_arena() : std::nullopt;
}

PageChanges ValueImage::changes() const {
    const std::scoped_lock lock(mutex_);
    const auto* const view = std::get_if<PrivateView>(&content_);
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

void ValueHandle::release() noexcept {
    // What other handles have read is read before the last one changes or ends the image.
    if (image_ == nullptr || image_->handles_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    VMCOW_ASSERT(!image_->is_being_edited() && "a value cannot be assigned to or destroyed while it is being edited");
    delete image_;
}

bool ValueHandle::is_unique() const noexcept { return owned()->handles_.load(std::memory_order_acquire) == 1; }

ValueImage& ValueHandle::unique() {
    if (!is_unique()) *this = ValueHandle(std::make_unique<ValueImage>(image_->snapshot(), image_->options()));
    return *image_;
}

ValueEdit::ValueEdit(ValueHandle& handle) : image_(handle.unique()), data_(image_.open()) { ++image_.edits_; }

ValueEdit::~ValueEdit() { --image_.edits_; }

}  // namespace vmcow
