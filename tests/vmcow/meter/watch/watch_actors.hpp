#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/units.hpp"

namespace tests {

/// Processes that fork each other and write to a region of memory when they are told, and do nothing otherwise: once
/// they wait, they have not even a page fault.
///
/// Shape: the first actor has the region from the start, with page i filled with i % 255 + 1, and the actors that it
///        forks inherit the region. Reserved ranges before and behind keep other mappings from joining it.
class Actors {
public:
    static constexpr std::size_t kMost = 8;

    enum class Memory { small_pages, huge_pages, private_file, shared };

    Actors(std::size_t pages, Memory memory);
    ~Actors();
    Actors(const Actors&) = delete;
    Actors& operator=(const Actors&) = delete;

    enum class Deed : int {
        nothing,
        write,    ///< writes one byte, at `offset` of each page chosen
        rewrite,  ///< writes the byte that is there
        fill,     ///< writes all bytes of each page chosen
        read,
        drop,   ///< gives the pages back: MADV_DONTNEED
        seal,   ///< makes each page chosen read-only: a separate mapping, if its neighbours are writable
        unmap,  ///< unmaps `count` pages from page `first` on
        fork,   ///< forks actor number `value`
        leave,  ///< ends the actor
        reap,   ///< waits for a child that has ended
        run,    ///< executes another program: sleep
    };
    struct Order {
        Deed deed = Deed::nothing;
        std::size_t first = 0;
        std::size_t count = 0;
        std::size_t step = 1;
        std::size_t offset = 0;
        int value = 0;
    };
    /// Returns when the actor has carried out the order.
    void tell(std::size_t actor, const Order& order);
    void write(std::size_t actor, std::size_t first, std::size_t count, std::size_t step = 1, int value = 255) {
        tell(actor, {Deed::write, first, count, step, 0, value});
    }
    void fork(std::size_t actor, std::size_t child) { tell(actor, {Deed::fork, 0, 0, 1, 0, static_cast<int>(child)}); }

    [[nodiscard]] pid_t pid(std::size_t actor) const;
    [[nodiscard]] std::uint64_t start() const { return reinterpret_cast<std::uint64_t>(region_); }
    [[nodiscard]] std::uint64_t end() const { return start() + bytes_; }
    /// Whether all of the first actor's region is in huge pages.
    [[nodiscard]] bool is_huge() const;

private:
    struct Slot {
        std::atomic<pid_t> pid;
        std::atomic<unsigned> asked;
        std::atomic<unsigned> done;
        std::atomic<unsigned> waits;  ///< how often the actor has waited for an order
        Order order;
    };
    struct Board {
        std::array<Slot, kMost> slots;
    };

    void map(Memory memory);
    static void settle(const Slot& slot);
    [[noreturn]] void serve(std::size_t actor);
    void act(const Order& order);
    void touch(const Order& order);

    std::size_t bytes_;
    std::byte* outer_ = nullptr;
    std::size_t outer_bytes_ = 0;
    std::byte* region_ = nullptr;
    Board* board_ = nullptr;
    vmcow::sys::Subreaper subreaper_;  // adopts actors whose parent ends first
};

}  // namespace tests
