#pragma once

#include <cstddef>
#include <memory>

#include "vmcow/arena.hpp"
#include "vmcow/image/slot.hpp"

namespace vmcow {

/// Memory in which a small value with containers is edited. The value grows without moving, because there are addresses
/// behind it. A value that outgrows `kBytes` becomes an arena at the same addresses.
///
///     slot  |--- the value ---|-- zero, up to kBytes --|~~~~ room ~~~~|
///
/// A value stays in its room after an edit as long as there are few such values, so that the next edit copies nothing.
///
/// Cost:       no system call for a room that was used before; some rooms are kept. 4 KiB of memory for each page that
///             was used.
/// Threads:    any; one at a time.
/// After fork: the child has a copy, as of any memory.
class EditRoom {
public:
    static constexpr std::size_t kBytes = std::size_t{128} << 10;
    /// How many values may stay in their rooms between two edits.
    static constexpr std::size_t kMostAtRest = 16;

    /// A zeroed room. Throws: std::system_error -- ENOMEM; std::bad_alloc.
    [[nodiscard]] static std::unique_ptr<EditRoom> take();
    EditRoom(const EditRoom&) = delete;
    EditRoom& operator=(const EditRoom&) = delete;
    /// Zeroes the bytes that were used, and keeps the memory for a later room.
    ~EditRoom();

    [[nodiscard]] std::byte* data() const noexcept { return slot_.address(); }
    /// Notes that the first `bytes` may have been written to: the destructor zeroes as many as were noted at the most.
    void note_used(std::size_t bytes) noexcept { used_ = used_ < bytes ? bytes : used_; }
    /// How many rooms are in use.
    [[nodiscard]] static std::size_t in_use() noexcept;

    /// Turns the first `extent` bytes into an arena at the same addresses: pointers into them stay valid. The room is
    /// empty then.
    /// Throws: std::system_error -- EMFILE, ENOMEM; the room is as before.
    [[nodiscard]] Arena become_arena(std::size_t extent, const ArenaOptions& options);

private:
    explicit EditRoom(Slot slot) noexcept;

    Slot slot_;
    std::size_t used_ = 0;
};

}  // namespace vmcow
