#include "vmcow/slot.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>

#include "vmcow/fork_lock.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memory.hpp"
#include "vmcow/units.hpp"

namespace vmcow {
namespace {

constexpr std::size_t kRegionBytes = std::size_t{1} << 40;
constexpr std::size_t kLandingBytes = std::size_t{64} << 20;

/// Behind every slot that was not claimed lies so much that nothing is ever mapped in: running past the end of one
/// image does not lead into the next one.
constexpr std::size_t kGuardBytes = kHugeBytes;

std::uintptr_t number_of(const void* address) noexcept { return reinterpret_cast<std::uintptr_t>(address); }

/// Takes away what is mapped there and reserves the range. At the limit of mappings the kernel refuses any new one
/// before it looks at what that would replace; taking those away first makes room.
bool reserve_again(std::byte* address, std::size_t bytes) noexcept {
    if (sys::reserve_at(address, bytes) == 0) return true;
    return sys::unmap(address, bytes) == 0 && sys::reserve_hole(address, bytes) == 0;
}

/// The book of what is reserved and free. Never destroyed: slots may outlive every static object.
class SlotBook {
public:
    static SlotBook& instance() {
        static auto* const book = new SlotBook;
        return *book;
    }

    std::byte* take(std::size_t bytes) {
        const std::scoped_lock lock(fork_lock());
        auto found = first_fit(bytes);
        if (found == free_.end()) {
            if (!add_region(bytes)) return nullptr;
            found = first_fit(bytes);
        }
        return carve(free_, found, found->first, bytes);
    }

    std::byte* take_at(std::byte* address, std::size_t bytes) {
        const std::scoped_lock lock(fork_lock());
        for (Ranges* const ranges : {&free_, &claimable_}) {
            const auto after = ranges->upper_bound(address);
            if (after == ranges->begin()) continue;
            const auto range = std::prev(after);
            const std::size_t skipped = number_of(address) - number_of(range->first);
            if (skipped > range->second || bytes > range->second - skipped) continue;
            return carve(*ranges, range, address, bytes);
        }
        return nullptr;
    }

    void give_back(std::byte* address, std::size_t bytes) noexcept {
        const std::scoped_lock lock(fork_lock());
        if (!reserve_again(address, bytes)) return;  // lost, but nobody is ever given it
        Ranges& ranges = is_inherited(address) ? claimable_ : free_;
        auto [range, inserted] = ranges.emplace(address, bytes);
        if (const auto next = std::next(range); next != ranges.end() && range->first + range->second == next->first) {
            range->second += next->second;
            ranges.erase(next);
        }
        if (range != ranges.begin()) {
            if (const auto previous = std::prev(range); previous->first + previous->second == range->first) {
                previous->second += range->second;
                ranges.erase(range);
            }
        }
    }

    void leave_inherited_to_claims() {
        const std::scoped_lock lock(fork_lock());
        inherited_.merge(regions_);
        regions_.clear();
        free_.clear();
        claimable_ = inherited_;
    }

private:
    using Ranges = std::map<std::byte*, std::size_t>;

    Ranges::iterator first_fit(std::size_t bytes) {
        return std::find_if(free_.begin(), free_.end(), [&](const auto& range) { return range.second >= bytes; });
    }

    /// Reserves more address space: a whole region, or less where a limit (RLIMIT_AS, a sanitizer) forbids it.
    bool add_region(std::size_t bytes) {
        for (std::size_t wanted = std::max(kRegionBytes, bytes);; wanted = std::max(wanted / 2, bytes)) {
            if (std::byte* const address = reserve_with_landing(wanted)) {
                free_.emplace(address, wanted);
                regions_.emplace(address, wanted);
                return true;
            }
            if (wanted == bytes) return false;
        }
    }

