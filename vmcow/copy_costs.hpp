#pragma once

namespace vmcow {

/// What it costs on this machine to bring a page into a state, in each of the ways there are.
///
/// Units: nanoseconds, for each page but where it says otherwise.
struct CopyCosts {
    double fault_ns = 3000;   ///< the kernel's copy-on-write fault at the first write
    double refresh_ns = 150;  ///< copying the page from the base again
    double compare_ns = 150;  ///< comparing a page that turns out to be the same
    double drop_ns = 150;     ///< giving a private page back to the kernel
    double remap_ns = 4000;   ///< mapping the image anew, whatever its size

    /// Measured with a small image. Where that fails, the figures above.
    /// Cost: about a millisecond.
    [[nodiscard]] static CopyCosts measure() noexcept;
};

}  // namespace vmcow
