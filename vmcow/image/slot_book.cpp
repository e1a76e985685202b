#include "vmcow/image/slot_book.hpp"

#include <pthread.h>

#include <algorithm>
#include <new>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/mmap.hpp"

namespace vmcow {
namespace {

/// How many forks lie between this process and the first one. What was kept out of children is missing after any fork.
std::uint64_t generation = 0;

/// Takes away what is mapped there and reserves the range. At the limit of mappings the kernel refuses a new mapping
/// before it looks at what that would replace; unmapping first makes room.
bool reserve_again(std::byte* address, std::size_t bytes) noexcept {
    if (sys::reserve_at(address, bytes) == 0) return true;
    return sys::unmap(address, bytes) == 0 && sys::reserve_hole(address, bytes) == 0;
}

bool is_in_steps(std::size_t bytes) noexcept { return bytes % kHugeBytes == 0; }

}  // namespace

SlotBookLimits SlotBookLimits::of_process() noexcept {
    SlotBookLimits limits;
#if defined(__SANITIZE_THREAD__)
    limits.most_for_room = limits.region_bytes;
#endif
    return limits;
}

SlotBook::SlotBook(const SlotBookLimits& limits) : limits_(limits) {
    static const int handled = ::pthread_atfork(nullptr, nullptr, [] { ++generation; });
    if (handled != 0) sys::throw_error(handled, "register for forks");
}

SlotBook::~SlotBook() {
    while (!regions_.empty()) {
        VMCOW_ASSERT(regions_.begin()->second.taken_bytes == 0 && "the slots end before their book");
        release(regions_.begin());
    }
}

std::byte* SlotBook::take(std::size_t bytes, std::size_t room) {
    VMCOW_ASSERT(is_in_steps(bytes) && is_in_steps(room) && "a slot has whole steps of 2 MiB");
    Place place{};
    bool found = find_beyond_room(bytes + room, place);
    if (!found && may_reserve_for_room(bytes + room) && add_region(std::max(limits_.region_bytes, bytes + room))) {
        found = find_beyond_room(bytes + room, place);
    }
    found = found || find_among_room(bytes, room, place);
    if (!found && add_region_under_limit(bytes)) found = find_among_room(bytes, room, place);
    if (!found) return nullptr;
    carve(free_, place, bytes, room);
    region_of(regions_, place.address)->second.taken_bytes += bytes;
    return place.address;
}

bool SlotBook::take_at(std::byte* address, std::size_t bytes) {
    VMCOW_ASSERT(is_in_steps(reinterpret_cast<std::uintptr_t>(address)) && is_in_steps(bytes) && "steps of 2 MiB");
    for (FreeRanges* const ranges : {&free_, &claimable_}) {
        const auto after = ranges->get<ByStart>().upper_bound(address);
        if (after == ranges->get<ByStart>().begin()) continue;
        const auto range = std::prev(after);
        const auto skipped = static_cast<std::size_t>(address - range->start);
        if (skipped > range->bytes || bytes > range->bytes - skipped) continue;
        carve(*ranges, {range, address}, bytes, 0);
        if (ranges == &free_) region_of(regions_, address)->second.taken_bytes += bytes;
        return true;
    }
    return false;
}

bool SlotBook::extend(std::byte* end, std::size_t bytes) noexcept {
    VMCOW_ASSERT(is_in_steps(bytes) && "a slot has whole steps of 2 MiB");
    if (bytes == 0) return true;
    if (free_behind(end) < bytes) return false;
    const bool own = region_of(regions_, end) != regions_.end();
    FreeRanges& ranges = own ? free_ : claimable_;
    const auto range = ranges.get<ByStart>().find(end);
    if (auto wish = rooms_.extract(end); !wish.empty()) {
        wish.key() = end + bytes;
        wish.mapped() = std::max(wish.mapped(), wish.key());
        rooms_.insert(std::move(wish));
    }
    if (own) region_of(regions_, end)->second.taken_bytes += bytes;
    if (bytes == range->bytes) {
        ranges.get<ByStart>().erase(range);
    } else {
        resize(ranges, range, end + bytes, range->bytes - bytes);
    }
    return true;
}

std::size_t SlotBook::free_behind(const std::byte* end) const noexcept {
    for (const FreeRanges* const ranges : {&free_, &claimable_}) {
        const auto range = ranges->get<ByStart>().find(const_cast<std::byte*>(end));
        if (range != ranges->get<ByStart>().end()) return range->bytes;
    }
    return 0;
}

void SlotBook::give_back(std::byte* address, std::size_t bytes, std::size_t room) noexcept {
    VMCOW_ASSERT(is_in_steps(bytes) && is_in_steps(room) && "a slot has whole steps of 2 MiB");
    set_room(address + bytes, address, room);
    if (bytes == 0) {
        for (FreeRanges* const ranges : {&free_, &claimable_}) {
            const auto behind = ranges->get<ByStart>().find(address);
            if (behind != ranges->get<ByStart>().end()) resize(*ranges, behind, behind->start, behind->bytes);
        }
        return;
    }
    const auto own = region_of(regions_, address);
    const bool is_own = own != regions_.end();
    const auto region = is_own ? own : region_of(inherited_, address);
    VMCOW_ASSERT(region != inherited_.end() && "the range lies in no region");
    bool is_free = reserve_again(address, bytes);
    if (is_free) is_free = add_free(is_own ? free_ : claimable_, region, address, bytes);
    if (!is_free) note_lost(address, bytes);
    if (!is_own) return;
    VMCOW_ASSERT(bytes <= own->second.taken_bytes && "more is given back than was taken");
    own->second.taken_bytes -= bytes;
    if (own->second.taken_bytes == 0) release_spare(own);
}

/// Notes that the slot that ended at `end` ends at `new_end` now. If it has a wish for room, that becomes the `room`
/// bytes behind `new_end`; 0 drops the wish.
void SlotBook::set_room(const std::byte* end, const std::byte* new_end, std::size_t room) noexcept {
    auto wish = rooms_.extract(end);
    if (wish.empty() || room == 0) return;
    wish.key() = new_end;
    wish.mapped() = new_end + room;
    rooms_.insert(std::move(wish));
}

void SlotBook::leave_inherited_to_claims() {
    inherited_.merge(regions_);
    regions_.clear();
    free_.clear();
    claimable_.clear();
    rooms_.clear();
    for (const auto& [start, region] : inherited_) claimable_.insert({start, region.bytes, 0});
    for (const auto& [address, bytes] : lost_) {
        const auto after = claimable_.get<ByStart>().upper_bound(address);
        carve(claimable_, {std::prev(after), address}, bytes, 0);
    }
}

std::size_t SlotBook::reserved_bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& [start, region] : regions_) sum += region.bytes;
    return sum;
}

