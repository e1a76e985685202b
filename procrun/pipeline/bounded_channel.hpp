#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "pipes/message_socket.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

/// The end of a bounded channel that values go into. At most `bound` of them are under way: sent, and not yet received.
///
///     sender ── value ──▶ receiver        one socket; for each value that is received, a byte comes back,
///            ◀── byte ──                  which makes room for another one
///
/// Threads: one.
class BoundedSender {
public:
    /// `takes_arenas`: the receiver goes on in place with an arena that is given away.
    BoundedSender(pipes::MessageSocket socket, std::size_t bound, bool takes_arenas) noexcept
        : socket_(std::move(socket)), bound_(bound), takes_arenas_(takes_arenas) {}

    /// Whether a value can be sent without waiting. Reads the bytes that have come back.
    [[nodiscard]] bool has_room();
    /// Sends a value by descriptor: nothing of it is copied but deltas that lie in the page store. False when no
    /// receiver is left.
    /// Pre:    there is room; for an arena, `takes_arenas()`.
    /// Throws: std::system_error -- EMFILE, ENOMEM, ETOOMANYREFS.
    bool send(vmcow::TypedImage value);
    [[nodiscard]] bool takes_arenas() const noexcept { return takes_arenas_; }

    /// Whether this end is closed: every copy of the other end was closed, or `close` was called.
    [[nodiscard]] bool closed() const noexcept { return !socket_.fd(); }
    /// Becomes readable when there may be room again, and when the other end was closed; -1 when this end is closed.
    [[nodiscard]] int fd() const noexcept { return socket_.fd().get(); }
    void close() noexcept { socket_.take_fd().reset(); }

private:
    pipes::MessageSocket socket_;
    std::size_t bound_;
    std::size_t under_way_ = 0;
    bool takes_arenas_;
};

/// The end of a bounded channel that values come out of.
///
/// Threads: one.
class BoundedReceiver {
public:
    explicit BoundedReceiver(pipes::MessageSocket socket) noexcept : socket_(std::move(socket)) {}

    /// Waits for the next value. nullopt, and this end is closed, when the sender has ended and all were received.
    /// Throws: std::system_error -- EBADMSG: the message is no value, or the sender sends more than fits without
    ///         looking for room (I3), for which the receiver never waits; EMFILE, ENOMEM.
    [[nodiscard]] std::optional<vmcow::TypedImage> receive();
    /// Receives as `receive` does, but refuses an arena with EBADMSG: another process could write to it (I3).
    [[nodiscard]] std::optional<vmcow::TypedSnapshot> receive_snapshot();

    [[nodiscard]] bool closed() const noexcept { return !socket_.fd(); }
    /// Becomes readable when a value or the end can be received; -1 when this end is closed.
    [[nodiscard]] int fd() const noexcept { return socket_.fd().get(); }
    void close() noexcept { socket_.take_fd().reset(); }

private:
    [[nodiscard]] std::optional<pipes::Message> next_message();

    pipes::MessageSocket socket_;
};

/// Both ends of a bounded channel.
/// Source: unix(7), SOCK_SEQPACKET.
struct BoundedChannel {
    BoundedSender sender;
    BoundedReceiver receiver;

    /// A socket of the kernel's usual size counts as full when a quarter of its buffer is taken. Twice as many messages
    /// of one byte as this can lie unread before that.
    static constexpr std::size_t kMostUnderWay = 32;

    /// Pre:    `bound` is at least 1, and at most kMostUnderWay.
    /// Throws: std::system_error -- EMFILE, ENFILE.
    [[nodiscard]] static BoundedChannel open(std::size_t bound, bool takes_arenas = false);
};

}  // namespace procrun
