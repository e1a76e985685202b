// Tests values that a program gets as arguments and returns as results, and their form on a connection.
#include "vmcow/program_values.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/view.hpp"
#include "vmcow/wire/snapshot_codec.hpp"
#include "vmcow/wire/typed_values.hpp"
#include "vmcow/wire/values_variable.hpp"

namespace {

using vmcow::PackedSnapshot;
using vmcow::SentFiles;
using vmcow::Snapshot;
using vmcow::TypedSnapshot;
using vmcow::sys::UniqueFd;

/// Runs `body` as a program that was started with a connection whose first message holds `arguments`; `ours` is the
/// other end. `body` returns exit status 0 for success.
tests::ChildEnd in_program(const std::vector<TypedSnapshot>& arguments,
                           const std::function<int(UniqueFd& ours)>& body) {
    auto [ours, theirs] = vmcow::sys::open_message_sockets();
    vmcow::send_values(ours.get(), arguments);
    return tests::in_child([&, mine = &ours, given = &theirs] {
        ::setenv(vmcow::kValuesVariable, vmcow::values_variable(given->get()).c_str(), 1);
        const int status = body(*mine);
        static_cast<void>(given->release());  // the connection owns it now
        return status;
    });
}

/// Runs `body` as a program whose variable has this content, and which has no connection.
tests::ChildEnd in_program_with_variable(const std::string& content, const std::function<int()>& body) {
    return tests::in_child([&] {
        ::setenv(vmcow::kValuesVariable, content.c_str(), 1);
        return body();
    });
}

int errno_of_count() {
    return tests::error_of([] { static_cast<void>(vmcow::argument_count()); });
}

Snapshot snapshot_of_page(std::byte content) {
    return tests::snapshot_of(std::vector<std::byte>(vmcow::kPageBytes, content));
}

Snapshot changed(const Snapshot& snapshot, const tests::Pages& pages) {
    vmcow::View view = snapshot.map_private();
    tests::write_pages(view, pages);
    return view.capture();
}

TEST(ProgramValuesTest, ProgramWithoutTheVariableWasNotStartedWithValues) {
    EXPECT_EQ(tests::in_child([] { return vmcow::started_with_values() ? 1 : errno_of_count(); }),
              (tests::ChildEnd{ENOTCONN, 0}));
}

TEST(ProgramValuesTest, VariableThatNamesNoConnectionIsTakenAwayAndBelievedNothing) {
    const auto [first, second] = vmcow::sys::open_message_sockets();
    const std::string wrong_inode = std::to_string(first.get()) + ":1";
    for (const std::string& content :
         {std::string("0:0"), std::string("1000000:5"), std::string("-1:5"), std::string(""), std::string("x"),
          wrong_inode, vmcow::values_variable(first.get()) + "0", vmcow::values_variable(first.get()) + ":asks",
          wrong_inode + ":ask", std::to_string(first.get())}) {
        EXPECT_EQ(in_program_with_variable(content,
                                           [] {
                                               if (vmcow::started_with_values()) return 1;
                                               return std::getenv(vmcow::kValuesVariable) == nullptr ? 0 : 2;
                                           }),
                  tests::kChildExitedWell)
            << content;
    }
}

TEST(ProgramValuesTest, ArgumentsAreThereEachTimeTheyAreAskedForAndAreOneImage) {
    const Snapshot one = snapshot_of_page(std::byte{1});
    EXPECT_EQ(in_program({{one, 7}, {snapshot_of_page(std::byte{2})}},
                         [](UniqueFd&) {
                             if (!vmcow::started_with_values() || vmcow::argument_count() != 2) return 1;
                             if (vmcow::argument(0).layers() != vmcow::argument(0).layers()) return 2;
                             if (vmcow::argument_type(0) != 7 || vmcow::argument_type(1) != 0) return 3;
                             if (vmcow::argument(0).bytes()[0] != std::byte{1}) return 4;
                             return vmcow::argument(1).bytes()[0] == std::byte{2} ? 0 : 5;
                         }),
              tests::kChildExitedWell);
}

TEST(ProgramValuesTest, ArgumentPastTheLastOneIsAnErrorThatSaysHowManyThereAre) {
    EXPECT_EQ(in_program({{snapshot_of_page(std::byte{1})}},
                         [](UniqueFd&) {
                             const std::string text = tests::message_of([] { static_cast<void>(vmcow::argument(1)); });
                             return text == "argument 1 of 1: Invalid argument" ? 0 : 1;
                         }),
              tests::kChildExitedWell);
}

TEST(ProgramValuesTest, ArgumentOfAnotherTypeIsAnErrorThatNamesBoth) {
    EXPECT_EQ(in_program({{snapshot_of_page(std::byte{1}), 7}, {snapshot_of_page(std::byte{2}), 0}},
                         [](UniqueFd&) {
                             vmcow::detail::require_argument_type(0, 7);
                             vmcow::detail::require_argument_type(1, 8);  // an unknown type is accepted
                             const std::string text =
                                 tests::message_of([] { vmcow::detail::require_argument_type(0, 8); });
                             return text == "argument 0 (4096 bytes) is of type 7, not of type 8: Bad message" ? 0 : 1;
                         }),
              tests::kChildExitedWell);
}

TEST(ProgramValuesTest, ResultArrivesAtTheCallerWithItsType) {
    EXPECT_EQ(in_program({},
                         [](UniqueFd& ours) {
                             vmcow::result(snapshot_of_page(std::byte{9}), 42);
                             const auto values = vmcow::unpack_values(*vmcow::sys::receive_message(ours.get()));
                             if (values.size() != 1 || values[0].type != 42) return 1;
                             return values[0].snapshot.bytes()[17] == std::byte{9} ? 0 : 2;
                         }),
              tests::kChildExitedWell);
}

// ---- a connection on which each argument must be asked for

/// Runs `body` as a program that was started with such a connection. Meanwhile `caller` runs with the other end, and
/// returns when it has given all arguments.
tests::ChildEnd in_asking_program(const std::function<void(UniqueFd& ours)>& caller, const std::function<int()>& body) {
    auto [ours, theirs] = vmcow::sys::open_message_sockets();
    const pid_t pid = ::fork();
    if (pid == 0) {
        theirs.reset();
        caller(ours);
        ::_exit(0);
    }
    ours.reset();
    const tests::ChildEnd end = tests::in_child([&, given = &theirs] {
        ::setenv(vmcow::kValuesVariable, vmcow::values_variable(given->get(), true).c_str(), 1);
        const int status = body();
        static_cast<void>(given->release());  // the connection owns it now
        return status;
    });
    theirs.reset();
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    return end;
}

void answer_with(UniqueFd& ours, std::byte content) {
    const auto asked = vmcow::sys::receive_message(ours.get());
    if (!asked || !vmcow::is_value_request(*asked)) ::_exit(1);
    const TypedSnapshot value{snapshot_of_page(content), 3};
    vmcow::send_values(ours.get(), {&value, 1});
}

TEST(ProgramValuesTest, ArgumentsAreAskedForOneByOneAndStayThere) {
    EXPECT_EQ(in_asking_program(
                  [](UniqueFd& ours) {
                      answer_with(ours, std::byte{1});
                      answer_with(ours, std::byte{2});
                      const auto last = vmcow::sys::receive_message(ours.get());
                      if (!last || !vmcow::is_value_request(*last)) ::_exit(2);
                      ::shutdown(ours.get(), SHUT_WR);
                      // The program can still send its result.
                      if (vmcow::unpack_values(*vmcow::sys::receive_message(ours.get())).size() != 1) ::_exit(3);
                      if (vmcow::sys::receive_message(ours.get())) ::_exit(4);
                  },
                  [] {
                      if (vmcow::argument(0).bytes()[0] != std::byte{1}) return 1;
                      if (vmcow::argument(1).bytes()[0] != std::byte{2} || vmcow::argument_type(1) != 3) return 2;
                      if (vmcow::argument_count() != 2 || vmcow::argument_count() != 2) return 3;
                      if (tests::error_of([] { static_cast<void>(vmcow::argument(2)); }) != EINVAL) return 4;
                      vmcow::result(vmcow::argument(0));
                      return 0;
                  }),
              tests::kChildExitedWell);
}

TEST(ProgramValuesTest, ResultIsGivenWithoutAskingForArguments) {
    EXPECT_EQ(in_asking_program(
                  [](UniqueFd& ours) {
                      const auto first = vmcow::sys::receive_message(ours.get());
                      if (!first || vmcow::is_value_request(*first)) ::_exit(1);
                  },
                  [] {
                      vmcow::result(snapshot_of_page(std::byte{9}));
                      return vmcow::started_with_values() ? 0 : 1;
                  }),
              tests::kChildExitedWell);
}

TEST(ProgramValuesTest, CallerWhoGivesNoMoreLeavesWhatThereIs) {
    EXPECT_EQ(in_asking_program([](UniqueFd& ours) { answer_with(ours, std::byte{1}); },
                                [] { return vmcow::argument_count() == 1 ? 0 : 1; }),
              tests::kChildExitedWell);
}

TEST(ProgramValuesTest, AnswerThatIsNoValueIsAnErrorEachTime) {
    EXPECT_EQ(in_asking_program(
                  [](UniqueFd& ours) {
                      static_cast<void>(vmcow::sys::receive_message(ours.get()));
                      const std::vector<std::byte> bytes(200, std::byte{1});
                      vmcow::sys::send_message(ours.get(), bytes, {});
                  },
                  [] {
                      if (errno_of_count() != EBADMSG) return 1;
                      return errno_of_count() == EBADMSG ? 0 : 2;
                  }),
              tests::kChildExitedWell);
}

TEST(ProgramValuesTest, ResultForACallerWhoIsGoneIsBrokenPipe) {
    EXPECT_EQ(in_program({},
                         [](UniqueFd& ours) {
                             ::shutdown(ours.get(), SHUT_RDWR);  // the test has this end open, too
                             return tests::error_of([] { vmcow::result(snapshot_of_page(std::byte{9})); });
                         }),
              (tests::ChildEnd{EPIPE, 0}));
}

/// The body of a program that asks twice how many arguments its connection `given` has; the connection has no valid
/// arguments.
int count_twice(UniqueFd& given) {
    if (!vmcow::started_with_values()) return 1;
    static_cast<void>(given.release());
    if (errno_of_count() != EBADMSG) return 2;
    return errno_of_count() == EBADMSG ? 0 : 3;
}

TEST(ProgramValuesTest, ConnectionWhoseArgumentsSomebodyElseTookIsAnErrorEachTime) {
    auto [ours, theirs] = vmcow::sys::open_message_sockets();
    const std::string variable = vmcow::values_variable(theirs.get());
    EXPECT_EQ(in_program_with_variable(variable, [given = &theirs] { return count_twice(*given); }),
              tests::kChildExitedWell);
}

TEST(ProgramValuesTest, ConnectionOnWhichSomethingElseWaitsIsAnErrorEachTime) {
    auto [ours, theirs] = vmcow::sys::open_message_sockets();
    const std::vector<std::byte> bytes(200, std::byte{1});
    vmcow::sys::send_message(ours.get(), bytes, {});
    const std::string variable = vmcow::values_variable(theirs.get());
    EXPECT_EQ(in_program_with_variable(variable, [given = &theirs] { return count_twice(*given); }),
              tests::kChildExitedWell);
}

// ---- the form of a snapshot in a message

/// The snapshot as it arrives in a process that has sent `sent`.
Snapshot unpacked(PackedSnapshot packed, const SentFiles* sent) {
    std::size_t next = 0;
    return vmcow::unpack(
        packed.record, [&] { return std::move(packed.fds.at(next++)); }, sent);
}

TEST(SnapshotWireTest, SnapshotThatWasNotSentGetsABaseOfItsOwn) {
    const Snapshot snapshot = snapshot_of_page(std::byte{3});
    const SentFiles sent;
    const Snapshot copy = unpacked(vmcow::pack(snapshot), &sent);
    EXPECT_NE(copy.layers()->shared_base(), snapshot.layers()->shared_base());
    EXPECT_TRUE(tests::same_bytes(copy.bytes(), snapshot.bytes()));
    EXPECT_EQ(copy.name(), snapshot.name());
}

TEST(SnapshotWireTest, FilesThatWereSentAreTheObjectsThatAreHere) {
    const Snapshot snapshot = changed(tests::zeros(10), {1, 2});
    SentFiles sent;
    sent.add(snapshot, vmcow::pack(snapshot).fds);
    const Snapshot back = unpacked(vmcow::pack(changed(snapshot, {5})), &sent);
    EXPECT_EQ(back.layers()->shared_base(), snapshot.layers()->shared_base());
    ASSERT_EQ(back.delta_count(), 2u);
    EXPECT_EQ(back.layers()->deltas()[0], snapshot.layers()->deltas()[0]);
    EXPECT_EQ(back.bytes()[5 * vmcow::kPageBytes + 17], std::byte{1});
}

// A hostile sender may combine files that we have sent in ways that do not fit (I3).
TEST(SnapshotWireTest, DeltaThatWasSentOverALargerBaseIsRefusedOverASmallerOne) {
    const Snapshot large = changed(tests::zeros(10), {9});
    const Snapshot small = tests::zeros(2);
    SentFiles sent;
    sent.add(large, vmcow::pack(large).fds);
    sent.add(small, vmcow::pack(small).fds);
    PackedSnapshot forged = vmcow::pack(small);
    forged.record.delta_count = 1;
    forged.record.delta_pages[0] = 1;
    forged.fds.push_back(std::move(vmcow::pack(large).fds.at(1)));
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(unpacked(std::move(forged), &sent)); }), EBADMSG);
}

