#pragma once

#include <cstdint>

namespace vmcow::meter {

/// A page of private memory as one look found it. A page of a file counts as no page.
struct PageSeen {
    bool present = false;
    bool swapped = false;
    bool exclusive = false;   ///< pagemap bit 56: no other process maps it
    bool huge = false;        ///< part of a 2 MiB page that is mapped as one: `exclusive` is that of its first 4 KiB
    std::uint32_t frame = 0;  ///< the low bits of its page frame number; 0 if the kernel does not tell it

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
    kept,       ///< inherited, but the parent has given its own page up: it can no longer be copied
    fresh,      ///< allocated by this process since the fork
    file,       ///< a private copy of a page of a file
};

/// Which side made the copy.
enum class PageWriter : std::uint8_t { none, child, parent, unknown };

/// What has become of a page of a process since it was forked.
struct PageLineage {
    PageOrigin origin = PageOrigin::none;
    PageWriter copied_by = PageWriter::none;
    /// The page was no longer shared at the first look, and the parent was not looked at before the fork. So it was
    /// copied, or both processes have allocated memory at this address since.
    bool early = false;

    constexpr bool operator==(const PageLineage&) const = default;
};

/// What holds for all pages of one mapping of a process at one look.
struct LineageContext {
    bool has_parent = false;     ///< its parent is looked at as well, and neither has executed a program since
    bool first_look = false;     ///< this is the first look at the process since it began to run its program
    bool all_new = false;        ///< nothing is inherited: pages found at the first look count as allocated
    bool private_file = false;   ///< the mapping is a private one of a file
    bool parent_known = false;   ///< the parent was looked at before the fork: PagePair::before is of that time
    bool parent_faulted = true;  ///< the parent had page faults since the last look, so it may have written
    bool child_faulted = true;
};

/// What has become of a page. `was` is what was known of it, `child` and `parent` are the pages at its address in the
/// process and in its parent.
///
/// A write to a page that is shared since a fork gives the writer a new page and leaves the old page to the others.
/// When only one process still has the old page, the page is exclusive too, and a write no longer copies it. So if two
/// processes shared a page and each has its own page now, exactly one of them has copied. Three facts may tell which:
///  - the page frame number, if the kernel tells it (CAP_SYS_ADMIN): the process whose number has changed wrote;
///  - a third process that still shares the page with one of the two: the other one of the two wrote;
///  - the count of page faults: a process that had none did not write.
/// If none of these tells it, the writer is unknown, and the page is counted as copied all the same.
///
/// Pre: the child was looked at before the parent. If the child's page is exclusive and the parent's page, looked at
/// later, is still shared, the child wrote. In the opposite case the parent may have been left alone with the page
/// between the two looks, and a second look is needed.
///
/// Limits: a page that its process gave up and allocated again between two looks is taken for a copy. A page that is
/// swapped out keeps what was known of it.
[[nodiscard]] PageLineage follow(PageLineage was, const PagePair& child, const PagePair& parent,
                                 const LineageContext& context) noexcept;

/// Whether the process and its parent still share the page.
[[nodiscard]] bool is_shared(PageLineage lineage, const PageSeen& parent_now) noexcept;

}  // namespace vmcow::meter
