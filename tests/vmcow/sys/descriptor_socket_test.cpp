// Tests message sockets, which carry descriptors beside bytes.
#include "vmcow/sys/descriptor_socket.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/closed_descriptor.hpp"
#include "vmcow/sys/memfd.hpp"

namespace {

using namespace vmcow::sys;
using tests::closed_descriptor;
using tests::error_of;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string text_of(const Message& message) {
    return {reinterpret_cast<const char*>(message.bytes.data()), message.bytes.size()};
}

class DescriptorSocketTest : public testing::Test {
protected:
    void send(std::string_view text, std::span<const int> fds = {}) const {
        send_message(ours_.get(), bytes_of(text), fds);
    }
    [[nodiscard]] std::optional<Message> receive() const { return receive_message(theirs_.get()); }
    [[nodiscard]] int error_of_receive() const {
        return error_of([&] { static_cast<void>(receive()); });
    }
    void connect() { std::tie(ours_, theirs_) = open_message_sockets(); }

    DescriptorSocketTest() { connect(); }

    UniqueFd ours_;
    UniqueFd theirs_;
};

TEST_F(DescriptorSocketTest, MessagesComeWholeAndInOrder) {
    send("one");
    send("two, which is longer");
    EXPECT_EQ(text_of(receive().value()), "one");
    EXPECT_EQ(text_of(receive().value()), "two, which is longer");
}

TEST_F(DescriptorSocketTest, BothEndsSendAndAreCloseOnExec) {
    send_message(theirs_.get(), bytes_of("back"), {});
    EXPECT_EQ(text_of(receive_message(ours_.get()).value()), "back");
    for (const UniqueFd* const end : {&ours_, &theirs_}) EXPECT_EQ(::fcntl(end->get(), F_GETFD), FD_CLOEXEC);
}

TEST_F(DescriptorSocketTest, DescriptorsComeWithTheirMessageAndTheSenderKeepsHis) {
    const UniqueFd first = create_memfd("first");
    const UniqueFd second = create_memfd("second");
    send("two", std::vector{first.get(), second.get()});
    send("none");
    const Message message = receive().value();
    EXPECT_EQ(text_of(message), "two");
    ASSERT_EQ(message.fds.size(), 2U);
    EXPECT_EQ(inode_of(message.fds[0].get()), inode_of(first.get()));
    EXPECT_EQ(inode_of(message.fds[1].get()), inode_of(second.get()));
    for (const UniqueFd& fd : message.fds) EXPECT_EQ(::fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
    EXPECT_TRUE(receive().value().fds.empty());
}

TEST_F(DescriptorSocketTest, LargestMessageWithMostDescriptorsComesWhole) {
    const std::vector<std::byte> bytes = tests::noise(kMaxMessageBytes);
    const std::vector<int> fds(kMaxMessageFds, ours_.get());
    const tests::ScopedLimit room(RLIMIT_NOFILE, 2 * kMaxMessageFds + 256);
    send_message(ours_.get(), bytes, fds);
    const Message message = receive().value();
    EXPECT_EQ(message.bytes, bytes);
    EXPECT_EQ(message.fds.size(), kMaxMessageFds);
}

TEST_F(DescriptorSocketTest, EndIsSeenWhenAllWasRead) {
    send("last");
    ours_.reset();
    EXPECT_EQ(text_of(receive().value()), "last");
    EXPECT_FALSE(receive().has_value());
    EXPECT_FALSE(receive().has_value());
}

// The child has the default action of SIGPIPE, which would end it.
TEST_F(DescriptorSocketTest, SendingToNobodyIsEpipeWithoutASignal) {
    EXPECT_EQ(tests::in_child([&] {
                  tests::set_action(SIGPIPE, SIG_DFL);
                  auto [one, other] = open_message_sockets();
                  other.reset();
                  if (try_send_message(one.get(), bytes_of("x"), {}) != EPIPE) return 1;
                  return error_of([&, &one = one] { send_message(one.get(), bytes_of("x"), {}); });
              }),
              (tests::ChildEnd{EPIPE, 0}));
}

TEST_F(DescriptorSocketTest, FullSocketIsEagainAndTakesMoreOnceItIsRead) {
    int sent = 0;
    int error = 0;
    while ((error = try_send_message(ours_.get(), bytes_of("message"), {})) == 0) ++sent;
    EXPECT_EQ(error, EAGAIN);
    EXPECT_GT(sent, 0);
    for (int i = 0; i < sent; ++i) ASSERT_EQ(text_of(receive().value()), "message");
    EXPECT_EQ(try_send_message(ours_.get(), bytes_of("message"), {}), 0);
}

// The descriptors of a message that finds no room are closed, and the next message is intact.
TEST_F(DescriptorSocketTest, ReceiverWithoutRoomForDescriptorsIsEmfileOnce) {
    const UniqueFd file = create_memfd("file");
    send("two", std::vector{file.get(), file.get()});
    send("next", std::vector{file.get()});
    {
        const DescriptorLimit one(1);
        EXPECT_EQ(error_of_receive(), EMFILE);
    }
    const Message next = receive().value();
    EXPECT_EQ(text_of(next), "next");
    EXPECT_EQ(next.fds.size(), 1U);
}

TEST_F(DescriptorSocketTest, MessageOverTheLimitIsEmsgsizeOnce) {
    const std::vector<std::byte> bytes(kMaxMessageBytes + 1);
    ASSERT_EQ(::send(ours_.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    send("next");
    EXPECT_EQ(error_of_receive(), EMSGSIZE);
    EXPECT_EQ(text_of(receive().value()), "next");
}

TEST_F(DescriptorSocketTest, UnreadMessagesOfAClosedEndAreEconnresetOnce) {
    send_message(theirs_.get(), bytes_of("unread"), {});
    send("sent before");
    ours_.reset();
    EXPECT_EQ(error_of_receive(), ECONNRESET);
    EXPECT_EQ(text_of(receive().value()), "sent before");
    EXPECT_FALSE(receive().has_value());
}

TEST_F(DescriptorSocketTest, ClosedDescriptorsAreEbadf) {
    EXPECT_EQ(error_of([] { static_cast<void>(receive_message(closed_descriptor())); }), EBADF);
    EXPECT_EQ(error_of([] { send_message(closed_descriptor(), bytes_of("x"), {}); }), EBADF);
    EXPECT_EQ(error_of([&] { send("x", std::vector{closed_descriptor()}); }), EBADF);
    EXPECT_EQ(try_send_message(closed_descriptor(), bytes_of("x"), {}), EBADF);
}

TEST_F(DescriptorSocketTest, DescriptorThatIsNoSocketIsEnotsock) {
    const UniqueFd file = create_memfd("file");
    EXPECT_EQ(error_of([&] { send_message(file.get(), bytes_of("x"), {}); }), ENOTSOCK);
    EXPECT_EQ(error_of([&] { static_cast<void>(receive_message(file.get())); }), ENOTSOCK);
}

TEST_F(DescriptorSocketTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit one(1);
    EXPECT_EQ(error_of([] { static_cast<void>(open_message_sockets()); }), EMFILE);
}

// The test changes its user, because root may have any number of descriptors in flight.
TEST_F(DescriptorSocketTest, TooManyDescriptorsOnTheirWayAreEtoomanyrefs) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become a user without any on their way";
    const tests::ChildEnd end = tests::in_child([&] {
        constexpr rlim_t kMost = 64;
        const tests::ScopedLimit limit(RLIMIT_NOFILE, kMost);
        if (::setresuid(65533, 65533, 65533) != 0) return tests::kNotHere;
        const std::vector<int> fds(16, ours_.get());
        for (rlim_t i = 0; i < kMost; ++i) {
            if (const int error = try_send_message(ours_.get(), bytes_of("x"), fds); error != 0) return error;
        }
        return 0;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, (tests::ChildEnd{ETOOMANYREFS, 0}));
    connect();  // the descriptors in flight end with the sockets
}

}  // namespace