std::size_t SlotBook::taken_bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& [start, region] : regions_) sum += region.taken_bytes;
    return sum;
}

/// Finds the smallest range that has `bytes` beyond the room of others, so that large ranges stay whole.
bool SlotBook::find_beyond_room(std::size_t bytes, Place& place) {
    const auto range = free_.get<ByFree>().lower_bound(bytes);
    if (range == free_.get<ByFree>().end()) return false;
    place = {free_.project<ByStart>(range), range->start + range->room};
    return true;
}

/// Finds a place when no range has all that is wanted beyond the room of others. The place is in the largest range. The
/// slot before that range keeps half of it as its room, or more if less is wanted.
bool SlotBook::find_among_room(std::size_t bytes, std::size_t room, Place& place) {
    if (free_.empty()) return false;
    const auto freest = std::prev(free_.get<ByFree>().end());
    const auto largest = std::prev(free_.get<BySize>().end());
    if (largest->bytes < bytes) return false;
    const std::size_t half = round_down((largest->bytes - bytes) / 2, kHugeBytes);
    if (freest->beyond_room() >= bytes + half) {
        place = {free_.project<ByStart>(freest), freest->start + freest->room};
        return true;
    }
    const std::size_t spared = largest->bytes - bytes - std::min(room, largest->bytes - bytes);
    place = {free_.project<ByStart>(largest), largest->start + std::max(half, spared)};
    return true;
}

bool SlotBook::may_reserve_for_room(std::size_t bytes) const noexcept {
    std::size_t sum = std::max(limits_.region_bytes, bytes);
    for (const Regions* const regions : {&regions_, &inherited_}) {
        for (const auto& [start, region] : *regions) sum += region.bytes;
    }
    return sum <= limits_.most_for_room;
}

/// Reserves a region, with a landing if there can be one. The mappings of children go to the landing first, because it
/// lies higher than every slot.
bool SlotBook::add_region(std::size_t bytes) {
    std::size_t landing = limits_.landing_bytes;
    std::byte* address = sys::reserve(bytes + landing);
    if (address == nullptr) {
        landing = 0;
        address = sys::reserve(bytes);
    }
    if (address == nullptr) return false;
    if (landing > 0) static_cast<void>(sys::keep_out_of_children(address + bytes, landing));
    auto region = regions_.end();
    try {
        region = regions_.emplace(address, Region{bytes, landing, 0, next_number_++, generation}).first;
        free_.insert({address, bytes, 0});
    } catch (...) {
        if (region != regions_.end()) regions_.erase(region);
        static_cast<void>(sys::unmap(address, bytes + landing));
        throw;
    }
    return true;
}

