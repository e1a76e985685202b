#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/meter/model/workload.hpp"

namespace vmcow::meter {

/// What one way to share a value cost for a workload.
struct EngineNumbers {
    double build_seconds = 0;
    double read_ns = 0;                                ///< to read a word where a write went
    double write_ns = 0;                               ///< for a write, with the copies that it causes
    double hand_over_seconds = 0;                      ///< to hand the value to one child
    std::optional<std::uint64_t> memory_before_bytes;  ///< of the value alone
    std::optional<std::uint64_t> memory_after_bytes;   ///< of the value and everything that the children hold
    std::optional<std::uint64_t> copied_bytes;         ///< for all children together
    std::uint64_t checksum = 0;                        ///< of what the last child read: the same on every engine
    std::optional<double> amplification;               ///< bytes copied for each byte that the children wrote

    [[nodiscard]] double total_seconds(const Workload& workload, std::uint64_t children) const noexcept;
};

/// The numbers of one engine or peer, with its name.
struct EngineFigures : EngineNumbers {
    std::string name;
    bool is_peer = false;  ///< a program in another language, which is compared but never advised
};

/// The names of the engines, in the order in which they are compared:
///
///     deep-copy       each child gets a copy of all
///     whole-buffer    a counted buffer, copied as a whole by a child's first write (heap/list.hpp)
///     pages           a snapshot, mapped privately (view.hpp)
///     pages-resident  a view for one call after the other: pages that were copied stay, and are refreshed
///                     (resident_view.hpp)
///     moved           no copy: the child gets the value itself, and hands it on
///     block-8 … 4096  a tree of blocks of that many bytes (heap/block_array.hpp)
///     dedup           blocks of 256 bytes; equal blocks become one block when they are handed over
///                     (heap/block_table.hpp)
[[nodiscard]] const std::vector<std::string>& engine_names();

/// Builds a value of pseudo-random words, hands it to one child after the other, and applies the writes to the child's
/// value, where no other child sees them. What the children hold is kept until the end, unless a child gets the value
/// itself.
///
/// Pre:    the workload is valid; the name is one of `engine_names`; at least one child.
/// Throws: std::system_error -- ENOMEM, EMFILE; std::bad_alloc. Nothing is left behind.
[[nodiscard]] EngineFigures run_engine(std::string_view name, const Workload& workload, std::uint64_t children);

/// Calls `run_engine` in a forked process. As in the process of a peer, no earlier engine has fragmented the heap, and
/// the pages are fresh from the kernel.
///
/// Pre:    as `run_engine`; this process has one thread.
/// Throws: std::runtime_error -- what went wrong in that process, or how it ended.
[[nodiscard]] EngineFigures run_engine_apart(std::string_view name, const Workload& workload, std::uint64_t children);

/// About the most memory, in bytes, that `run_engine` takes.
[[nodiscard]] std::uint64_t engine_memory_needed(std::string_view name, const Workload& workload,
                                                 std::uint64_t children);

/// One sentence that says which engine to use for the workload, and why.
[[nodiscard]] std::string advise(const std::vector<EngineFigures>& engines, const Workload& workload,
                                 std::uint64_t children);

}  // namespace vmcow::meter
