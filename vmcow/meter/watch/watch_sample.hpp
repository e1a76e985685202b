#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/meter/model/what_if.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {

/// What was counted in a mapping, or in all mappings of a process. A page counts in at most one of shared, copied and
/// new. What is unknown has no value (I8). `follow` in page_lineage.hpp says how each is found.
struct PageFigures {
    std::uint64_t resident_bytes = 0;   ///< in memory, shared with other processes or not
    std::uint64_t anonymous_bytes = 0;  ///< in memory or in swap, in pages that are not pages of a file
    std::uint64_t shared_bytes = 0;     ///< anonymous pages that are still shared with the parent
    /// Pages that were shared with the parent or with a file and no longer are: a write by either side has made a copy.
    PageCount copied = {};
    PageCount copied_by_child = {};
    PageCount copied_by_parent = {};
    PageCount copied_by_unknown = {};
    /// Copied pages of which a sibling counts the same copy: the parent has made one copy, and both siblings still
    /// share the old page. In a sum over processes they count once (`add_process`).
    PageCount copied_with_sibling = {};
    PageCount copied_early = {};  ///< copied pages that were no longer shared at the first look (PageLineage::early)
    std::uint64_t new_bytes = 0;  ///< allocated since the fork, since exec, or since the first look
    std::uint64_t swapped_bytes = 0;
    /// Copied pages that were compared byte by byte with the original as it is now. Nothing if no comparison was asked
    /// for, or none was possible.
    std::optional<PageCount> compared = {};
    std::optional<PageCount> identical = {};          ///< compared pages in which nothing differs
    std::optional<std::uint64_t> changed_bytes = {};  ///< bytes that differ in the compared pages

    /// Bytes copied for each byte that differs, in the pages that were compared. Which bytes a foreign program wrote is
    /// not known, only which differ in the end. So this is more than the bytes copied for each byte written if the
    /// program wrote bytes again or with the value that they had. Nothing if nothing was compared or nothing differs.
    [[nodiscard]] std::optional<double> amplification() const noexcept;
    /// Copies that the parent is known to have made; nothing if there are copies, but no writer is known.
    [[nodiscard]] std::optional<std::uint64_t> known_by_parent() const noexcept;
    /// Copies that the process itself is known to have made; nothing if there are copies, but no writer is known.
    [[nodiscard]] std::optional<std::uint64_t> known_by_child() const noexcept;

    PageFigures& operator+=(const PageFigures& other) noexcept;
    /// Adds what another process has. A copy that both processes count goes into the sum once.
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
    bool has_parent = false;  ///< copies are counted since the fork from `parent`, which is looked at as well
    PageFigures figures;
    std::vector<ChunkCopies> copies;      ///< of chunks that have any, ascending
    std::vector<MappingSample> mappings;  ///< with a page in memory or in swap, ascending
    std::size_t mappings_left_out = 0;
    std::optional<BlockCounts> changed_blocks;  ///< in the pages that were compared; nothing if none were

    /// Keeps at most `most` mappings: those with the most copies, then those with the most in memory.
    void keep_most_copied(std::size_t most);
};

/// A process and its relatives at one moment.
struct FamilySample {
    double time = 0;     ///< when the pages were looked at, before they were compared; seconds since 1970
    double elapsed = 0;  ///< seconds since the watch began
    std::vector<ProcessSample> processes;
    PageFigures total;  ///< the sum over processes (`add_process`); a page that several share is resident in each
};

}  // namespace vmcow::meter