/// Reserves a whole region, or less if a limit (RLIMIT_AS, a sanitizer) forbids it: half of what the limit allows, so
/// that the process has something left too, but at least `bytes`.
bool SlotBook::add_region_under_limit(std::size_t bytes) {
    const std::size_t whole = std::max(limits_.region_bytes, bytes);
    for (std::size_t wanted = whole;; wanted = std::max(round_down(wanted / 2, kHugeBytes), bytes)) {
        if (std::byte* const probe = sys::reserve(wanted)) {
            static_cast<void>(sys::unmap(probe, wanted));
            const std::size_t half = std::max(round_down(wanted / 2, kHugeBytes), bytes);
            if (add_region(wanted < whole ? half : wanted)) return true;
        }
        if (wanted == bytes) return false;
    }
}

std::size_t SlotBook::room_at(const std::byte* start, std::size_t bytes) const noexcept {
    const auto wish = rooms_.find(start);
    return wish == rooms_.end() ? 0 : std::min(bytes, static_cast<std::size_t>(wish->second - start));
}

void SlotBook::carve(FreeRanges& ranges, const Place& place, std::size_t bytes, std::size_t room) {
    std::byte* const end = place.address + bytes;
    const auto before = static_cast<std::size_t>(place.address - place.range->start);
    const std::size_t after = place.range->bytes - before - bytes;
    if (room > 0) rooms_.emplace(end, end + room);
    try {
        if (after > 0) ranges.insert({end, after, room_at(end, after)});
    } catch (...) {
        rooms_.erase(end);
        throw;
    }
    if (before > 0) {
        resize(ranges, place.range, place.range->start, before);
    } else {
        ranges.get<ByStart>().erase(place.range);
    }
}

void SlotBook::resize(FreeRanges& ranges, RangeIterator range, std::byte* start, std::size_t bytes) noexcept {
    ranges.get<ByStart>().modify(range, [&](FreeRange& changed) { changed = {start, bytes, room_at(start, bytes)}; });
}

/// Adds a free range and joins it with its free neighbours in the region. False when there is no memory to note it.
bool SlotBook::add_free(FreeRanges& ranges, Regions::const_iterator region, std::byte* address,
                        std::size_t bytes) noexcept {
    auto& by_start = ranges.get<ByStart>();
    const auto next = by_start.lower_bound(address);
    std::size_t all = bytes;
    const bool joins_next =
        next != by_start.end() && next->start == address + bytes && next->start < region->first + region->second.bytes;
    if (joins_next) all += next->bytes;
    if (next != by_start.begin() && address > region->first) {
        const auto previous = std::prev(next);
        if (previous->start + previous->bytes == address) {
            if (joins_next) by_start.erase(next);
            resize(ranges, previous, previous->start, previous->bytes + all);
            return true;
        }
    }
    if (joins_next) {
        resize(ranges, next, address, all);
        return true;
    }
    try {
        ranges.insert({address, bytes, room_at(address, bytes)});
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

void SlotBook::note_lost(std::byte* address, std::size_t bytes) noexcept {
    try {
        lost_.emplace(address, bytes);
    } catch (const std::bad_alloc&) {
        return;
    }
}

SlotBook::Regions::iterator SlotBook::region_of(Regions& regions, const std::byte* address) noexcept {
    const auto after = regions.upper_bound(const_cast<std::byte*>(address));
    if (after == regions.begin()) return regions.end();
    const auto region = std::prev(after);
    return address < region->first + region->second.bytes ? region : regions.end();
}

/// Gives an empty region back, unless it is the only one. The oldest empty region stays, because processes that were
/// forked since have it too. One larger than usual never stays.
void SlotBook::release_spare(Regions::iterator empty) noexcept {
    if (empty->second.bytes > limits_.region_bytes) return release(empty);
    for (auto other = regions_.begin(); other != regions_.end(); ++other) {
        if (other == empty || other->second.taken_bytes > 0) continue;
        return release(other->second.number < empty->second.number ? empty : other);
    }
}

/// Gives a region back. Only free ranges are unmapped: what was lost of the region may be somebody else's.
void SlotBook::release(Regions::iterator region) noexcept {
    auto& by_start = free_.get<ByStart>();
    std::byte* const end = region->first + region->second.bytes;
    for (auto range = by_start.lower_bound(region->first); range != by_start.end() && range->start < end;) {
        if (sys::unmap(range->start, range->bytes) != 0) return;  // at the limit of mappings: the rest stays
        note_lost(range->start, range->bytes);
        range = by_start.erase(range);
    }
    if (region->second.generation == generation && region->second.landing_bytes > 0) {
        static_cast<void>(sys::unmap(end, region->second.landing_bytes));
    }
    lost_.erase(lost_.lower_bound(region->first), lost_.lower_bound(end));
    regions_.erase(region);
}

}  // namespace vmcow
