#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/units.hpp"

namespace vmcow::sys {

/// Neighbouring pages that exist and are of one kind.
struct PageKindRun {
    PageRun pages;
    bool file = false;     ///< a page of a file or of shared memory; always false when this was not asked for
    bool swapped = false;  ///< not in memory
    bool huge = false;     ///< part of a 2 MiB page that is mapped as one; the bits do not tell: false

    constexpr bool operator==(const PageKindRun&) const = default;
};

/// What /proc/PID/pagemap says about a page.
/// Source: Documentation/admin-guide/mm/pagemap.rst.
struct PagemapEntry {
    std::uint64_t bits = 0;

    [[nodiscard]] constexpr bool present() const { return (bits >> 63 & 1) != 0; }
    [[nodiscard]] constexpr bool swapped() const { return (bits >> 62 & 1) != 0 && (bits >> 58 & 1) == 0; }
    [[nodiscard]] constexpr bool file() const { return (bits >> 61 & 1) != 0; }
    /// One process maps the page. In a 2 MiB page that is mapped as one, the kernel answers for the first 4 KiB only.
    [[nodiscard]] constexpr bool exclusive() const { return (bits >> 56 & 1) != 0; }
    /// The number of the page in the machine's memory, or 0: the kernel does not tell a process that opened the file
    /// without CAP_SYS_ADMIN.
    [[nodiscard]] constexpr std::uint64_t frame() const {
        return present() ? bits & ((std::uint64_t{1} << 55) - 1) : 0;
    }
};

/// Finds the private pages of one process: present or swapped, and not pages of a file. In a private mapping of an
/// image these are the pages that exist because of a write (I5).
///
/// Cost:       PAGEMAP_SCAN walks what is mapped and skips an empty page table at once; the bits cost 8 bytes of
///             copying a page.
/// Throws:     std::system_error -- EACCES, ENOENT (no such process, not ours), EMFILE; ESRCH when the process has
///             ended since. Nothing is left behind; `runs` may have grown.
/// Threads:    one scanner per thread.
/// After fork: a scanner goes on scanning the process that it was opened for; a child opens its own.
/// Source:     Documentation/admin-guide/mm/pagemap.rst. PAGEMAP_SCAN leaves out the zero page, which is mapped only by
///             reading anonymous memory; the bits cannot tell it apart.
class PageScanner {
public:
    /// Scans the calling process.
    explicit PageScanner(PageScanMethod method = best_page_scan());
    /// Scans another process, which the caller must be allowed to ptrace.
    explicit PageScanner(pid_t pid, PageScanMethod method = best_page_scan());

    /// Appends the private pages between `address` and `address + bytes` to `runs`. The runs are ascending, as long as
    /// possible, and counted from `address`.
    /// Pre: `address` and `bytes` are multiples of the page size.
    void private_pages(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const;

    /// Appends the pages that exist between `address` and `address + bytes`, without the zero page, to `runs`, as
    /// `private_pages` does. Pages of files are told from others only if `ask_file`.
    /// Cost: 15 ns a page. `ask_file` needs a look at the record of each page: 75 ns a page when the records are
    ///       scattered. The lock on the process's memory is released after every 4096 pages found; an empty page table
    ///       is skipped at once.
    void existing_pages(std::uintptr_t address, std::size_t bytes, bool ask_file, std::vector<PageKindRun>& runs) const;

    /// Reads what pagemap says about the pages from `address` on.
    /// Cost: 80 ns a page.
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

/// A scanner of the calling process that is opened when it is first asked for, for who may find nothing to scan.
///
/// Throws: as PageScanner, when it is first asked for.
class PageScannerOnDemand {
public:
    [[nodiscard]] const PageScanner& get() {
        if (!scanner_) scanner_.emplace();
        return *scanner_;
    }

private:
    std::optional<PageScanner> scanner_;
};

/// The sum of the counts of `runs`.
[[nodiscard]] PageCount total_pages(const std::vector<PageRun>& runs) noexcept;

}  // namespace vmcow::sys
