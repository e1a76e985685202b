#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

/// Bytes and descriptors that travel together.
struct Message {
    std::vector<std::byte> bytes;
    std::vector<UniqueFd> fds;
};

inline constexpr std::size_t kMaxMessageBytes = std::size_t{64} << 10;
inline constexpr std::size_t kMaxMessageFds = 253;  // SCM_MAX_FD

/// Two connected sockets that carry whole messages, in order, each with its descriptors. Both are close-on-exec.
/// Throws: std::system_error -- EMFILE, ENFILE.
/// Source: unix(7), SOCK_SEQPACKET.
[[nodiscard]] std::pair<UniqueFd, UniqueFd> open_message_sockets();

/// Sends one message. Waits while the other end has too many unread messages. The caller keeps the descriptors.
/// Pre:    at least one byte, at most `kMaxMessageBytes` bytes and `kMaxMessageFds` descriptors.
/// Throws: std::system_error -- EPIPE when the other end is gone (no SIGPIPE), ETOOMANYREFS past the user's limit of
///         descriptors in flight.
/// Source: sendmsg(2), unix(7) SCM_RIGHTS.
void send_message(int socket, std::span<const std::byte> bytes, std::span<const int> fds);

/// Like send_message, without waiting and without throwing. Returns 0 or the errno, EAGAIN while the other end has too
/// many unread messages.
[[nodiscard]] int try_send_message(int socket, std::span<const std::byte> bytes, std::span<const int> fds) noexcept;

/// Waits for the next message. nullopt when every copy of the other end is closed and all messages were read. The
/// received descriptors are close-on-exec.
/// Throws: std::system_error -- EMFILE when this process has no room for the descriptors (those that came are closed);
///         EMSGSIZE for a message over `kMaxMessageBytes`; ECONNRESET, once, when the other end was closed with
///         messages unread: what it had sent can still be received.
/// Source: recvmsg(2), unix(7) SCM_RIGHTS.
[[nodiscard]] std::optional<Message> receive_message(int socket);

}  // namespace vmcow::sys
