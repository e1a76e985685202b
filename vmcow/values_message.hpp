#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/snapshot_wire.hpp"
#include "vmcow/sys/descriptor_socket.hpp"

namespace vmcow {

/// A snapshot and the number of the type that its bytes are; 0 where that is not known.
struct TypedSnapshot {
    Snapshot snapshot;
    std::uint64_t type = 0;
};

/// An arena that is given away with the value in it: whoever gets it goes on in place.
struct TypedArena {
    Arena arena;
    std::uint64_t type = 0;
};

/// A value on its way from one function process to the next: shared with others, or the receiver's alone.
using TypedImage = std::variant<TypedSnapshot, TypedArena>;

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

/// Gives an arena away. Throws: std::system_error -- as above; the arena is gone then. Pre: `is_own()`.
void send_arena(int socket, TypedArena value);

/// Takes the values of a message apart. Nothing in it is trusted (I3).
/// Throws: std::system_error -- EBADMSG, naming what is wrong; ENOMEM. All descriptors are closed.
[[nodiscard]] std::vector<TypedSnapshot> unpack_values(sys::Message message, const SentFiles* sent = nullptr);
/// The same of a message with one value, which may be an arena (Arena::adopt).
[[nodiscard]] TypedImage unpack_image(sys::Message message);

}  // namespace vmcow
