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

#include "vmcow/arena.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value/image_heap.hpp"
#include "vmcow/value/value_block.hpp"

namespace vmcow {

class EditRoom;
class StoredPages;

/// How a value is made.
struct ValueOptions {
    std::string name = "value";
    /// How much longer a value can become without moving. As in ArenaOptions, other images get these addresses only
    /// when no others are left.
    std::size_t reserve_bytes = std::size_t{16} << 30;

    /// Whether small values may be ordinary memory: the options ask for nothing that only a file has.
    [[nodiscard]] bool allow_block() const noexcept { return reserve_bytes == ValueOptions().reserve_bytes; }
    bool operator==(const ValueOptions&) const = default;
};

/// Stored pages with the bytes of a value that its owner can still write to. A process that the owner waits for maps
/// them.
struct BorrowedBlock {
    std::uint64_t id = 0;  ///< no other block of this process has or will have it, nor this one once it lies elsewhere
    const std::byte* address = nullptr;
    std::uint64_t extent_bytes = 0;
    std::uint64_t mapped_bytes = 0;
    std::uint64_t file_offset = 0;
    const StoredPages* pages = nullptr;
    std::weak_ptr<const void> alive;  ///< expires when the block lies elsewhere
};

/// What the handles of one value share: bytes in memory of this process while the value is small, an arena that is
/// being filled, a snapshot, or a private view of a snapshot.
///
///     block ---- shared and then changed ----> another block, with a copy of all bytes
///       |  changed in place
///       '-- outgrown --> arena -- shared and then changed --> snapshot -- changed, by the only handle --> view
///                          changed in place                     ^                          changed in place;
///                                                               '-- shared, changed: commit -- each page copied once
///
/// The block of a value with containers is moved into a room (EditRoom) when it is edited. After the edit it is moved
/// out again where many values are in rooms.
///
/// Threads: `extent_bytes`, `snapshot` and what handles read from any thread. The other members are for the only
///          handle.
class ValueImage final : public HeapGrowth {
public:
    /// Looks at the first page of an image before it is used, and throws if something is wrong with it.
    using Check = void (*)(const std::byte* first_page, std::uint64_t extent_bytes);

    /// Up to this many bytes are copied as a whole when a shared value is edited: a view costs as much.
    static constexpr std::size_t kCopiedWhole = std::size_t{256} << 10;

    /// How the bytes of a value are changed.
    enum class Form : std::uint8_t {
        fixed,  ///< the object or its elements alone: nothing grows while it is edited
        heap,   ///< a header and a heap (ValueHeader), which grows where it is
    };

    ValueImage(ValueBlock block, const ValueOptions& options, std::size_t alignment, Form form = Form::fixed);
    /// A value that is being made in a room, whose first `extent_bytes` it takes up.
    ValueImage(std::unique_ptr<EditRoom> room, std::size_t extent_bytes, const ValueOptions& options);
    /// `check` is called when the arena is first read or changed: until then another process may have it.
    ValueImage(Arena arena, const ValueOptions& options, Form form, Check check = nullptr);
    /// `check` is called at once. Throws: what `check` throws.
    ValueImage(Snapshot snapshot, const ValueOptions& options, Form form, Check check = nullptr);
    virtual ~ValueImage();
    ValueImage(const ValueImage&) = delete;
    ValueImage& operator=(const ValueImage&) = delete;

    [[nodiscard]] std::uint64_t extent_bytes() const;

    /// The value as it is now.
    /// Throws: std::system_error -- EMFILE, ENOMEM; the value is as before.
    /// Cost:   nothing if the value was not changed since the last snapshot; for a block of ordinary memory a copy, for
    ///         an arena a freeze, for a view a page scan and a copy of each page that was changed.
    [[nodiscard]] Snapshot snapshot() const;

