#include "procrun/pipeline_channel.hpp"

#include <poll.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <variant>
#include <vector>

#include "procrun/poll_until.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

bool is_ready(int fd, short events) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    return poll_until({&entry, 1}, Deadline::in({}), "look at a value channel") > 0;
}

/// Whether an error says that the other end was closed, of which the kernel tells with ECONNRESET, once and in whatever
/// call comes next, when something was left unread there.
bool other_end_closed(const std::system_error& error) {
    return error.code().value() == EPIPE || error.code().value() == ECONNRESET;
}

}  // namespace

bool BoundedSender::has_room() {
    while (!closed() && is_ready(fd(), POLLIN)) {
        try {
            if (!socket_.receive()) {
                close();
            } else if (under_way_ > 0) {
                --under_way_;
            }
        } catch (const std::system_error& error) {
            if (!other_end_closed(error)) throw;
            close();  // it left values behind
        }
    }
    return !closed() && under_way_ < bound_;
}

bool BoundedSender::send(vmcow::TypedImage value) {
    VMCOW_ASSERT(under_way_ < bound_);
    if (closed()) return false;
    try {
        if (const auto* const snapshot = std::get_if<vmcow::TypedSnapshot>(&value)) {
            vmcow::send_values(fd(), {snapshot, 1});
        } else {
            VMCOW_ASSERT(takes_arenas_);
            vmcow::send_arena(fd(), std::get<vmcow::TypedArena>(std::move(value)));
        }
    } catch (const std::system_error& error) {
        if (!other_end_closed(error)) throw;
        close();
        return false;
    }
    ++under_way_;
    return true;
}

std::optional<pipes::Message> BoundedReceiver::next_message() {
    std::optional<pipes::Message> message;
    for (bool again = true; again && !closed();) {
        again = false;
        try {
            message = socket_.receive();
        } catch (const std::system_error& error) {
            if (!other_end_closed(error)) throw;
            again = true;  // the sender has ended and wanted no more bytes back; its values are still there
        }
    }
    if (!message) {
        close();
        return std::nullopt;
    }
    // An honest sender has read enough of these before it sent so much.
    if (!is_ready(fd(), POLLOUT)) vmcow::sys::throw_error(EBADMSG, "received values: nobody has looked for room");
    constexpr std::array kRoom{std::byte{1}};
    try {
        socket_.send(kRoom, {});
    } catch (const std::system_error& error) {
        if (!other_end_closed(error)) throw;  // the sender has ended
    }
    return message;
}

std::optional<vmcow::TypedImage> BoundedReceiver::receive() {
    std::optional<pipes::Message> message = next_message();
    if (!message) return std::nullopt;
    return vmcow::unpack_image(*std::move(message));
}

std::optional<vmcow::TypedSnapshot> BoundedReceiver::receive_snapshot() {
    std::optional<pipes::Message> message = next_message();
    if (!message) return std::nullopt;
    std::vector<vmcow::TypedSnapshot> values = vmcow::unpack_values(*std::move(message));
    if (values.size() != 1) vmcow::sys::throw_error(EBADMSG, "received message: not one value");
    return std::move(values.front());
}

BoundedChannel BoundedChannel::open(std::size_t bound, bool takes_arenas) {
    VMCOW_ASSERT(bound > 0 && bound <= kMostUnderWay);
    auto [one, other] = pipes::MessageSocket::pair();
    return {BoundedSender(std::move(one), bound, takes_arenas), BoundedReceiver(std::move(other))};
}

}  // namespace procrun