TEST(SnapshotWireTest, DeltaThatWasSentHasAsManyPagesAsItHas) {
    const Snapshot snapshot = changed(tests::zeros(10), {1, 2});
    SentFiles sent;
    sent.add(snapshot, vmcow::pack(snapshot).fds);
    PackedSnapshot forged = vmcow::pack(snapshot);
    forged.record.delta_pages[0] = 1;
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(unpacked(std::move(forged), &sent)); }), EBADMSG);
}

TEST(SnapshotWireTest, ExtentThatCannotBeIsRefusedOverAFileThatWasSent) {
    const Snapshot snapshot = tests::zeros(2);
    SentFiles sent;
    sent.add(snapshot, vmcow::pack(snapshot).fds);
    for (const std::uint64_t extent :
         {std::uint64_t{0}, std::uint64_t{4096}, ~std::uint64_t{0}, ~std::uint64_t{0} - 4096, std::uint64_t{1} << 60}) {
        PackedSnapshot forged = vmcow::pack(snapshot);
        forged.record.extent_bytes = extent;
        EXPECT_EQ(tests::error_of([&] { static_cast<void>(unpacked(std::move(forged), &sent)); }), EBADMSG);
    }
}

// Such a snapshot is sent as a copy in a sealed file, so none of its files is known here.
TEST(SnapshotWireTest, SnapshotOfAFileThatIsNotSealedIsNotKnownAgain) {
    const Snapshot snapshot = snapshot_of_page(std::byte{3});
    SentFiles sent;
    std::vector<UniqueFd> copied = vmcow::pack(snapshot_of_page(std::byte{3})).fds;
    const int fd = copied.front().get();
    sent.add(snapshot, std::move(copied));
    EXPECT_EQ(sent.base(snapshot.base_fd()), nullptr);
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(sent.base(fd)); }), EBADF);
}

