#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmcow/slot.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::detail {

/// Of an exception's text, as much as a person reads.
inline constexpr std::size_t kMostTextBytes = 16384;
inline constexpr const char* kUnknownException = "an exception that is no std::exception";

/// Bytes that one process hands to another: those that came in a message, or those of a file that came with it.
class Payload {
public:
    explicit Payload(std::vector<std::byte> bytes) noexcept;
    /// A copy of as few bytes as `kSmall`; nothing is allocated.
    static constexpr std::size_t kSmall = 64;
    [[nodiscard]] static Payload of_small(std::span<const std::byte> bytes) noexcept;
    /// Maps the first of `fds`, which it takes out of there. Nothing about it is trusted (I3).
    /// Throws: std::system_error -- EBADMSG: not sealed, or not `bytes` long; ENOMEM.
    [[nodiscard]] static Payload of_file(std::vector<vmcow::sys::UniqueFd>& fds, std::uint64_t bytes);

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept;

private:
    Payload() = default;
    Payload(vmcow::Slot slot, std::size_t bytes) noexcept;

    std::array<std::byte, kSmall> small_{};
    std::size_t small_bytes_ = 0;
    std::vector<std::byte> owned_;
    vmcow::Slot slot_;
    std::size_t mapped_bytes_ = 0;
};

/// A sealed file of these bytes. Throws: std::system_error -- EMFILE, ENOMEM, ENOSPC.
[[nodiscard]] vmcow::sys::UniqueFd file_of_payload(std::span<const std::byte> bytes);

}  // namespace procrun::detail
