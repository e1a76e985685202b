#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmcow/sys/fd.hpp"

namespace vmcow {
class Slot;
}  // namespace vmcow

namespace procrun::detail {

/// At most so much of an exception's text is sent: nobody reads more.
inline constexpr std::size_t kMostTextBytes = 16384;
inline constexpr const char* kUnknownException = "an exception that is no std::exception";

/// Bytes that one process has sent to another, in a message or in a file that came with it.
class Payload {
public:
    explicit Payload(std::vector<std::byte> bytes) noexcept;
    static constexpr std::size_t kSmall = 64;
    /// Copies at most `kSmall` bytes, without allocating. Pre: there are no more.
    [[nodiscard]] static Payload of_small(std::span<const std::byte> bytes) noexcept;
    /// Takes the first of `fds` out of the vector and maps it. Nothing about the file is trusted (I3).
    /// Throws: std::system_error -- EBADMSG: there is no file, or it is not sealed, or not `bytes` long; ENOMEM.
    [[nodiscard]] static Payload of_file(std::vector<vmcow::sys::UniqueFd>& fds, std::uint64_t bytes);

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept;

private:
    Payload() = default;
    Payload(std::shared_ptr<const vmcow::Slot> slot, std::size_t bytes) noexcept;

    std::array<std::byte, kSmall> small_{};
    std::size_t small_bytes_ = 0;
    std::vector<std::byte> owned_;
    std::shared_ptr<const vmcow::Slot> slot_;  // where the file is mapped
    std::size_t mapped_bytes_ = 0;
};

/// Writes bytes to a sealed memfd. Throws: std::system_error -- EMFILE, ENOMEM, ENOSPC.
[[nodiscard]] vmcow::sys::UniqueFd file_of_payload(std::span<const std::byte> bytes);

}  // namespace procrun::detail
