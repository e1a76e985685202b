#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmcow/snapshot.hpp"
#include "vmcow/snapshot_wire.hpp"
#include "vmcow/sys/descriptor_socket.hpp"

namespace vmcow {

/// A snapshot and the number of the type that its bytes are; 0 where that is not known.
struct TypedSnapshot {
    Snapshot snapshot;
    std::uint64_t type = 0;
};

/// The environment variable by which a program finds the values that it was started with: the number of a socket that
/// it has inherited and, because numbers are used again, that socket's inode, as in "5:48213". A message with the
/// arguments waits there; results are sent back on it.
inline constexpr const char* kValuesVariable = "VMCOW_VALUES";

/// The variable's content for a socket. Throws: std::system_error -- EBADF.
[[nodiscard]] std::string values_variable(int socket);
/// The socket that the variable's content names; nullopt when there is none in this process: the content is nothing of
/// ours, or whoever started this process has kept the socket to itself.
[[nodiscard]] std::optional<int> socket_of_values_variable(const char* content);

/// Sends values in one message. What is sent is also noted in `sent`, if that is not null.
/// Throws: std::system_error -- E2BIG for more files than one message can carry; EMFILE, ENOMEM; EPIPE, ETOOMANYREFS.
void send_values(int socket, std::span<const TypedSnapshot> values, SentFiles* sent = nullptr);

/// Takes the values of a message apart. Nothing in it is trusted (I3).
/// Throws: std::system_error -- EBADMSG, naming what is wrong; ENOMEM. All descriptors are closed.
[[nodiscard]] std::vector<TypedSnapshot> unpack_values(sys::Message message, const SentFiles* sent = nullptr);

}  // namespace vmcow
