#include "vmcow/image/slot.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>

#include "vmcow/image/fork_lock.hpp"
#include "vmcow/image/slot_book.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow {
namespace {

/// Behind every slot that was not claimed, nothing is ever mapped in this many bytes: running past the end of one image
/// does not lead into the next one.
constexpr std::size_t kGuardBytes = kHugeBytes;

constexpr std::size_t kLargest = std::size_t{1} << 47;  // the user half of a 48-bit address space

/// The book of this process, used under fork_lock. Never destroyed: slots may outlive every static object.
SlotBook& book() {
    static auto* const made = new SlotBook;
    return *made;
}

std::size_t to_steps(std::size_t bytes) noexcept { return std::max(round_up(bytes, kHugeBytes), kHugeBytes); }
std::size_t steps_of_room(std::size_t bytes) noexcept { return round_up(std::min(bytes, kLargest), kHugeBytes); }

}  // namespace

Slot Slot::reserve(std::size_t bytes, std::size_t room) {
    std::byte* address = nullptr;
    if (bytes <= kLargest) {
        const std::scoped_lock lock(fork_lock());
        address = book().take(to_steps(bytes) + kGuardBytes, steps_of_room(room));
    }
    if (address == nullptr) {
        sys::throw_error(ENOMEM, "reserve " + std::to_string(bytes) +
                                     " bytes of address space: drop values or snapshots to give theirs back");
    }
    return {address, to_steps(bytes), kGuardBytes, steps_of_room(room)};
}

std::optional<Slot> Slot::claim(const void* address, std::size_t bytes) {
    if (reinterpret_cast<std::uintptr_t>(address) % kHugeBytes != 0 || bytes > kLargest) return std::nullopt;
    auto* const wanted = static_cast<std::byte*>(const_cast<void*>(address));
    const std::scoped_lock lock(fork_lock());
    if (!book().take_at(wanted, to_steps(bytes))) return std::nullopt;
    return Slot(wanted, to_steps(bytes), 0, 0);
}

void Slot::leave_inherited_to_claims() {
    const std::scoped_lock lock(fork_lock());
    book().leave_inherited_to_claims();
}

Slot::Slot(Slot&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      guard_bytes_(std::exchange(other.guard_bytes_, 0)),
      most_bytes_(std::exchange(other.most_bytes_, 0)) {}

Slot& Slot::operator=(Slot&& other) noexcept {
    if (this != &other) {
        reset();
        address_ = std::exchange(other.address_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
        guard_bytes_ = std::exchange(other.guard_bytes_, 0);
        most_bytes_ = std::exchange(other.most_bytes_, 0);
    }
    return *this;
}

Slot::~Slot() { reset(); }

std::size_t Slot::room_bytes() const noexcept {
    if (bytes_ == most_bytes_) return bytes_;
    const std::scoped_lock lock(fork_lock());
    return std::min(most_bytes_, bytes_ + book().free_behind(address_ + bytes_ + guard_bytes_));
}

bool Slot::extend(std::size_t bytes) noexcept {
    if (bytes <= bytes_) return true;
    if (bytes > most_bytes_) return false;
    const std::size_t wanted = to_steps(bytes);
    const std::scoped_lock lock(fork_lock());
    // The old guard becomes part of the slot, and the last bytes that are taken become the new guard.
    if (!book().extend(address_ + bytes_ + guard_bytes_, wanted - bytes_)) return false;
    bytes_ = wanted;
    return true;
}

void Slot::shrink(std::size_t bytes, std::size_t room) noexcept {
    const std::size_t kept = to_steps(bytes);
    VMCOW_ASSERT(kept <= bytes_ && "a slot shrinks");
    if (kept == bytes_ && most_bytes_ == bytes_ && room == 0) return;
    const std::scoped_lock lock(fork_lock());
    // The old guard is given back, and the first bytes behind what is kept become the new guard.
    book().give_back(address_ + kept + guard_bytes_, bytes_ - kept, steps_of_room(room));
    bytes_ = kept;
    most_bytes_ = kept + steps_of_room(room);
}

void Slot::reset() noexcept {
    if (address_ != nullptr) {
        const std::scoped_lock lock(fork_lock());
        book().give_back(address_, bytes_ + guard_bytes_);
    }
    address_ = nullptr;
    bytes_ = 0;
    guard_bytes_ = 0;
    most_bytes_ = 0;
}

}  // namespace vmcow
