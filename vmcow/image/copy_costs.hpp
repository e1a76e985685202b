#pragma once

namespace vmcow {

/// What it costs on this machine to bring a page into a wanted state, for each way of doing it.
///
/// Units: nanoseconds a page, except for `remap_ns`.
struct CopyCosts {
    double fault_ns = 3000;   ///< the kernel's copy-on-write fault at the first write
    double refresh_ns = 150;  ///< copying the page from the base again
    double compare_ns = 150;  ///< comparing a page that turns out to be the same
    double drop_ns = 150;     ///< giving a private page back to the kernel
    double remap_ns = 4000;   ///< mapping the image anew, whatever its size

    /// Measures the costs with a small image. Returns the default figures if that fails.
    /// Cost: about a millisecond.
    [[nodiscard]] static CopyCosts measure() noexcept;
};

}  // namespace vmcow
