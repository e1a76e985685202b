// Value channels: snapshots that are sent as descriptors, and hostile senders (I3).
#include "pipes/value_channel.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "pipes/channel/message_codec.hpp"
#include "pipes/message_socket.hpp"
#include "procrun/process/function_process.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/view.hpp"

namespace {

using pipes::MessageSocket;
using pipes::ValueChannel;
using vmcow::Arena;
using vmcow::Snapshot;
using vmcow::View;

Snapshot letters(std::size_t bytes) {
    Arena arena({.name = "letters"});
    std::byte* const at = arena.allocate(bytes, 1);
    for (std::size_t i = 0; i < bytes; ++i) at[i] = static_cast<std::byte>('a' + i % 26);
    return std::move(arena).freeze();
}

bool same_bytes(const Snapshot& a, const Snapshot& b) {
    return a.extent_bytes() == b.extent_bytes() &&
           std::memcmp(a.bytes().data(), b.bytes().data(), a.extent_bytes()) == 0;
}

int errno_of_receive(ValueChannel& channel) {
    try {
        (void)channel.receiver.receive();
        return 0;
    } catch (const std::system_error& error) {
        return error.code().value();
    }
}

TEST(ValueChannelTest, SnapshotArrivesWithItsBytesAndExtent) {
    ValueChannel channel = ValueChannel::open();
    const Snapshot sent = letters(10'001);
    channel.sender.send(sent);
    const std::optional<Snapshot> received = channel.receiver.receive();
    ASSERT_TRUE(received.has_value());
    EXPECT_TRUE(same_bytes(*received, sent));
    EXPECT_EQ(received->name(), "letters");
}

TEST(ValueChannelTest, SnapshotsArriveInOrderAndThenTheEnd) {
    ValueChannel channel = ValueChannel::open();
    for (std::size_t i = 1; i <= 20; ++i) channel.sender.send(letters(i));
    { const pipes::ValueSender closed = std::move(channel.sender); }
    for (std::size_t i = 1; i <= 20; ++i) EXPECT_EQ(channel.receiver.receive()->extent_bytes(), i);
    EXPECT_FALSE(channel.receiver.receive().has_value());
    EXPECT_FALSE(channel.receiver.receive().has_value());
}

// Both ends map one file, so that no byte is copied.
TEST(ValueChannelTest, ReceiverMapsTheSendersFile) {
    ValueChannel channel = ValueChannel::open();
    const Snapshot sent = letters(5000);
    channel.sender.send(sent);
    const Snapshot received = *channel.receiver.receive();
    struct stat a {};
    struct stat b {};
    ASSERT_EQ(::fstat(sent.base_fd(), &a), 0);
    ASSERT_EQ(::fstat(received.base_fd(), &b), 0);
    EXPECT_EQ(a.st_ino, b.st_ino);
}

TEST(ValueChannelTest, DeltasTravelWithTheirBase) {
    ValueChannel channel = ValueChannel::open();
    const Snapshot base = letters(100 * vmcow::kPageBytes);
    View view = base.map_private();
    view.bytes()[5 * vmcow::kPageBytes] = std::byte{1};
    const Snapshot once = view.capture();
    view.bytes()[70 * vmcow::kPageBytes] = std::byte{2};
    const Snapshot twice = view.capture();
    channel.sender.send(once);
    channel.sender.send(twice);
    const Snapshot first = *channel.receiver.receive();
    const Snapshot second = *channel.receiver.receive();
    EXPECT_EQ(first.delta_pages(), vmcow::PageCount{1});
    EXPECT_TRUE(same_bytes(first, once));
    EXPECT_TRUE(same_bytes(second, twice));
}

// Addresses inside an image hold in every process in which the slot is free.
TEST(ValueChannelTest, ReceiverInAForkedProcessHasTheImageAtTheSendersSlot) {
    ValueChannel channel = ValueChannel::open();
    procrun::Process maker = procrun::fork_function_process([&] {
        Arena arena({.name = "linked"});
        auto* const words = reinterpret_cast<std::uintptr_t*>(arena.allocate(64));
        words[0] = reinterpret_cast<std::uintptr_t>(&words[3]);
        words[3] = 4711;
        channel.sender.send(std::move(arena).freeze());
        return 0;
    });
    const procrun::ExitRecord ended = maker.wait();
    ASSERT_TRUE(ended.outcome.ok()) << ended.outcome.describe();
    const Snapshot received = *channel.receiver.receive();
    const auto* const words = reinterpret_cast<const std::uintptr_t*>(received.bytes().data());
    EXPECT_EQ(words[0], reinterpret_cast<std::uintptr_t>(&words[3]));
    EXPECT_EQ(*reinterpret_cast<const std::uintptr_t*>(words[0]), 4711u);
}

TEST(ValueChannelTest, SnapshotOutlivesItsSender) {
    ValueChannel channel = ValueChannel::open();
    procrun::Process maker = procrun::fork_function_process([&] {
        channel.sender.send(letters(3 * vmcow::kPageBytes));
        return 0;
    });
    ASSERT_TRUE(maker.wait().outcome.ok());
    const Snapshot received = *channel.receiver.receive();
    EXPECT_TRUE(same_bytes(received, letters(3 * vmcow::kPageBytes)));
}

TEST(ValueChannelTest, SendWithoutAReceiverIsBrokenPipeAndNoSignal) {
    ValueChannel channel = ValueChannel::open();
    { const pipes::ValueReceiver closed = std::move(channel.receiver); }
    try {
        channel.sender.send(letters(1));
        ADD_FAILURE() << "sent to nobody";
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code().value(), EPIPE);
    }
}

// A hostile sender can make receive() throw, and nothing else (I3).
class HostileSenderTest : public testing::Test {
protected:
    /// Sends `snapshot`, after `forge` has changed the bytes or the descriptors of the message.
    template <class Forge>
    int errno_after(Forge&& forge) {
        pipes::MessageWriter writer;
        writer.put(letters(3 * vmcow::kPageBytes));
        std::vector<std::byte> bytes(writer.bytes().begin(), writer.bytes().end());
        std::vector<int> fds(writer.fds().begin(), writer.fds().end());
        forge(bytes, fds);
        MessageSocket raw(vmcow::sys::duplicate(channel_.sender.socket().fd().get()));
        raw.send(bytes, fds);
        return errno_of_receive(channel_);
    }
    void TearDown() override {
        channel_.sender.send(letters(7));
        EXPECT_EQ(channel_.receiver.receive()->extent_bytes(), 7u) << "the channel can still be used";
    }

