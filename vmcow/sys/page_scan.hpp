#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
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

    [[nodiscard]] PageScanMethod method() const noexcept { return method_; }

private:
    void scan(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const;
    void read_bits(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const;

    UniqueFd pagemap_;
    PageScanMethod method_;
};

/// The sum of the counts of `runs`.
[[nodiscard]] PageCount total_pages(const std::vector<PageRun>& runs) noexcept;

}  // namespace vmcow::sys
