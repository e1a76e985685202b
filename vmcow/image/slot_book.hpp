#pragma once

#include <boost/multi_index/mem_fun.hpp>
#include <boost/multi_index/member.hpp>
#include <boost/multi_index/ordered_index.hpp>
#include <boost/multi_index_container.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>

#include "vmcow/units.hpp"

namespace vmcow {

/// How much address space a book takes from the kernel.
struct SlotBookLimits {
    std::size_t region_bytes = std::size_t{1} << 40;
    std::size_t landing_bytes = std::size_t{64} << 20;
    /// Beyond this many bytes in all regions, no region is reserved for room alone: half of what 47 bits can name is
    /// left to the process.
    std::size_t most_for_room = std::size_t{1} << 46;

    /// The limits of this process: the thread sanitizer ends a program that maps beyond the highest 1.5 TiB.
    [[nodiscard]] static SlotBookLimits of_process() noexcept;
};

/// Which addresses are reserved, which of them are taken, and which slots would like to have what lies behind them.
///
///     region  |--- taken ---|~~~ its room ~~~|--- taken ---|--- taken ---|~~~ room ~~~|------ free ------|
///
/// The room of a slot is a wish: a free range, whose first bytes are kept for the slot before it to grow into. A new
/// slot gets, in this order: a free range that has all it wants beyond the room of others; a new region; the half of
/// the largest room. So each slot has much room while there is much, and about as much as others when there is not.
///
/// A region that is all free goes back to the kernel, except for one: slots that come and go need not reserve it each
/// time.
///
/// Sizes and addresses are in steps of 2 MiB.
///
/// Cost:    O(log n) for n free ranges, and the system call that takes away what was mapped.
/// Threads: one at a time; the process's book is used under fork_lock.
class SlotBook {
public:
    explicit SlotBook(const SlotBookLimits& limits = SlotBookLimits::of_process());
    /// Gives all regions back.
    /// Pre: nothing is taken.
    ~SlotBook();
    SlotBook(const SlotBook&) = delete;
    SlotBook& operator=(const SlotBook&) = delete;

    /// Takes `bytes` anywhere, with `room` behind them or as much of it as there is. nullptr when there is no such
    /// range.
    /// Throws: std::bad_alloc -- the book is as before, except for one more region.
    [[nodiscard]] std::byte* take(std::size_t bytes, std::size_t room = 0);
    /// Takes exactly this range, if it is free; else returns false.
    /// Throws: std::bad_alloc -- the book is as before.
    [[nodiscard]] bool take_at(std::byte* address, std::size_t bytes);
    /// Takes the `bytes` behind the slot that ends at `end`; they become part of that slot. False when they are not
    /// free.
    [[nodiscard]] bool extend(std::byte* end, std::size_t bytes) noexcept;
    /// How many bytes are free behind the slot that ends at `end`.
    [[nodiscard]] std::size_t free_behind(const std::byte* end) const noexcept;
    /// Gives back the end of a slot, or all of it, whatever is mapped there. What stays of the slot, if anything does,
    /// has `room` behind it from now on.
    void give_back(std::byte* address, std::size_t bytes, std::size_t room = 0) noexcept;

    /// For a child: what was reserved so far can only be taken by `take_at` from now on, also after it was given back.
    void leave_inherited_to_claims();

    [[nodiscard]] std::size_t region_count() const noexcept { return regions_.size(); }
    /// The bytes of the regions that this process has made, without landings.
    [[nodiscard]] std::size_t reserved_bytes() const noexcept;
    [[nodiscard]] std::size_t taken_bytes() const noexcept;
    [[nodiscard]] std::size_t free_range_count() const noexcept { return free_.size(); }

private:
    struct FreeRange {
        std::byte* start;
        std::size_t bytes;
        std::size_t room;  // of these, at the start: what the slot before wishes for

        [[nodiscard]] std::size_t beyond_room() const noexcept { return bytes - room; }
    };
    struct ByStart;
    struct ByFree;
    struct BySize;
    using FreeRanges = boost::multi_index_container<
        FreeRange,
        boost::multi_index::indexed_by<
            boost::multi_index::ordered_unique<boost::multi_index::tag<ByStart>,
                                               boost::multi_index::member<FreeRange, std::byte*, &FreeRange::start>>,
            boost::multi_index::ordered_non_unique<
                boost::multi_index::tag<ByFree>,
                boost::multi_index::const_mem_fun<FreeRange, std::size_t, &FreeRange::beyond_room>>,
            boost::multi_index::ordered_non_unique<
                boost::multi_index::tag<BySize>,
                boost::multi_index::member<FreeRange, std::size_t, &FreeRange::bytes>>>>;
    using RangeIterator = FreeRanges::index_iterator<ByStart>::type;

    struct Region {
        std::size_t bytes;
        std::size_t landing_bytes;
        std::size_t taken_bytes;
        std::uint64_t number;      // in the order in which regions were made
        std::uint64_t generation;  // of the process that made the region: children have no landing
    };
    using Regions = std::map<std::byte*, Region>;

    struct Place {
        RangeIterator range;
        std::byte* address;
    };

    [[nodiscard]] bool find_beyond_room(std::size_t bytes, Place& place);
    [[nodiscard]] bool find_among_room(std::size_t bytes, std::size_t room, Place& place);
    [[nodiscard]] bool may_reserve_for_room(std::size_t bytes) const noexcept;
    [[nodiscard]] bool add_region(std::size_t bytes);
    [[nodiscard]] bool add_region_under_limit(std::size_t bytes);

    void carve(FreeRanges& ranges, const Place& place, std::size_t bytes, std::size_t room);
    [[nodiscard]] std::size_t room_at(const std::byte* start, std::size_t bytes) const noexcept;
    void resize(FreeRanges& ranges, RangeIterator range, std::byte* start, std::size_t bytes) noexcept;
    void set_room(const std::byte* end, const std::byte* new_end, std::size_t room) noexcept;
    [[nodiscard]] bool add_free(FreeRanges& ranges, Regions::const_iterator region, std::byte* address,
                                std::size_t bytes) noexcept;
    void note_lost(std::byte* address, std::size_t bytes) noexcept;

    [[nodiscard]] static Regions::iterator region_of(Regions& regions, const std::byte* address) noexcept;
    void release_spare(Regions::iterator empty) noexcept;
    void release(Regions::iterator region) noexcept;

    SlotBookLimits limits_;
    FreeRanges free_;
    FreeRanges claimable_;  // free, in regions that a parent has made
    Regions regions_;       // the regions that this process has made
    Regions inherited_;     // the regions of the processes that this one was forked from
    std::unordered_map<const std::byte*, const std::byte*> rooms_;  // from the end of a slot to the end of its room
    std::map<std::byte*, std::size_t> lost_;                        // could not be reserved again; may be anybody's
    std::uint64_t next_number_ = 0;
};

}  // namespace vmcow
