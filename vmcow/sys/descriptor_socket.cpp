#include "vmcow/sys/descriptor_socket.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {
namespace {

/// Room for the largest control message, aligned as the kernel requires.
struct alignas(cmsghdr) ControlBuffer {
    std::array<std::byte, CMSG_SPACE(kMaxMessageFds * sizeof(int))> bytes;
};

void take_fds(msghdr& header, std::vector<UniqueFd>& fds) {
    for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr; control = CMSG_NXTHDR(&header, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
            fds.emplace_back(fd);
        }
    }
}

ssize_t send(int socket, std::span<const std::byte> bytes, std::span<const int> fds, int flags) noexcept {
    VMCOW_ASSERT(!bytes.empty() && bytes.size() <= kMaxMessageBytes && fds.size() <= kMaxMessageFds);
    iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    ControlBuffer buffer{};
    if (!fds.empty()) {
        header.msg_control = buffer.bytes.data();
        header.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* const control = CMSG_FIRSTHDR(&header);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(control), fds.data(), fds.size_bytes());
    }
    return retry_interrupted([&]() noexcept { return ::sendmsg(socket, &header, flags); });
}

}  // namespace

std::pair<UniqueFd, UniqueFd> open_message_sockets() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) throw_errno("open a message socket");
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void send_message(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
    if (send(socket, bytes, fds, MSG_NOSIGNAL) < 0) throw_errno("send a message");
}

int try_send_message(int socket, std::span<const std::byte> bytes, std::span<const int> fds) noexcept {
    return send(socket, bytes, fds, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

std::optional<Message> receive_message(int socket) {
    // The length is asked for first: a buffer for the longest message would make each receiver touch 64 KiB.
    const ssize_t length = retry_interrupted([&] { return ::recv(socket, nullptr, 0, MSG_PEEK | MSG_TRUNC); });
    if (length < 0) throw_errno("receive a message");
    if (length == 0) return std::nullopt;  // the end: no message is empty
    Message message;
    message.bytes.resize(std::min(static_cast<std::size_t>(length), kMaxMessageBytes));
    iovec vector{message.bytes.data(), message.bytes.size()};
    ControlBuffer buffer;
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = buffer.bytes.data();
    header.msg_controllen = buffer.bytes.size();
    const ssize_t got = retry_interrupted([&] { return ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC); });
    if (got < 0) throw_errno("receive a message");
    take_fds(header, message.fds);
    // The buffer has room for all descriptors that can be sent, so truncation means that this process had none free.
    if ((header.msg_flags & MSG_CTRUNC) != 0) throw_error(EMFILE, "receive a message's descriptors");
    if ((header.msg_flags & MSG_TRUNC) != 0) throw_error(EMSGSIZE, "receive a message");
    message.bytes.resize(static_cast<std::size_t>(got));
    return message;
}

}  // namespace vmcow::sys
