#pragma once

#include <cstdint>

namespace vmcow::measure {

/// A page of private memory as it was found at one look: a page of a file is none.
struct PageSeen {
    bool present = false;
    bool swapped = false;
    bool exclusive = false;   ///< pagemap bit 56: no other process maps it
    bool huge = false;        ///< part of a 2 MiB page that is mapped as one: `exclusive` is that of its first 4 KiB
    std::uint32_t frame = 0;  ///< the low bits of its number in the machine's memory; 0 where that is not told

    [[nodiscard]] constexpr bool exists() const { return present || swapped; }
    constexpr bool operator==(const PageSeen&) const = default;
};

/// One page at two looks, one after the other.
struct PagePair {
    PageSeen before;
    PageSeen now;
};

/// Where a page of a process comes from.
enum class PageOrigin : std::uint8_t {
    none,       ///< there is no page
    unknown,    ///< was there at the first look at a process whose relatives are not known
    inherited,  ///< was the parent's at the fork
    kept,       ///< inherited, and the parent has given its own one up since: it can no longer be copied
    fresh,      ///< allocated by this process since the fork
    file,       ///< a private copy of a page of a file
};

/// Which side made the copy.
enum class PageWriter : std::uint8_t { none, child, parent, unknown };

/// What has become of a page of a process since it was forked.
struct PageLineage {
    PageOrigin origin = PageOrigin::none;
    PageWriter copied_by = PageWriter::none;
    /// It was no longer shared when it was first looked at, and nobody had looked at the parent before the fork: it was
    /// copied, or else both processes have allocated memory at this address since.
    bool early = false;

    constexpr bool operator==(const PageLineage&) const = default;
};

/// What holds for all pages of a look at a mapping of one process.
struct LineageContext {
    bool has_parent = false;     ///< its parent is looked at as well, and is a relative: not a program executed since
    bool first_look = false;     ///< at this process, since it began to run its program
    bool all_new = false;        ///< nothing is inherited: what was there at the first look counts as allocated since
    bool private_file = false;   ///< the mapping is one of a file
    bool parent_known = false;   ///< the parent was looked at before the fork: PagePair::before is of that time
    bool parent_faulted = true;  ///< the parent had page faults since the last look, so it may have written
    bool child_faulted = true;
};

/// What has become of a page, from what was known of it and how it looks now in the process and in its parent, at the
/// same address.
///
/// A write to a page that a fork still shares gives the writer a new page and leaves the old one to the others; when
/// one is left, it is exclusive too, and no longer copied by a write. So of two processes that shared a page and have
/// each one of their own now, exactly one has copied. Which one, tells
///  - the page's number in memory, where the kernel says it (CAP_SYS_ADMIN): who has another one than before wrote;
///  - a third process, which still shares it with one of the two: the other one wrote;
///  - the count of page faults: who had none did not write.
/// Where none of them does, the writer is unknown, and the page is counted as copied all the same.
///
/// Pre: the child was looked at before the parent. A child that shares nothing with a parent that then still shares is
/// the writer; the other way round the parent may have been left alone in between, and it takes a second look.
///
/// What cannot be told: a page that its process gave up and allocated again between two looks is taken for a copy; a
/// page that is swapped out keeps what was known of it.
[[nodiscard]] PageLineage follow(PageLineage was, const PagePair& child, const PagePair& parent,
                                 const LineageContext& context) noexcept;

/// Whether the page is still the same one as the parent's.
[[nodiscard]] bool is_shared(PageLineage lineage, const PageSeen& parent_now) noexcept;

}  // namespace vmcow::measure