    /// A region without its landing: the children's mappings go there first, because it lies higher than every slot.
    static std::byte* reserve_with_landing(std::size_t bytes) noexcept {
        std::byte* const address = sys::reserve(bytes + kLandingBytes);
        if (address == nullptr) return sys::reserve(bytes);
        static_cast<void>(sys::keep_out_of_children(address + bytes, kLandingBytes));
        return address;
    }

    [[nodiscard]] bool is_inherited(const std::byte* address) const noexcept {
        const auto after = inherited_.upper_bound(const_cast<std::byte*>(address));
        if (after == inherited_.begin()) return false;
        const auto region = std::prev(after);
        return address < region->first + region->second;
    }

    std::byte* carve(Ranges& ranges, Ranges::iterator range, std::byte* address, std::size_t bytes) {
        const auto [start, size] = *range;
        const auto before = static_cast<std::size_t>(address - start);
        const std::size_t after = size - before - bytes;
        if (after > 0) ranges.emplace(address + bytes, after);
        if (before > 0) {
            range->second = before;
        } else {
            ranges.erase(range);
        }
        return address;
    }

    Ranges free_;
    Ranges claimable_;  // free, but of another process's making
    Ranges regions_;    // all that was ever reserved here
    Ranges inherited_;  // the same of the process that this one was forked from
};

}  // namespace

Slot Slot::reserve(std::size_t bytes) {
    constexpr std::size_t kLargest = std::size_t{1} << 47;  // the user half of a 48-bit address space
    const std::size_t rounded = bytes > kLargest ? bytes : std::max(round_up(bytes, kHugeBytes), kHugeBytes);
    std::byte* const address = rounded > kLargest ? nullptr : SlotBook::instance().take(rounded + kGuardBytes);
    if (address == nullptr) {
        sys::throw_error(ENOMEM, "reserve " + std::to_string(bytes) + " bytes of address space");
    }
    return {address, rounded, kGuardBytes};
}

Slot Slot::reserve_up_to(std::size_t wanted, std::size_t least) {
    for (;; wanted = std::max(wanted / 2, least)) {
        try {
            return reserve(wanted);
        } catch (const std::system_error&) {
            if (wanted <= least) throw;
        }
    }
}

std::optional<Slot> Slot::claim(const void* address, std::size_t bytes) {
    if (number_of(address) % kHugeBytes != 0 || bytes > (std::size_t{1} << 47)) return std::nullopt;
    const std::size_t rounded = std::max(round_up(bytes, kHugeBytes), kHugeBytes);
    auto* const wanted = static_cast<std::byte*>(const_cast<void*>(address));
    std::byte* const taken = SlotBook::instance().take_at(wanted, rounded);
    if (taken == nullptr) return std::nullopt;
    return Slot(taken, rounded, 0);
}

void Slot::leave_inherited_to_claims() { SlotBook::instance().leave_inherited_to_claims(); }

Slot::Slot(Slot&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      guard_bytes_(std::exchange(other.guard_bytes_, 0)) {}

Slot& Slot::operator=(Slot&& other) noexcept {
    if (this != &other) {
        reset();
        address_ = std::exchange(other.address_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
        guard_bytes_ = std::exchange(other.guard_bytes_, 0);
    }
    return *this;
}

Slot::~Slot() { reset(); }

void Slot::shrink(std::size_t bytes) noexcept {
    const std::size_t kept = std::max(round_up(bytes, kHugeBytes), kHugeBytes);
    VMCOW_ASSERT(kept <= bytes_);
    if (kept == bytes_) return;
    // What was the guard is part of what goes; the first of that is the new one.
    SlotBook::instance().give_back(address_ + kept + guard_bytes_, bytes_ - kept);
    bytes_ = kept;
}

void Slot::reset() noexcept {
    if (address_ != nullptr) SlotBook::instance().give_back(address_, bytes_ + guard_bytes_);
    address_ = nullptr;
    bytes_ = 0;
    guard_bytes_ = 0;
}

}  // namespace vmcow
