#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/measure/what_if.hpp"
#include "vmcow/units.hpp"

namespace vmcow::measure {

/// What was counted of a mapping, or of all mappings of a process. A page counts in at most one of shared, copied and
/// new; what is unknown has no value (I8). How each is found stands at `follow`.
struct PageFigures {
    std::uint64_t resident_bytes = 0;   ///< in memory, whoever else has it too
    std::uint64_t anonymous_bytes = 0;  ///< pages, in memory or in swap, that are not pages of a file
    std::uint64_t shared_bytes = 0;     ///< anonymous pages that are still the same as the parent's
    PageCount copied = {};  ///< pages that were shared with the parent or with a file, and no longer are: a write by
                            ///< either side has made a copy
    PageCount copied_by_child = {};
    PageCount copied_by_parent = {};
    PageCount copied_by_unknown = {};
    /// Of these, pages of which a sibling counts the same copy: the parent has made one, and both still share the page
    /// that it has left. In a sum over processes they count once (`add_process`).
    PageCount copied_with_sibling = {};
    PageCount copied_early = {};  ///< of these, those that were no longer shared at the first look (PageLineage::early)
    std::uint64_t new_bytes = 0;  ///< allocated since the fork, since exec, or since the first look
    std::uint64_t swapped_bytes = 0;
    /// Copied pages that were compared byte by byte with what they are a copy of, as it is now; nothing where nobody
    /// asked, or where none could be.
    std::optional<PageCount> compared = {};
    std::optional<PageCount> identical = {};          ///< of these, pages in which nothing differs
    std::optional<std::uint64_t> changed_bytes = {};  ///< bytes of them that differ

    /// Bytes copied for each byte that differs, of the pages that were compared. What a foreign program has written is
    /// not known, only what differs in the end; so this is more than bytes copied for each byte written where the same
    /// was written again. Nothing where nothing was compared or nothing differs.
    [[nodiscard]] std::optional<double> amplification() const noexcept;
    /// Copies whose writer is known, or nothing where there are copies and it is known of none.
    [[nodiscard]] std::optional<std::uint64_t> known_by_parent() const noexcept;
    [[nodiscard]] std::optional<std::uint64_t> known_by_child() const noexcept;

    PageFigures& operator+=(const PageFigures& other) noexcept;
    /// The same sum, where `other` is what another process has: a copy that both count goes in once.
    void add_process(const PageFigures& other) noexcept;
};

struct MappingSample {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::string name;  ///< as in /proc/PID/maps; "[anonymous]" for nameless memory
    PageFigures figures;
};

/// How many pages were copied within 2 MiB of addresses.
struct ChunkCopies {
    std::uint64_t chunk = 0;  ///< the address divided by 2 MiB
    std::uint32_t pages = 0;
};

struct ProcessSample {
    pid_t pid = 0;
    pid_t parent = 0;
    std::string command;
    bool has_parent = false;  ///< copies are those since the fork from `parent`, which is looked at as well
    PageFigures figures;
    std::vector<ChunkCopies> copies;      ///< where there are any, ascending
    std::vector<MappingSample> mappings;  ///< those that have a page in memory or in swap, ascending
    std::size_t mappings_left_out = 0;
    std::optional<BlockCounts> changed_blocks;  ///< of the pages that were compared; nothing where none were

    /// Leaves at most `most` mappings: those with the most copies, then those with most in memory.
    void keep_most_copied(std::size_t most);
};

/// A process and its relatives at one moment.
struct FamilySample {
    double time = 0;     ///< seconds since 1970, when the pages were looked at; comparing them comes after
    double elapsed = 0;  ///< seconds since the watch began
    std::vector<ProcessSample> processes;
    PageFigures total;  ///< the sum of what each has (`add_process`); a page that several share is resident in each
};

}  // namespace vmcow::measure
