#pragma once

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/descriptor_socket.hpp"

namespace vmcow {

class SentFiles;  // vmcow/wire/snapshot_codec.hpp

/// A snapshot with the number of the type of its bytes; 0 is unknown.
struct TypedSnapshot {
    Snapshot snapshot;
    std::uint64_t type = 0;
};

/// An arena that is given away with the value in it: the receiver goes on in place.
struct TypedArena {
    Arena arena;
    std::uint64_t type = 0;
};

/// A value on its way from one function process to the next: shared with others, or the receiver's alone.
using TypedImage = std::variant<TypedSnapshot, TypedArena>;

/// Asks for the next argument. Throws: std::system_error -- EPIPE: the caller gives no more arguments.
void send_value_request(int socket);
[[nodiscard]] bool is_value_request(const sys::Message& message) noexcept;

/// Sends values in one message, and adds their files to `sent`, if that is not null.
/// Throws: std::system_error -- E2BIG for more files than one message can carry; EMFILE, ENOMEM; EPIPE, ETOOMANYREFS.
void send_values(int socket, std::span<const TypedSnapshot> values, SentFiles* sent = nullptr);

/// Gives an arena away.
/// Pre:    `value.arena.is_own()`.
/// Throws: std::system_error -- as `send_values`; the arena is gone then.
void send_arena(int socket, TypedArena value);

/// The values of a message. Nothing in it is trusted (I3). Files that are in `sent`, if not null, are recognized.
/// Throws: std::system_error -- EBADMSG, naming what is wrong; ENOMEM. All descriptors are closed.
[[nodiscard]] std::vector<TypedSnapshot> unpack_values(sys::Message message, const SentFiles* sent = nullptr);
/// The one value of a message, a snapshot or an arena. Nothing in the message is trusted (I3).
/// Throws: as `unpack_values` and ArenaAccess::adopt. All descriptors are closed.
[[nodiscard]] TypedImage unpack_image(sys::Message message);

}  // namespace vmcow
