#pragma once

namespace vmcow::sys {

/// The two ways to ask the kernel which pages a process has for itself.
enum class PageScanMethod {
    pagemap_scan,  ///< ioctl PAGEMAP_SCAN on /proc/PID/pagemap: walks page tables in the kernel, Linux 6.7
    pagemap_bits,  ///< reads /proc/PID/pagemap, eight bytes a page, and looks at bits 61 to 63
};

/// The name in reports: "PAGEMAP_SCAN" or "pagemap".
[[nodiscard]] const char* name_of(PageScanMethod method) noexcept;

/// The faster method that this kernel has. The kernel is asked until it has answered; then the answer is remembered.
[[nodiscard]] PageScanMethod best_page_scan();

/// The errno with which PAGEMAP_SCAN is refused here (ENOTTY before Linux 6.7), or 0 where it works.
[[nodiscard]] int page_scan_error() noexcept;

}  // namespace vmcow::sys
