#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "vmcow/sys/fd.hpp"

namespace pipes {

/// Bytes and descriptors that travel together.
struct Message {
    std::vector<std::byte> bytes;
    std::vector<vmcow::sys::UniqueFd> fds;
};

/// One end of a connection on which whole messages travel, in order, with the descriptors that belong to them.
///
/// Threads: one sender and one receiver at a time.
/// Source:  unix(7), SOCK_SEQPACKET and SCM_RIGHTS. Descriptors arrive close-on-exec.
class MessageSocket {
public:
    static constexpr std::size_t kMaxBytes = std::size_t{64} << 10;
    static constexpr std::size_t kMaxFds = 253;  // SCM_MAX_FD

    MessageSocket() = default;
    explicit MessageSocket(vmcow::sys::UniqueFd fd) noexcept : fd_(std::move(fd)) {}

    /// Two connected ends. Throws: std::system_error -- EMFILE, ENFILE.
    [[nodiscard]] static std::pair<MessageSocket, MessageSocket> pair();

    /// Sends one message; waits while the other end has many unread. The caller keeps the descriptors.
    /// Pre:    at least one byte, at most `kMaxBytes` and `kMaxFds`.
    /// Throws: std::system_error -- EPIPE when the other end is gone (no SIGPIPE), ETOOMANYREFS past the user's limit
    /// of
    ///         descriptors in flight.
    void send(std::span<const std::byte> bytes, std::span<const int> fds);

    /// The next message; nullopt when every copy of the other end is closed and all was read.
    /// Throws: std::system_error -- EMFILE when this process has no room for the descriptors (those that came are
    /// closed);
    ///         EMSGSIZE for a message over `kMaxBytes`; ECONNRESET.
    [[nodiscard]] std::optional<Message> receive();

    [[nodiscard]] const vmcow::sys::UniqueFd& fd() const noexcept { return fd_; }
    [[nodiscard]] vmcow::sys::UniqueFd take_fd() noexcept { return std::move(fd_); }

private:
    vmcow::sys::UniqueFd fd_;
};

}  // namespace pipes