    /// Makes the bytes writable. Throws: std::system_error -- ENOMEM; the value is as before.
    [[nodiscard]] std::byte* open();
    /// Ends an edit.
    void close() noexcept;
    /// Where the bytes are, for writing. Pre: open.
    [[nodiscard]] std::byte* writable_data() const noexcept {
        return const_cast<std::byte*>(data_.load(std::memory_order_relaxed));
    }
    /// Adds at least `bytes` zeros behind the image, without moving it. Returns how many, or 0. Pre: open.
    [[nodiscard]] std::size_t grow(std::size_t bytes) override;
    void note_alignment(std::size_t alignment) noexcept override;
    /// Adds exactly `bytes` zeros behind the image; the bytes of a value of fixed form may move.
    /// Pre:    open.
    /// Throws: std::system_error -- ENOMEM; the value is as before.
    void extend(std::size_t bytes);

    /// The bytes of a value that is small enough to be copied wherever it is wanted; nullopt for other values. They are
    /// good for as long as what `ValueHandle::data` returns.
    [[nodiscard]] std::optional<std::span<const std::byte>> block_bytes() const noexcept;

    /// What the bytes of a block have to be aligned to.
    [[nodiscard]] std::size_t alignment() const noexcept { return alignment_ != 0 ? alignment_ : kPageBytes; }
    /// A block of stored pages, for a process that maps them while the caller waits (I2); nothing for another value.
    [[nodiscard]] std::optional<BorrowedBlock> borrow_block() const;

    /// The arena, or nullptr if the value is in none. The value stays in its arena for as long as `lock` is held.
    [[nodiscard]] const Arena* arena(std::unique_lock<std::recursive_mutex>& lock) const;
    /// Takes the arena out; nullopt if the value is in none. After that this object can only be destroyed.
    [[nodiscard]] std::optional<Arena> take_arena();
    /// Takes the arena out if its file can be given away; nullopt in a function process for an arena of its caller.
    [[nodiscard]] std::optional<Arena> take_own_arena();

    /// What writes to a private view have copied. Of a block that was copied from a shared value, the pages that its
    /// bytes fill: all its bytes count as changed. Cost: a page scan.
    [[nodiscard]] PageChanges changes() const;
    [[nodiscard]] bool is_being_edited() const noexcept { return edits_ != 0; }
    [[nodiscard]] const ValueOptions& options() const noexcept;

private:
    friend class ValueHandle;
    friend class ValueEdit;

    /// An arena, a snapshot or a view; beside a block, the snapshot that was taken of the block.
    struct Large;

    ValueImage(const ValueOptions& options, Form form, Check check);

    /// An image of the same bytes, for a handle that edits them alone. The view goes with it where nobody else has
    /// asked for the address of its bytes: the image that is left is a version without a mapping.
    [[nodiscard]] std::unique_ptr<ValueImage> copy(bool handle_reads);
    /// Where the bytes are, for reading. They stay there for as long as a handle that has asked is neither edited nor
    /// ended: `reads` says whether this one is counted among the readers, where that matters.
    /// Cost: nothing; the first time, for a snapshot with pages beside its base, that of a mapping.
    [[nodiscard]] const std::byte* data_for(std::atomic<bool>& reads);
    [[nodiscard]] const std::byte* find_data(const Large& now) const;
    /// The bytes of the arena, after `check_` when they are first looked at. Pre: the mutex is held.
    [[nodiscard]] const std::byte* checked(const Arena& arena) const;
    [[nodiscard]] Large& large() const noexcept;
    /// Whether the bytes lie in a block or a room; a snapshot of them may have been taken.
    [[nodiscard]] bool has_block() const noexcept { return static_cast<bool>(block_) || room_ != nullptr; }
    [[nodiscard]] std::span<const std::byte> own_bytes() const noexcept {
        return {data_.load(std::memory_order_relaxed), extent_};
    }
    [[nodiscard]] Large& frozen_block() const;
    void set_large(std::unique_ptr<Large> large) noexcept;
    void move_to_room(std::span<const std::byte> bytes);
    void move_to_block(std::span<const std::byte> bytes);
    void move_to_arena();
    [[nodiscard]] bool is_copied_whole(std::uint64_t extent_bytes) const noexcept;
    void take_copy(const Snapshot& frozen);
    std::byte* open_large();
    [[nodiscard]] std::size_t grow_in_room(std::size_t bytes);
    void leave_room() noexcept;

