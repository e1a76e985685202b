#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>

#include "vmcow/arena.hpp"
#include "vmcow/image_heap.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/view.hpp"

namespace vmcow {

/// How a value is made.
struct ValueOptions {
    std::string name = "value";
    /// Address space kept free behind the value, into which it grows without moving. Costs no memory; less of it is
    /// taken where there is not so much.
    std::size_t reserve_bytes = std::size_t{16} << 30;
};

/// The image that the handles of one value share: an arena that is being filled, a snapshot, or a private view of one.
///
///     arena ----- shared and then changed ----> snapshot ----- changed, by the only handle ----> view
///       changed in place                          ^                                               changed in place;
///                                                 '-- shared and then changed: commit ------------'  each page copied
///                                                 once
///
/// Threads: `data`, `extent_bytes` and `snapshot` from any thread. The rest is for the only handle that there is.
class ValueImage final : public HeapGrowth {
public:
    /// Looks at the first page of an image before it is used, and throws what is wrong with it.
    using Check = void (*)(const std::byte* first_page, std::uint64_t extent_bytes);

    /// `check` is called when the arena is first looked at: another process may still have it.
    ValueImage(Arena arena, const ValueOptions& options, Check check = nullptr);
    /// Here it is called at once. Throws: what `check` throws.
    ValueImage(Snapshot snapshot, const ValueOptions& options, Check check = nullptr);
    virtual ~ValueImage() = default;
    ValueImage(const ValueImage&) = delete;
    ValueImage& operator=(const ValueImage&) = delete;

    /// Where its bytes are, to be read. They stay there until somebody opens it. Cost: nothing; the first time, for a
    /// snapshot with deltas, that of a mapping.
    [[nodiscard]] const std::byte* data() const;
    [[nodiscard]] std::uint64_t extent_bytes() const;

    /// The value as it is. Cost: nothing if it was not changed since; for an arena a freeze, for a view a page scan and
    /// a copy of each page that was changed. Throws: std::system_error -- EMFILE, ENOMEM; the value is as before.
    [[nodiscard]] Snapshot snapshot() const;

    /// Makes it writable. Throws: std::system_error -- ENOMEM; the value is as before.
    [[nodiscard]] std::byte* open();
    /// Makes it longer, with zeros behind what there is. Pre: open.
    [[nodiscard]] std::size_t grow(std::size_t bytes) override;
    /// By exactly so much. Throws: std::system_error -- ENOMEM; the value is as before. Pre: open.
    void extend(std::size_t bytes);

    /// The arena, if it is one. It stays one for as long as `lock` is held.
    [[nodiscard]] const Arena* arena(std::unique_lock<std::recursive_mutex>& lock) const;
    /// Takes the arena out; nullopt if it is none. Nothing else can be done with this object then.
    [[nodiscard]] std::optional<Arena> take_arena();
    /// The same for one whose file can be given away; nullopt in a function process for its caller's.
    [[nodiscard]] std::optional<Arena> take_own_arena();

    /// What was copied by writes, if it is a private view; nothing otherwise. Cost: a page scan.
    [[nodiscard]] PageChanges changes() const;
    [[nodiscard]] bool is_being_edited() const noexcept { return edits_ != 0; }
    [[nodiscard]] const ValueOptions& options() const noexcept { return options_; }

private:
    friend class ValueHandle;
    friend class ValueEdit;

    struct PrivateView {
        View view;
        Snapshot committed;
        bool changed = false;
    };

    /// Under the mutex. Its owner looks at it now.
    [[nodiscard]] const std::byte* checked(const Arena& arena) const;

    ValueOptions options_;
    Check check_ = nullptr;
    mutable std::recursive_mutex mutex_;
    mutable std::variant<Arena, Snapshot, PrivateView> content_;
    mutable std::optional<Arena> kept_;  // what was read before it was copied
    mutable std::atomic<const std::byte*> data_{nullptr};
    std::atomic<std::uint32_t> handles_{0};
    std::uint32_t edits_ = 0;
};

/// One of the handles of a value. Copying it is O(1).
///
/// Threads: two handles may be used from two threads, even if they share an image; one of them as an int.
class ValueHandle {
public:
    ValueHandle() noexcept = default;
    explicit ValueHandle(std::unique_ptr<ValueImage> image) noexcept;
    ValueHandle(const ValueHandle& other) noexcept;
    ValueHandle(ValueHandle&& other) noexcept : image_(std::exchange(other.image_, nullptr)) {}
    ValueHandle& operator=(ValueHandle other) noexcept {
        std::swap(image_, other.image_);
        return *this;
    }
    ~ValueHandle() { release(); }

    [[nodiscard]] bool is_unique() const noexcept;
    /// An image that no other handle shares. Throws: std::system_error -- as ValueImage::snapshot; nothing has changed.
    ValueImage& unique();
    /// Pre: not moved from.
    [[nodiscard]] ValueImage& operator*() const noexcept { return *owned(); }
    [[nodiscard]] ValueImage* operator->() const noexcept { return owned(); }
    [[nodiscard]] explicit operator bool() const noexcept { return image_ != nullptr; }

private:
    [[nodiscard]] ValueImage* owned() const noexcept {
        VMCOW_ASSERT(image_ != nullptr && "a value that was moved from can only be assigned to or destroyed");
        return image_;
    }
    void release() noexcept;

    ValueImage* image_ = nullptr;
};

/// While it lives, the value is being changed: no handle of it can be copied.
class ValueEdit {
public:
    /// Throws: std::system_error -- as ValueImage::snapshot and open.
    explicit ValueEdit(ValueHandle& handle);
    ~ValueEdit();
    ValueEdit(const ValueEdit&) = delete;
    ValueEdit& operator=(const ValueEdit&) = delete;

    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    [[nodiscard]] ValueImage& image() const noexcept { return image_; }

private:
    ValueImage& image_;
    std::byte* data_;
};

}  // namespace vmcow
