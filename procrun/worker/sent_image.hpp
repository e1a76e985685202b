#pragma once

#include <cstddef>
#include <span>

#include "vmcow/image/slot.hpp"

namespace procrun::detail {

/// The worker's copy of a small value whose bytes came with a request: memory of its own, which the function may change
/// and make longer.
///
/// Threads:    one at a time.
/// After fork: the child has a copy, as of any memory.
class SentImage {
public:
    /// Copies `bytes` here, with zeros behind them, and returns where they lie. Throws: std::system_error -- ENOMEM.
    [[nodiscard]] std::byte* load(std::span<const std::byte> bytes);
    /// Makes the image `bytes` long without moving it. Throws: std::system_error -- ENOMEM; the image is as before.
    void extend(std::size_t bytes);
    [[nodiscard]] const std::byte* data() const noexcept { return slot_.address(); }
    /// False when a function has unmapped it. Cost: 200 ns.
    [[nodiscard]] bool is_mapped() const noexcept;

private:
    vmcow::Slot slot_;
    std::size_t mapped_ = 0;
    std::size_t used_ = 0;  // bytes that may be other than zero
};

}  // namespace procrun::detail
