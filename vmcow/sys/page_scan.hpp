#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace vmcow::sys {

/// The two ways in which the kernel tells which pages a process has for itself.
enum class PageScanMethod {
    pagemap_scan,  ///< ioctl PAGEMAP_SCAN on /proc/PID/pagemap: walks page tables in the kernel, Linux 6.7
    pagemap_bits,  ///< reads /proc/PID/pagemap, eight bytes a page, and looks at bits 61 to 63
};

/// A name as it stands in reports: "PAGEMAP_SCAN" or "pagemap".
[[nodiscard]] const char* name_of(PageScanMethod method) noexcept;

/// The faster method that this kernel has. Asked until the kernel has answered, then remembered.
[[nodiscard]] PageScanMethod best_page_scan();

/// The errno with which PAGEMAP_SCAN is refused here (ENOTTY before Linux 6.7), or 0 where it works.
[[nodiscard]] int page_scan_error() noexcept;

/// Pages that exist: neighbours of one kind.
struct PageKindRun {
    PageRun pages;
    bool file = false;     ///< a page of a file or of shared memory; always false where it was not asked for
    bool swapped = false;  ///< not in memory
    bool huge = false;     ///< a part of a 2 MiB page that is mapped as one; unknown, and false, by the bits

    constexpr bool operator==(const PageKindRun&) const = default;
};

/// What /proc/PID/pagemap says of a page. Source: Documentation/admin-guide/mm/pagemap.rst.
struct PagemapEntry {
    std::uint64_t bits = 0;

    [[nodiscard]] constexpr bool present() const { return (bits >> 63 & 1) != 0; }
    [[nodiscard]] constexpr bool swapped() const { return (bits >> 62 & 1) != 0 && (bits >> 58 & 1) == 0; }
    [[nodiscard]] constexpr bool file() const { return (bits >> 61 & 1) != 0; }
    /// One process maps it. In a 2 MiB page that is mapped as one the kernel answers for its first 4 KiB only.
    [[nodiscard]] constexpr bool exclusive() const { return (bits >> 56 & 1) != 0; }
    /// The number of the page in the machine's memory, or 0: who opens the file without CAP_SYS_ADMIN is not told.
    [[nodiscard]] constexpr std::uint64_t frame() const {
        return present() ? bits & ((std::uint64_t{1} << 55) - 1) : 0;
    }
};

/// Finds the private pages of one process: present or swapped, and not pages of a file. In a private mapping of an
/// image these are the pages that exist because somebody wrote to them (I5).
///
/// Cost:     PAGEMAP_SCAN walks what is mapped, whole empty tables at once; the bits cost 8 bytes of copying a page.
/// Throws:   std::system_error -- EACCES, ENOENT (no such process, not ours), EMFILE; ESRCH when it has ended since.
///           Nothing is left behind; `runs` may have grown.
/// Threads:  one scanner per thread.
/// After fork: a scanner goes on scanning the process for which it was opened; a child opens its own.
/// Source:   Documentation/admin-guide/mm/pagemap.rst. The zero page, which only reading anonymous memory maps, is left
///           out by PAGEMAP_SCAN and cannot be told apart by the bits.
class PageScanner {
public:
    /// Of the calling process.
    explicit PageScanner(PageScanMethod method = best_page_scan());
    /// Of another process: the caller must be allowed to ptrace it.
    explicit PageScanner(pid_t pid, PageScanMethod method = best_page_scan());

    /// Appends the private pages between `address` and `address + bytes` to `runs`, ascending and maximal, counted from
    /// `address`. Pre: both are multiples of the page size.
    void private_pages(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const;

    /// Appends the pages that exist between `address` and `address + bytes`, the zero page left out, to `runs`, as
    /// `private_pages` does. Pages of files are told from others only if `ask_file`: that costs a look at each page's
    /// own record, 75 ns a page where those are scattered, and without it a page costs 15. The memory's lock is given
    /// up after every 4096 pages that were found; what is empty is passed over a page table at a time.
    void existing_pages(std::uintptr_t address, std::size_t bytes, bool ask_file, std::vector<PageKindRun>& runs) const;

    /// What pagemap says of the pages from `address` on. Cost: 80 ns a page.
    void read_entries(std::uintptr_t address, std::span<PagemapEntry> entries) const;

    [[nodiscard]] PageScanMethod method() const noexcept { return method_; }

private:
    void scan(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const;
    void read_bits(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const;
    void scan_kinds(std::uintptr_t address, std::size_t bytes, bool ask_file, std::vector<PageKindRun>& runs) const;
    void read_kinds(std::uintptr_t address, std::size_t bytes, bool ask_file, std::vector<PageKindRun>& runs) const;

    UniqueFd pagemap_;
    PageScanMethod method_;
};

/// The sum of the counts of `runs`.
[[nodiscard]] PageCount total_pages(const std::vector<PageRun>& runs) noexcept;

}  // namespace vmcow::sys