TEST(ValuesMessageTest, NoValuesAreAMessageToo) {
    const auto [a, b] = vmcow::sys::open_message_sockets();
    vmcow::send_values(a.get(), {});
    EXPECT_TRUE(vmcow::unpack_values(*vmcow::sys::receive_message(b.get())).empty());
}

TEST(ValuesMessageTest, ClosedDescriptorsAreErrors) {
    EXPECT_EQ(tests::error_of([] { vmcow::send_values(-1, {}); }), EBADF);
    EXPECT_EQ(tests::error_of([] { static_cast<void>(vmcow::values_variable(-1)); }), EBADF);
    EXPECT_FALSE(vmcow::connection_of_values_variable(nullptr).has_value());
}

TEST(DescriptorSocketTest, EndWithUnreadMessagesResetsTheOtherOnceAndItsOwnMessagesArrive) {
    auto [a, b] = vmcow::sys::open_message_sockets();
    const std::byte byte{1};
    vmcow::sys::send_message(a.get(), {&byte, 1}, {});
    vmcow::sys::send_message(b.get(), {&byte, 1}, {});
    b.reset();
    EXPECT_EQ(tests::error_of([&, end = a.get()] { static_cast<void>(vmcow::sys::receive_message(end)); }), ECONNRESET);
    EXPECT_TRUE(vmcow::sys::receive_message(a.get()).has_value());
    EXPECT_FALSE(vmcow::sys::receive_message(a.get()).has_value());
}

}  // namespace
