#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/fd.hpp"

namespace pipes {

using vmcow::sys::Message;

/// One end of a connection on which whole messages travel, in order, with the descriptors that belong to them.
///
/// Threads: one sender and one receiver at a time.
/// Source:  unix(7), SOCK_SEQPACKET and SCM_RIGHTS. Descriptors arrive close-on-exec.
class MessageSocket {
public:
    static constexpr std::size_t kMaxBytes = vmcow::sys::kMaxMessageBytes;
    static constexpr std::size_t kMaxFds = vmcow::sys::kMaxMessageFds;

    MessageSocket() = default;
    explicit MessageSocket(vmcow::sys::UniqueFd fd) noexcept : fd_(std::move(fd)) {}

    /// Two connected ends. Throws: std::system_error -- EMFILE, ENFILE.
    [[nodiscard]] static std::pair<MessageSocket, MessageSocket> pair();

    /// Sends one message; waits while the other end has many messages unread. The caller keeps the descriptors.
    /// Pre:    at least one byte, at most `kMaxBytes` and `kMaxFds`.
    /// Throws: std::system_error -- as vmcow::sys::send_message: EPIPE, ETOOMANYREFS.
    void send(std::span<const std::byte> bytes, std::span<const int> fds);

    /// Sends one message as `send` does, but neither waits nor throws. Returns 0 or the errno: EAGAIN while the other
    /// end has many messages unread.
    [[nodiscard]] int try_send(std::span<const std::byte> bytes, std::span<const int> fds) noexcept;

    /// Waits for the next message; nullopt when every copy of the other end is closed and all messages were read.
    /// Throws: std::system_error -- as vmcow::sys::receive_message: EMFILE, EMSGSIZE, ECONNRESET.
    [[nodiscard]] std::optional<Message> receive();

    [[nodiscard]] const vmcow::sys::UniqueFd& fd() const noexcept { return fd_; }
    [[nodiscard]] vmcow::sys::UniqueFd take_fd() noexcept { return std::move(fd_); }

private:
    vmcow::sys::UniqueFd fd_;
};

}  // namespace pipes