    std::unique_ptr<const ValueOptions> options_;  // nullptr: the default options
    Check check_ = nullptr;
    mutable ValueBlock block_;
    std::unique_ptr<EditRoom> room_;
    mutable std::atomic<Large*> large_{nullptr};
    mutable std::atomic<const std::byte*> data_{nullptr};
    mutable std::shared_ptr<const std::uint64_t> block_id_;  // of the block as it lies now, once it was borrowed
    std::uint64_t extent_ = 0;                               // not kept for an arena or a view
    std::atomic<std::uint32_t> handles_{0};
    std::atomic<std::uint32_t> readers_{0};  // handles that have asked where the bytes of a view are
    std::uint32_t edits_ = 0;
    mutable std::atomic<std::uint32_t> copied_pages_{0};
    std::uint16_t alignment_ = 0;
    Form form_;
    bool has_file_ = false;  // an arena, or the snapshot or view that it became: `large_` has the length
};

/// A handle of a value. Copying it is O(1).
///
/// Threads: two handles may be used from two threads, even if they share an image; one handle as an int.
class ValueHandle {
public:
    ValueHandle() noexcept = default;
    explicit ValueHandle(std::unique_ptr<ValueImage> image) noexcept;
    ValueHandle(const ValueHandle& other) noexcept;
    ValueHandle(ValueHandle&& other) noexcept
        : image_(std::exchange(other.image_, nullptr)), reads_(other.reads_.exchange(false)) {}
    ValueHandle& operator=(ValueHandle other) noexcept {
        std::swap(image_, other.image_);
        other.reads_ = reads_.exchange(other.reads_);
        return *this;
    }
    ~ValueHandle() { release(); }

    [[nodiscard]] bool is_unique(const char* call = __builtin_FUNCTION()) const noexcept;
    /// The image, copied first if other handles share it.
    /// Throws: std::system_error -- as ValueImage::snapshot; nothing has changed.
    ValueImage& unique(const char* call = __builtin_FUNCTION());
    /// The image. Pre: the handle was not moved from; a message names `call` otherwise, and the process ends.
    [[nodiscard]] ValueImage& image(const char* call = __builtin_FUNCTION()) const noexcept {
        if (image_ == nullptr) refuse_moved_from(call);
        return *image_;
    }
    /// Where the bytes are, for reading. They stay there until the value of this handle is edited, or the handle ends.
    /// Cost: nothing; the first time, for a version that was made by edits or calls, that of a mapping.
    [[nodiscard]] const std::byte* data(const char* call = __builtin_FUNCTION()) const;
    [[nodiscard]] ValueImage& operator*() const noexcept { return image(); }
    [[nodiscard]] ValueImage* operator->() const noexcept { return &image(); }
    [[nodiscard]] explicit operator bool() const noexcept { return image_ != nullptr; }

private:
    void release() noexcept;
    [[noreturn]] static void refuse_moved_from(const char* call) noexcept;

    ValueImage* image_ = nullptr;
    mutable std::atomic<bool> reads_{false};  // has asked where the bytes of a view are
};

/// An edit of a value: while it lives, no handle of the value can be copied.
class ValueEdit {
public:
    /// Throws: std::system_error -- as ValueImage::snapshot and open.
    explicit ValueEdit(ValueHandle& handle, const char* call = __builtin_FUNCTION());
    ~ValueEdit();
    ValueEdit(const ValueEdit&) = delete;
    ValueEdit& operator=(const ValueEdit&) = delete;

    [[nodiscard]] std::byte* data() const noexcept { return image_.writable_data(); }
    [[nodiscard]] ValueImage& image() const noexcept { return image_; }

private:
    ValueImage& image_;
};

}  // namespace vmcow
