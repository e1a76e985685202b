#include "pipes/message_socket.hpp"

#include <utility>

namespace pipes {

std::pair<MessageSocket, MessageSocket> MessageSocket::pair() {
    auto [first, second] = vmcow::sys::open_message_sockets();
    return {MessageSocket(std::move(first)), MessageSocket(std::move(second))};
}

void MessageSocket::send(std::span<const std::byte> bytes, std::span<const int> fds) {
    vmcow::sys::send_message(fd_.get(), bytes, fds);
}

int MessageSocket::try_send(std::span<const std::byte> bytes, std::span<const int> fds) noexcept {
    return vmcow::sys::try_send_message(fd_.get(), bytes, fds);
}

std::optional<Message> MessageSocket::receive() { return vmcow::sys::receive_message(fd_.get()); }

}  // namespace pipes
