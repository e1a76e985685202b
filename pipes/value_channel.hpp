#pragma once

#include <optional>

#include "pipes/message_socket.hpp"
#include "vmcow/snapshot.hpp"

namespace pipes {

/// The end of a value channel that snapshots go into.
class ValueSender {
public:
    explicit ValueSender(MessageSocket socket) noexcept : socket_(std::move(socket)) {}

    /// Sends a snapshot to the receiver by descriptor: nothing of it is copied but deltas that lie in the page store.
    /// Throws: std::system_error -- EPIPE when no receiver is left; EMFILE.
    /// Cost:   one message whatever the size; waits while the other end has many messages unread.
    void send(const vmcow::Snapshot& snapshot);

    [[nodiscard]] const MessageSocket& socket() const noexcept { return socket_; }

private:
    MessageSocket socket_;
};

/// The end of a value channel that snapshots come out of.
class ValueReceiver {
public:
    explicit ValueReceiver(MessageSocket socket) noexcept : socket_(std::move(socket)) {}

    /// Waits for the next snapshot. It has the sender's extent, and the sender's slot if that is free here. nullopt
    /// when every sender has closed its end and all snapshots were received.
    /// Throws: std::system_error -- EBADMSG when the sender sent anything but a sound snapshot (I3); the channel can
    ///         still be used. EMFILE, ENOMEM.
    [[nodiscard]] std::optional<vmcow::Snapshot> receive();

    [[nodiscard]] const MessageSocket& socket() const noexcept { return socket_; }

private:
    MessageSocket socket_;
};

/// A channel between two processes on which snapshots travel in order. After a fork both processes have both ends. Each
/// has to close the end that it does not use, as with a pipe; otherwise the receiver never sees the end of the channel.
///
/// Source: unix(7) SCM_RIGHTS.
struct ValueChannel {
    ValueSender sender;
    ValueReceiver receiver;

    /// Throws: std::system_error -- EMFILE.
    [[nodiscard]] static ValueChannel open();
};

}  // namespace pipes
