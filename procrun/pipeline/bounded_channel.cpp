#include "procrun/pipeline/bounded_channel.hpp"

#include <poll.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <variant>
#include <vector>

#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

bool is_ready(int fd, short events) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    return poll_until({&entry, 1}, Deadline::in({}), "look at a value channel") > 0;
}

/// Whether an error says that the other end was closed. If something was unread there, the kernel says so with
/// ECONNRESET, once, from whatever call comes next.
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
            close();  // the receiver has left values unread
        }
    }
    return !closed() && under_way_ < bound_;
}

bool BoundedSender::send(vmcow::TypedImage value) {
    VMCOW_ASSERT(under_way_ < bound_ && "there is room");
    if (closed()) return false;
    try {
        if (const auto* const snapshot = std::get_if<vmcow::TypedSnapshot>(&value)) {
            vmcow::send_values(fd(), {snapshot, 1});
        } else {
            VMCOW_ASSERT(takes_arenas_ && "I3: only a receiver that takes arenas may write to the value");
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
            again = true;  // the sender has ended with bytes unread; its values are still there
        }
    }
    if (!message) {
        close();
        return std::nullopt;
    }
    // A correct sender reads these bytes before it sends more values.
    if (!is_ready(fd(), POLLOUT)) {
        vmcow::sys::throw_error(EBADMSG, "received values: the sender does not look for room");
    }
    constexpr std::array kRoom{std::byte{1}};
    try {
        socket_.send(kRoom, {});
    } catch (const std::system_error& error) {
        if (!other_end_closed(error)) throw;  // if so, the sender has ended
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
    VMCOW_ASSERT(bound > 0 && bound <= kMostUnderWay && "the socket has room for an answer to each value");
    auto [one, other] = pipes::MessageSocket::pair();
    return {BoundedSender(std::move(one), bound, takes_arenas), BoundedReceiver(std::move(other))};
}

}  // namespace procrun
