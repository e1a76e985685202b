#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "vmcow/measure/trace.hpp"

namespace vmcow::measure {

/// The bytes of copied pages that differ from what was copied, as writes that make the same copies when they are
/// replayed.
///
/// Where and how a program wrote cannot be seen from outside: a page fault tells the first address that was written in
/// a page, and nothing of the length, nor of the writes that follow. What differs in the end can: so a write is a run
/// of bytes that differ, as the last look at its process found them. Pages that were copied and do not differ, and
/// bytes that were written with what they had, are not among them.
///
/// Shape: the 2 MiB chunks of addresses in which something differs, of each process, one behind the other; within a
///        chunk everything keeps its place, so that blocks of up to 2 MiB are hit as they were.
/// Cost:  16 bytes a run; at most kMostWrites of them, and pages beyond are counted.
class ChangeRecord {
public:
    static constexpr std::size_t kMostWrites = std::size_t{1} << 22;

    /// A look at a process begins.
    void begin();
    /// Two pages, as they are at `address` in the process and as they were.
    void add(std::uint64_t address, const std::byte* now, const std::byte* before);
    /// The look is over, and takes the place of the one before. Not so one that was cut short because a process has
    /// ended, nor one that had no relative to compare with when the one before had.
    void end(pid_t pid, bool whole, bool with_relative);

    [[nodiscard]] bool empty() const noexcept { return writes_ == writes_of_look_; }
    [[nodiscard]] std::uint64_t pages_left_out() const noexcept { return pages_left_out_; }
    /// The writes in the order of their processes' numbers and of their addresses. Pre: not empty().
    [[nodiscard]] Trace trace() const;

private:
    using Chunks = std::map<std::uint64_t, std::vector<TracedWrite>>;  ///< by number; offsets are in the chunk

    struct Look {
        Chunks chunks;
        bool with_relative = false;
    };

    std::map<pid_t, Look> processes_;
    Chunks look_;
    std::size_t writes_ = 0;  ///< of all, and of the look that goes on
    std::size_t writes_of_look_ = 0;
    std::uint64_t pages_left_out_ = 0;
};

}  // namespace vmcow::measure
