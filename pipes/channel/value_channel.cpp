#include "pipes/value_channel.hpp"

#include <utility>

#include "pipes/channel/message_codec.hpp"

namespace pipes {

void ValueSender::send(const vmcow::Snapshot& snapshot) {
    MessageWriter message;
    message.put(snapshot);
    socket_.send(message.bytes(), message.fds());
}

std::optional<vmcow::Snapshot> ValueReceiver::receive() {
    std::optional<Message> message = socket_.receive();
    if (!message) return std::nullopt;
    MessageReader reader(message->bytes, std::move(message->fds));
    vmcow::Snapshot snapshot = reader.take_snapshot();
    reader.expect_end();
    return snapshot;
}

ValueChannel ValueChannel::open() {
    auto [sending, receiving] = MessageSocket::pair();
    return {ValueSender(std::move(sending)), ValueReceiver(std::move(receiving))};
}

}  // namespace pipes