    ValueChannel channel_ = ValueChannel::open();
};

TEST_F(HostileSenderTest, UnchangedForgeryIsAccepted) {
    EXPECT_EQ(errno_after([](auto&, auto&) {}), 0);
}

TEST_F(HostileSenderTest, ShortMessageIsRefused) {
    EXPECT_EQ(errno_after([](auto& bytes, auto&) { bytes.resize(bytes.size() / 2); }), EBADMSG);
}

TEST_F(HostileSenderTest, LongMessageIsRefused) {
    EXPECT_EQ(errno_after([](auto& bytes, auto&) { bytes.push_back(std::byte{0}); }), EBADMSG);
}

TEST_F(HostileSenderTest, MissingDescriptorIsRefused) {
    EXPECT_EQ(errno_after([](auto&, auto& fds) { fds.clear(); }), EBADMSG);
}

TEST_F(HostileSenderTest, UnsealedFileIsRefused) {
    const vmcow::sys::UniqueFd open = vmcow::sys::create_memfd("open");
    vmcow::sys::resize_memfd(open.get(), 3 * vmcow::kPageBytes, "open");
    EXPECT_EQ(errno_after([&](auto&, auto& fds) { fds.front() = open.get(); }), EBADMSG);
}

TEST_F(HostileSenderTest, PipeInsteadOfAFileIsRefused) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    EXPECT_EQ(errno_after([&](auto&, auto& fds) { fds.front() = ends[0]; }), EBADMSG);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_F(HostileSenderTest, ExtentBeyondTheFileIsRefused) {
    EXPECT_EQ(errno_after([](auto& bytes, auto&) { std::memset(bytes.data(), 0x7f, 8); }), EBADMSG);
}

TEST_F(HostileSenderTest, SlotAddressOfNonsenseIsNotUsed) {
    EXPECT_EQ(errno_after([](auto& bytes, auto&) { std::memset(bytes.data() + 8, 0xff, 8); }), 0);
}

TEST_F(HostileSenderTest, TooManyDeltasAreRefused) {
    EXPECT_EQ(errno_after([](auto& bytes, auto&) { std::memset(bytes.data() + 16, 0xff, 8); }), EBADMSG);
}

TEST_F(HostileSenderTest, UnfinishedNameIsCutOff) {
    EXPECT_EQ(errno_after([](auto& bytes, auto&) { std::memset(bytes.data() + bytes.size() - 64, 'n', 64); }), 0);
}

TEST(MessageSocketTest, ReceiverWithoutFreeDescriptorsGetsEmfileAndKeepsNone) {
    auto [a, b] = MessageSocket::pair();
    const std::byte byte{1};
    const std::vector<int> fds{0, 0, 0};
    a.send({&byte, 1}, fds);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const int first_free = vmcow::sys::duplicate(0).get();
    const rlimit small{static_cast<rlim_t>(first_free) + 1, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &small), 0);
    int error_number = 0;
    try {
        (void)b.receive();
    } catch (const std::system_error& error) {
        error_number = error.code().value();
    }
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_EQ(error_number, EMFILE);
}

TEST(MessageSocketTest, ClosedDescriptorIsAnErrorOnBothSides) {
    MessageSocket closed;
    const std::byte byte{1};
    EXPECT_THROW(closed.send({&byte, 1}, {}), std::system_error);
    EXPECT_THROW((void)closed.receive(), std::system_error);
}

TEST(MessageSocketTest, DescriptorsArriveCloseOnExec) {
    auto [a, b] = MessageSocket::pair();
    const std::byte byte{1};
    const std::vector<int> fds{0};
    a.send({&byte, 1}, fds);
    const auto message = b.receive();
    ASSERT_EQ(message->fds.size(), 1u);
    EXPECT_EQ(::fcntl(message->fds[0].get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(MessageSocketTest, LargestMessageArrivesWhole) {
    auto [a, b] = MessageSocket::pair();
    const std::vector<std::byte> bytes(MessageSocket::kMaxBytes, std::byte{7});
    const std::vector<int> fds(MessageSocket::kMaxFds, 0);
    a.send(bytes, fds);
    const auto message = b.receive();
    EXPECT_EQ(message->bytes, bytes);
    EXPECT_EQ(message->fds.size(), fds.size());
}

}  // namespace
