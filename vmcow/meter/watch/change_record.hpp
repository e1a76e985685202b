#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "vmcow/meter/model/trace.hpp"

namespace vmcow::meter {

/// The bytes of copied pages that differ from what was copied, as writes that make the same copies when they are
/// replayed.
///
/// The writes of a program cannot be seen from outside: a page fault tells the first address that was written in a
/// page, but neither the length nor the writes that follow. The bytes that differ in the end can be seen. So a write
/// here is a run of bytes that differ, as the last look at the process found them. Copied pages that do not differ are
/// not recorded, nor are bytes that were written with the value they had.
///
/// Shape: for each process, the 2 MiB chunks of addresses in which something differs, one behind the other. Within a
///        chunk everything keeps its place, so that the same blocks of up to 2 MiB are hit.
/// Cost:  16 bytes a run. At most kMostWrites runs are kept; the pages of further runs are only counted.
class ChangeRecord {
public:
    static constexpr std::size_t kMostWrites = std::size_t{1} << 22;

    /// Begins a look at a process.
    void begin();
    /// Compares the page at `address` in the process, as it is `now`, with the page as it was `before`.
    void add(std::uint64_t address, const std::byte* now, const std::byte* before);
    /// Ends the look, which takes the place of the look before it. The look before is kept instead if this one was cut
    /// short because a process ended, or had no relative to compare with while the look before had one.
    void end(pid_t pid, bool whole, bool with_relative);

    [[nodiscard]] bool empty() const noexcept { return writes_ == writes_of_look_; }
    [[nodiscard]] std::uint64_t pages_left_out() const noexcept { return pages_left_out_; }
    /// The writes, ordered by process ID and then by address. Pre: not empty().
    [[nodiscard]] Trace trace() const;

private:
    using Chunks = std::map<std::uint64_t, std::vector<TracedWrite>>;  ///< by chunk number; offsets begin at the chunk

    struct Look {
        Chunks chunks;
        bool with_relative = false;
    };

    std::map<pid_t, Look> processes_;
    Chunks look_;
    std::size_t writes_ = 0;  ///< of all processes and of the look in progress
    std::size_t writes_of_look_ = 0;
    std::uint64_t pages_left_out_ = 0;
};

}  // namespace vmcow::meter
