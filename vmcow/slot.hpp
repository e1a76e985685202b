#pragma once

#include <cstddef>
#include <optional>

namespace vmcow {

/// Owns a range of addresses, reserved in 2 MiB steps. Images are mapped in slots; a slot that is given back is
/// reserved again at once, so that nothing else is ever placed between them.
///
///     region (reserved once, 1 TiB or what there is)                                       |-- landing --|
///     |--- slot: image | not yet grown ---|guard|--- slot ---|guard|------ free ------| not in children
///
/// Because forked processes inherit the reservation, a slot that is free in both lies at the same addresses in both,
/// and an image can be mapped where its maker had it.
///
/// An image is not inherited, so a child begins with a hole where it was, until it is reserved again. What maps memory
/// in a fork handler before that (a sanitizer starts a thread there) is placed by the kernel in the highest hole that
/// is large enough: the landing, which lies above every slot.
///
/// Threads:    any; the book of slots has one lock, which fork(2) finds released in the child.
/// After fork: the child has a copy of the book; its slots are its own.
class Slot {
public:
    Slot() = default;
    /// Reserves a slot of at least `bytes`, rounded up to 2 MiB.
    /// Throws: std::system_error -- ENOMEM (address space, RLIMIT_AS).
    [[nodiscard]] static Slot reserve(std::size_t bytes);
    /// `wanted` bytes or, where there are not so many addresses (RLIMIT_AS), as many as there are, at least `least`.
    /// Throws: as above.
    [[nodiscard]] static Slot reserve_up_to(std::size_t wanted, std::size_t least);
    /// Reserves exactly the range from `address` on, if this process has reserved it and nobody uses it. An address
    /// that another process names may be anything: nullopt is the answer to nonsense.
    [[nodiscard]] static std::optional<Slot> claim(const void* address, std::size_t bytes);
    /// For a process that is to have images where its parent has them: all that was reserved so far, taken or free, can
    /// from now on only be claimed, and `reserve` goes to a region of this process's own. Slots that exist are void.
    static void leave_inherited_to_claims();

    Slot(Slot&& other) noexcept;
    Slot& operator=(Slot&& other) noexcept;
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    ~Slot();

    [[nodiscard]] std::byte* address() const noexcept { return address_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

    /// Keeps the first `bytes`, rounded up to 2 MiB and at least that, and gives the rest back.
    void shrink(std::size_t bytes) noexcept;

private:
    Slot(std::byte* address, std::size_t bytes, std::size_t guard_bytes) noexcept
        : address_(address), bytes_(bytes), guard_bytes_(guard_bytes) {}
    void reset() noexcept;

    std::byte* address_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t guard_bytes_ = 0;
};

}  // namespace vmcow
