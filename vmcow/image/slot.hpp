#pragma once

#include <cstddef>
#include <optional>

namespace vmcow {

/// Owns a range of addresses, reserved in 2 MiB steps. Images are mapped in slots. A slot that is given back is
/// reserved again at once, so that nothing else is ever placed between slots.
///
///     region (1 TiB or what there is)                                                       |-- landing --|
///     |--- slot: image |guard|~~~ room ~~~|--- slot ---|guard|--- slot ---|guard|-- free ---| not in children
///
/// Room is what lies free behind a slot that may grow. It is a wish: other slots are placed beyond it as long as there
/// is somewhere else, and share it when there is not (`vmcow/image/slot_book.hpp`). The slot itself is never shared.
///
/// Because forked processes inherit the reservation, a slot that is free in both processes lies at the same addresses
/// in both, and an image can be mapped where its maker had it.
///
/// An image is not inherited, so a child begins with a hole where the image was, until the range is reserved again.
/// Memory that a fork handler maps before that (a sanitizer starts a thread there) is placed by the kernel in the
/// highest hole that is large enough: the landing, which lies above every slot.
///
/// Cost:       O(log n) for n slots, and a system call to give a slot back.
/// Threads:    any; the book of slots has one lock, which a child of fork(2) finds released.
/// After fork: the child has a copy of the book; its slots are its own.
class Slot {
public:
    Slot() = default;
    /// Reserves a slot of at least `bytes`, rounded up to 2 MiB, with up to `room` bytes to grow behind it.
    /// Throws: std::system_error -- ENOMEM (address space, RLIMIT_AS): there are not even `bytes`.
    [[nodiscard]] static Slot reserve(std::size_t bytes, std::size_t room = 0);
    /// Reserves exactly the range from `address` on, if this process has reserved it and nobody uses it; else nullopt.
    /// An address that another process names may be anything, and is nullopt then.
    [[nodiscard]] static std::optional<Slot> claim(const void* address, std::size_t bytes);
    /// For a process that is to have images where its parent has them. What was reserved so far, taken or free, can
    /// only be claimed from now on, and `reserve` takes from a region of this process alone. Slots that exist are void.
    static void leave_inherited_to_claims();

    Slot(Slot&& other) noexcept;
    Slot& operator=(Slot&& other) noexcept;
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    ~Slot();

    [[nodiscard]] std::byte* address() const noexcept { return address_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

    /// How large the slot can become at the most: as it was made, with all its room.
    [[nodiscard]] std::size_t most_bytes() const noexcept { return most_bytes_; }
    /// How large the slot could be made now: others may have some of its room.
    [[nodiscard]] std::size_t room_bytes() const noexcept;
    /// Makes the slot at least `bytes` large, in place. False when that is past its room or others have it; the slot is
    /// as before then.
    [[nodiscard]] bool extend(std::size_t bytes) noexcept;
    /// Keeps the first `bytes`, rounded up to 2 MiB and at least that, and gives the rest back. `room` bytes of the
    /// rest stay the room of the slot.
    void shrink(std::size_t bytes, std::size_t room = 0) noexcept;

private:
    Slot(std::byte* address, std::size_t bytes, std::size_t guard_bytes, std::size_t room) noexcept
        : address_(address), bytes_(bytes), guard_bytes_(guard_bytes), most_bytes_(bytes + room) {}
    void reset() noexcept;

    std::byte* address_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t guard_bytes_ = 0;
    std::size_t most_bytes_ = 0;
};

}  // namespace vmcow
