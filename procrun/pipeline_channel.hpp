#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "pipes/message_socket.hpp"
#include "vmcow/values_message.hpp"

namespace procrun {

/// The end of a bounded channel that values go into. At most `bound` of them are under way: sent, and not yet received.
///
///     sender ── value ──▶ receiver        one socket; for each value that is received, a byte comes back,
///            ◀── byte ──                  which makes room for another one
///
/// Threads: one.
class BoundedSender {
public:
    /// `takes_arenas`: whoever receives goes on with what is given away, in place.
    BoundedSender(pipes::MessageSocket socket, std::size_t bound, bool takes_arenas) noexcept
        : socket_(std::move(socket)), bound_(bound), takes_arenas_(takes_arenas) {}

    /// Whether a value can be sent without waiting. Takes in what has come back.
    [[nodiscard]] bool has_room();
    /// By descriptor; nothing of the value is copied but deltas that lie in the page store. False when nobody receives
    /// any more. Throws: std::system_error -- EMFILE, ENOMEM, ETOOMANYREFS. Pre: there is room; for an arena,
    /// `takes_arenas()`.
    bool send(vmcow::TypedImage value);
    [[nodiscard]] bool takes_arenas() const noexcept { return takes_arenas_; }

    /// The other end has been closed by everybody.
    [[nodiscard]] bool closed() const noexcept { return !socket_.fd(); }
    /// Readable when there may be room again, or when the other end was closed; -1 when that was noticed.
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

    /// The next value, waited for; nullopt when the sender has ended and all was received: the end is closed then.
    /// Throws: std::system_error -- EBADMSG: what came is no value, or more than fits without the sender having looked
    ///         for room (I3): whoever receives is never made to wait for that; EMFILE, ENOMEM.
    [[nodiscard]] std::optional<vmcow::TypedImage> receive();
    /// The same where nothing is taken that another process could write to (I3): an arena is EBADMSG.
    [[nodiscard]] std::optional<vmcow::TypedSnapshot> receive_snapshot();

    [[nodiscard]] bool closed() const noexcept { return !socket_.fd(); }
    /// Readable when a value or the end can be received.
    [[nodiscard]] int fd() const noexcept { return socket_.fd().get(); }
    void close() noexcept { socket_.take_fd().reset(); }

private:
    [[nodiscard]] std::optional<pipes::Message> next_message();

    pipes::MessageSocket socket_;
};

/// Source: unix(7), SOCK_SEQPACKET.
struct BoundedChannel {
    BoundedSender sender;
    BoundedReceiver receiver;

    /// Twice as many bytes can lie unread before a socket of the kernel's usual size counts as full, which is when a
    /// quarter of its buffer is taken.
    static constexpr std::size_t kMostUnderWay = 32;

    /// Throws: std::system_error -- EMFILE, ENFILE. Pre: `bound` is at least 1, and at most kMostUnderWay.
    [[nodiscard]] static BoundedChannel open(std::size_t bound, bool takes_arenas = false);
};

}  // namespace procrun
