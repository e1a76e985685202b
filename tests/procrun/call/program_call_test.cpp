// ProgramCall: values that go to a program and come back, the pages that change, and programs that break the protocol.
#include "procrun/program_call.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pipes/pipe.hpp"
#include "tests/procrun/call/document.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::CallResult;
using procrun::Deadline;
using procrun::Outcome;
using procrun::OutcomeKind;
using procrun::Program;
using procrun::ProgramCall;
using tests::Document;
using vmcow::kPageBytes;
using vmcow::PageCount;
using vmcow::Snapshot;
using vmcow::TypedSnapshot;
using vmcow::Value;
using vmcow::sys::UniqueFd;

using namespace std::chrono_literals;

constexpr std::size_t kDoublesInPage = kPageBytes / sizeof(double);

/// An image of `pages` pages that holds 0, 1, 2, … as doubles.
Snapshot doubles(std::size_t pages) {
    vmcow::Arena arena({.name = "numbers"});
    const std::span<double> numbers = arena.allocate_array<double>(pages * kDoublesInPage);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i);
    return std::move(arena).freeze();
}

double number_at(const Snapshot& snapshot, std::size_t index) {
    double number = 0;
    std::memcpy(&number, snapshot.bytes().data() + index * sizeof(double), sizeof number);
    return number;
}

ProgramCall scale(double factor, std::size_t first, std::size_t count) {
    return ProgramCall(Program({SCALE_VALUE, std::to_string(factor), std::to_string(first), std::to_string(count)}));
}

ProgramCall enemy(std::vector<std::string> words) {
    words.insert(words.begin(), VALUE_ENEMY);
    return ProgramCall(Program(std::move(words)));
}

/// The outcome of a call that returns no result.
Outcome failure_of(const ProgramCall& call) {
    const auto result = call.run();
    if (!result.ok()) return result.outcome();
    ADD_FAILURE() << "it has given " << result.value().size() << " values";
    return {};
}

/// What a program printed on its standard output, and how it ended.
struct Printed {
    std::string text;
    Outcome outcome;
};
Printed printed_by(Program program, const std::vector<TypedSnapshot>& arguments = {}) {
    pipes::Pipe pipe = pipes::Pipe::open();
    program.descriptor(STDOUT_FILENO, pipe.write_end().get());
    ProgramCall call(std::move(program));
    for (const TypedSnapshot& each : arguments) call.argument(each.snapshot, each.type);
    Printed printed;
    printed.outcome = call.run().outcome();
    pipe.take_write_end().reset();
    std::array<char, 4096> buffer{};
    const std::size_t got =
        vmcow::sys::read_full(pipe.read_end().get(), std::as_writable_bytes(std::span(buffer)), "output");
    printed.text.assign(buffer.data(), got);
    return printed;
}

// ---- typed values

/// A value of this many numbers lies in a file of its own, and not in the page store.
constexpr std::size_t kInAFile = 300'000;

Value<double[]> numbers_to(std::size_t count) {
    Value<double[]> numbers(count);
    numbers.edit([](std::span<double> all) { std::iota(all.begin(), all.end(), 0.0); });
    return numbers;
}

TEST(ProgramCallTest, ValueGoesThroughTwoExecutablesAndBack) {
    const Value<double[]> numbers = numbers_to(100'000);
    const auto scaled = scale(2, 0, 10).argument(numbers).run<double[]>();
    ASSERT_TRUE(scaled.ok()) << scaled.outcome().describe();
    const auto sum = ProgramCall(Program({SUM_VALUE})).argument(scaled.value()).run<double>();
    ASSERT_TRUE(sum.ok()) << sum.outcome().describe();
    EXPECT_EQ(*sum.value(), 100'000.0 * 99'999.0 / 2 + 45);
    EXPECT_EQ(numbers[9], 9.0);
    EXPECT_EQ(scaled.value()[9], 18.0);
}

TEST(ProgramCallTest, ResultIsARelativeOfTheArgumentAndCanBeChangedHere) {
    const Value<double[]> numbers = numbers_to(kInAFile);
    Value<double[]> scaled = scale(2, 1, 1).argument(numbers).run<double[]>().value();
    EXPECT_EQ(scaled.snapshot().layers()->shared_base(), numbers.snapshot().layers()->shared_base());
    EXPECT_EQ(scaled.snapshot().delta_pages(), PageCount{1});
    scaled.edit([](std::span<double> all) { all[1] += 1; });
    EXPECT_EQ(scaled[1], 3.0);
    EXPECT_EQ(numbers[1], 1.0);
}

TEST(ProgramCallTest, ValueWithContainersIsWholeInAProgramAndWhenItComesBack) {
    Value<Document> document;
    document.edit([](Document& it) {
        it.title = "a title that is too long to lie in the object itself, and so lies in the heap";
        for (int i = 0; i < 100'000; ++i) it.words.push_back(i);
    });
    const auto back = enemy({"append-word"}).argument(document).run<Document>();
    ASSERT_TRUE(back.ok()) << back.outcome().describe();
    EXPECT_EQ(back.value()->title, document->title);
    ASSERT_EQ(back.value()->words.size(), 100'001u);
    EXPECT_EQ(back.value()->words.back(), 4711);
    EXPECT_EQ(document->words.size(), 100'000u);
}

TEST(ProgramCallTest, ArgumentOfAnotherTypeIsRefusedByTheProgram) {
    EXPECT_EQ(failure_of(scale(2, 0, 1).argument(Value<float[]>(10))).describe(), "exit 1");
}

TEST(ProgramCallTest, ResultOfAnotherTypeIsLost) {
    const auto result = scale(2, 0, 1).argument(numbers_to(10)).run<float[]>();
    EXPECT_EQ(result.outcome().kind, OutcomeKind::result_lost);
    EXPECT_EQ(result.outcome().code, EBADMSG);
    EXPECT_TRUE(result.outcome().text.starts_with("take a result: it is of type ")) << result.outcome().text;
}

// The program sends one page without a type, so that only the size and the content can be checked.
TEST(ProgramCallTest, ResultThatCannotBeAValueOfTheTypeIsLost) {
    const auto result = enemy({"one"}).run<double>();
    EXPECT_EQ(result.outcome().kind, OutcomeKind::result_lost);
    EXPECT_EQ(result.outcome().code, EBADMSG);
    EXPECT_EQ(enemy({"one"}).run<Document>().outcome().code, EBADMSG);
}

TEST(ProgramCallTest, ValueThatHasGrownSinceItWasSharedArrivesWhole) {
    Value<double[]> numbers = numbers_to(1000);
    const Value<double[]> before = numbers;
    numbers.append(std::vector<double>(10'000, 1.0));
    const auto sum = ProgramCall(Program({SUM_VALUE})).argument(numbers).run<double>();
    ASSERT_TRUE(sum.ok()) << sum.outcome().describe();
    EXPECT_EQ(*sum.value(), 1000.0 * 999.0 / 2 + 10'000);
    EXPECT_EQ(before.size(), 1000u);
}

TEST(ProgramCallTest, ValueThatGrowsInTheProgramComesBackLonger) {
    const Value<double[]> numbers = numbers_to(kInAFile);
    const auto longer = enemy({"append-numbers"}).argument(numbers).run<double[]>();
    ASSERT_TRUE(longer.ok()) << longer.outcome().describe();
    ASSERT_EQ(longer.value().size(), kInAFile + 10'000);
    EXPECT_EQ(longer.value()[kInAFile + 9'999], 7.0);
    EXPECT_EQ(longer.value().snapshot().layers()->shared_base(), numbers.snapshot().layers()->shared_base());
}

// ---- images

TEST(ProgramCallTest, CallersValueIsAsBefore) {
    const Snapshot numbers = doubles(20);
    const std::vector<std::byte> before = tests::copy_of(numbers.bytes());
    ASSERT_TRUE(scale(3, 0, 20 * kDoublesInPage).argument(numbers).run().ok());
    EXPECT_TRUE(tests::same_bytes(numbers.bytes(), before));
}

TEST(ProgramCallTest, OnlyChangedPagesComeBackOverTheBaseThatIsHere) {
    const Snapshot numbers = doubles(1000);
    const auto scaled = scale(2, 7 * kDoublesInPage, 2 * kDoublesInPage).argument(numbers).run_for_one();
    ASSERT_TRUE(scaled.ok()) << scaled.outcome().describe();
    const Snapshot& result = scaled.value().snapshot;
    EXPECT_EQ(result.delta_pages(), PageCount{2});
    EXPECT_EQ(result.layers()->shared_base(), numbers.layers()->shared_base());
    EXPECT_EQ(number_at(result, 7 * kDoublesInPage), 14.0 * kDoublesInPage);
    EXPECT_EQ(number_at(result, 9 * kDoublesInPage), 9.0 * kDoublesInPage);
}

TEST(ProgramCallTest, ChainStacksOneDeltaForEachProgramAndKnowsItsOwn) {
    const Snapshot numbers = doubles(1000);
    const Snapshot once = scale(2, 1, 1).argument(numbers).run_for_one().value().snapshot;
    const Snapshot twice = scale(3, 5 * kDoublesInPage, 1).argument(once).run_for_one().value().snapshot;
    ASSERT_EQ(twice.delta_count(), 2u);
    EXPECT_EQ(twice.layers()->deltas()[0], once.layers()->deltas()[0]);
    EXPECT_EQ(twice.layers()->shared_base(), numbers.layers()->shared_base());
    EXPECT_EQ(number_at(twice, 5 * kDoublesInPage), 15.0 * kDoublesInPage);
}

// A delta in the page store is sent as a copy. The copy that comes back must be recognized as that delta.
TEST(ProgramCallTest, DeltaOfThePageStoreThatComesBackIsTheOneThatIsHere) {
    const Snapshot numbers = doubles(50);
    const std::vector<std::byte> page(kPageBytes, std::byte{1});
    const vmcow::PageIndex at{3};
    const auto layers = numbers.layers()->with_changes(
        {&at, 1}, [&](std::size_t) { return page.data(); }, vmcow::Delta::stored_copy_of);
    const auto back = enemy({"give-arguments"}).argument(Snapshot(layers)).run();
    ASSERT_TRUE(back.ok()) << back.outcome().describe();
    EXPECT_EQ(back.value().at(0).snapshot.layers()->deltas(), layers->deltas());
}

TEST(ProgramCallTest, ArgumentsComeInTheirOrderWithTheirTypes) {
    const Printed printed =
        printed_by(Program({VALUE_ENEMY, "types"}), {{doubles(1), 11}, {doubles(2), 0}, {doubles(3), 33}});
    EXPECT_TRUE(printed.outcome.ok()) << printed.outcome.describe();
    EXPECT_EQ(printed.text, "3 arguments: 11 0 33\n");
}

TEST(ProgramCallTest, ResultsComeInTheirOrderWithTheirTypes) {
    const Snapshot first = doubles(1);
    const Snapshot second = doubles(2);
    const auto back = enemy({"give-arguments"}).argument(first).argument(second).run();
    ASSERT_TRUE(back.ok()) << back.outcome().describe();
    ASSERT_EQ(back.value().size(), 2u);
    EXPECT_EQ(back.value()[0].type, 1000u);
    EXPECT_EQ(back.value()[1].type, 1001u);
    EXPECT_EQ(back.value()[0].snapshot.layers()->shared_base(), first.layers()->shared_base());
    EXPECT_EQ(back.value()[1].snapshot.layers()->shared_base(), second.layers()->shared_base());
}

TEST(ProgramCallTest, CallWithoutArgumentsOrResultsIsACall) {
    const auto result = enemy({"look"}).run();
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_TRUE(result.value().empty());
}

TEST(ProgramCallTest, MostArgumentsThatFitInAMessageArrive) {
    const Snapshot one = doubles(1);
    const std::vector<TypedSnapshot> arguments(253, TypedSnapshot{one, 1});
    const Printed printed = printed_by(Program({VALUE_ENEMY, "types"}), arguments);
    EXPECT_TRUE(printed.outcome.ok()) << printed.outcome.describe();
    EXPECT_TRUE(printed.text.starts_with("253 arguments: 1 1 "));
}

TEST(ProgramCallTest, OneMoreArgumentIsRefusedBeforeAnythingRuns) {
    ProgramCall call = enemy({"nothing"});
    const Snapshot one = doubles(1);
    for (int i = 0; i < 254; ++i) call.argument(one);
    EXPECT_EQ(tests::error_of([&] { static_cast<void>(call.run()); }), E2BIG);
}

TEST(ProgramCallTest, OneCallCanBeRunFromManyThreads) {
    const Snapshot numbers = doubles(10);
    const ProgramCall call = scale(2, 0, kDoublesInPage).argument(numbers);
    std::vector<std::thread> threads;
    std::array<double, 8> answers{};
    for (double& answer : answers) {
        threads.emplace_back([&] {
            const auto result = call.run_for_one();
            if (result.ok()) answer = number_at(result.value().snapshot, 21);
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const double answer : answers) EXPECT_EQ(answer, 42.0);
}

// The connection must avoid both the descriptor that names the program and every number that the program is given.
TEST(ProgramCallTest, ConnectionTakesTheNumberOfNoOtherDescriptor) {
    const UniqueFd executable = vmcow::sys::open_file(VALUE_ENEMY, O_RDONLY);
    Program program({"/proc/self/fd/" + std::to_string(executable.get()), "types"});
    for (int number = 3; number < 60; ++number) {
        if (number != executable.get()) program.descriptor(number, STDERR_FILENO);
    }
    const Printed printed = printed_by(std::move(program), {{doubles(1), 5}});
    EXPECT_EQ(printed.text, "1 arguments: 5\n") << printed.outcome.describe();
}

TEST(ProgramCallTest, EmptyEnvironmentDoesNotHideTheValues) {
    Program program({VALUE_ENEMY, "types"});
    const Printed printed = printed_by(program.empty_environment(), {{doubles(1), 5}});
    EXPECT_EQ(printed.text, "1 arguments: 5\n") << printed.outcome.describe();
}

TEST(ProgramCallTest, ProgramThatKnowsNothingOfValuesMayStandBetween) {
    const Printed printed = printed_by(Program({"env", VALUE_ENEMY, "exec", VALUE_ENEMY, "types"}), {{doubles(1), 5}});
    EXPECT_EQ(printed.text, "1 arguments: 5\n") << printed.outcome.describe();
}

TEST(ProgramCallTest, ProgramThatWasNotStartedWithValuesIsToldSo) {
    const tests::CommandResult command = tests::run_command({SCALE_VALUE, "1", "0", "1"});
    EXPECT_EQ(command.end, (tests::ChildEnd{1, 0}));
    EXPECT_TRUE(command.err.starts_with("scale_value: this program was not started with values")) << command.err;
}

TEST(ProgramCallTest, ProgramThatCannotBeStartedIsAnOutcome) {
    const Outcome outcome = failure_of(ProgramCall(Program({"/nowhere/at/all"})).argument(doubles(1)));
    EXPECT_EQ(outcome.kind, OutcomeKind::not_started);
    EXPECT_EQ(outcome.code, ENOENT);
}

TEST(ProgramCallTest, IgnoredSigchldIsAnErrorAndLeavesNoProcess) {
    EXPECT_EQ(tests::in_child([] {
                  tests::set_action(SIGCHLD, SIG_IGN);
                  return tests::error_of([] { static_cast<void>(enemy({"nothing"}).run()); });
              }),
              (tests::ChildEnd{ECHILD, 0}));
}

// ---- a program has one result

TEST(ProgramCallTest, ProgramThatGivesNothingHasNoResult) {
    const auto result = enemy({"nothing"}).argument(doubles(1)).run_for_one();
    EXPECT_EQ(result.outcome().kind, OutcomeKind::result_lost);
    EXPECT_EQ(result.outcome().code, ENODATA);
    EXPECT_EQ(result.outcome().text, "take a result: the program gave no value");
}

TEST(ProgramCallTest, ProgramThatGivesTwoHasNoSingleResult) {
    const auto result = enemy({"two"}).run_for_one();
    EXPECT_EQ(result.outcome().kind, OutcomeKind::result_lost);
    EXPECT_EQ(result.outcome().text, "take a result: the program gave 2 values");
}

TEST(ProgramCallTest, ResultOfAProgramThatFailsIsDropped) {
    EXPECT_EQ(failure_of(enemy({"give-and-fail"})).describe(), "exit 5");
}

TEST(ProgramCallTest, ResultOfAProgramThatDiesIsDropped) {
    EXPECT_EQ(failure_of(enemy({"give-and-die"})).describe(), "killed by SIGKILL");
}

TEST(ProgramCallTest, ResultOfAProgramThatDoesNotLookAtItsArgumentsArrives) {
    const auto result = enemy({"give-without-look"}).argument(doubles(1)).run();
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_EQ(result.value().size(), 1u);
}

// ---- a program that means harm, or does it (I1, I3, I4)

TEST(ProgramCallTest, ArgumentCannotBeWrittenTo) {
    const Snapshot numbers = doubles(3);
    const std::vector<std::byte> before = tests::copy_of(numbers.bytes());
    EXPECT_TRUE(enemy({"write"}).argument(numbers).run().ok());
    EXPECT_TRUE(tests::same_bytes(numbers.bytes(), before));
}

TEST(ProgramCallTest, ConnectionIsHiddenFromWhatTheProgramStarts) {
    EXPECT_TRUE(enemy({"hidden"}).argument(doubles(1)).run().ok());
    const Outcome outcome = failure_of(enemy({"look-and-exec", VALUE_ENEMY, "look"}).argument(doubles(1)));
    EXPECT_EQ(outcome.describe(), "exit 3");
}

TEST(ProgramCallTest, ProgramThatRunsPastItsDeadlineIsKilled) {
    for (const char* mode : {"forever", "give-and-wait", "close-and-wait"}) {
        const Outcome outcome = failure_of(enemy({mode}).deadline(Deadline::in(300ms)));
        EXPECT_EQ(outcome.kind, OutcomeKind::deadline_passed) << mode << ": " << outcome.describe();
    }
}

TEST(ProgramCallTest, ProgramThatUsesTooMuchProcessorTimeIsKilled) {
    const Outcome outcome = failure_of(enemy({"spin"}).processor_time(50ms));
    EXPECT_EQ(outcome.kind, OutcomeKind::limit_exceeded);
    EXPECT_TRUE(outcome.text.starts_with("processor time: ")) << outcome.text;
}

TEST(ProgramCallTest, MemoryLimitKillsTheProgramThatTakesMore) {
    const auto result = enemy({"eat"}).memory_bytes(std::uint64_t{32} << 20).run();
    EXPECT_EQ(result.outcome().kind, OutcomeKind::limit_exceeded);
    EXPECT_TRUE(result.outcome().text.starts_with("memory: ")) << result.outcome().text;
    EXPECT_EQ(result.cost().memory_limit_by, procrun::MemoryLimitBy::polling);
}

TEST(ProgramCallTest, ProgramThatClosesItsConnectionHasNoResult) {
    const auto result = enemy({"close"}).argument(doubles(1)).run();
    ASSERT_TRUE(result.ok()) << result.outcome().describe();
    EXPECT_TRUE(result.value().empty());
}

// If the call waited for the end of the connection, this test would hang and the leak guard would find its pipe.
TEST(ProgramCallTest, DescendantThatKeepsTheConnectionIsNotWaitedFor) {
    pipes::Pipe pipe = pipes::Pipe::open();
    Program program({VALUE_ENEMY, "leave-a-child"});
    program.descriptor(STDIN_FILENO, pipe.read_end().get());
    const auto result = ProgramCall(program).argument(doubles(1)).run();
    EXPECT_TRUE(result.ok()) << result.outcome().describe();
}

TEST(ProgramCallTest, ProgramThatNeverStopsGivingIsKilled) {
    const Outcome outcome = failure_of(enemy({"flood"}));
    EXPECT_EQ(outcome.kind, OutcomeKind::result_lost);
    EXPECT_EQ(outcome.code, E2BIG);
}

TEST(ProgramCallTest, MessageWithoutBytesEndsTheConnectionAndNothingElse) {
    const Outcome outcome = failure_of(enemy({"no-bytes"}).deadline(Deadline::in(300ms)));
    EXPECT_EQ(outcome.kind, OutcomeKind::deadline_passed);
}

// Each program sleeps for ever after its forged message, so that only the message can be the reason for its end.
class ForgedResultTest : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(ForgedResultTest, IsAnOutcomeAndEndsTheProgram) {
    const auto [mode, error] = GetParam();
    const Outcome outcome = failure_of(enemy({mode}).argument(doubles(1)));
    EXPECT_EQ(outcome.kind, OutcomeKind::result_lost) << outcome.describe();
    EXPECT_EQ(outcome.code, error) << outcome.describe();
    EXPECT_TRUE(outcome.text.starts_with("take a result: ")) << outcome.text;
}

INSTANTIATE_TEST_SUITE_P(Everything, ForgedResultTest,
                         testing::Values(std::pair("few-bytes", EBADMSG), std::pair("many-bytes", EMSGSIZE),
                                         std::pair("huge-file", EBADMSG), std::pair("two-in-one", EBADMSG),
                                         std::pair("none-in-one", EBADMSG), std::pair("wrong-count", EBADMSG),
                                         std::pair("wrong-magic", EBADMSG), std::pair("many-deltas", EBADMSG),
                                         std::pair("cut-short", EBADMSG), std::pair("no-file", EBADMSG),
                                         std::pair("more-files", EBADMSG), std::pair("no-image", EBADMSG),
                                         std::pair("unsealed", EBADMSG)),
                         [](const auto& test) {
                             std::string name = test.param.first;
                             std::erase(name, '-');
                             return name;
                         });

// ---- no room

TEST(ProgramCallTest, ProgramWithoutRoomForItsArgumentsIsToldSo) {
    EXPECT_EQ(failure_of(enemy({"without-room"}).argument(doubles(1))).describe(), "exit 3");
}

// However few descriptors are left, a call ends in EMFILE or in a result, and the leak guard finds nothing left behind.
TEST(ProgramCallTest, CallerWithoutDescriptorsKeepsNothing) {
    const Snapshot numbers = doubles(4);
    bool succeeded = false;
    for (std::size_t free = 0; free < 16; ++free) {
        const DescriptorLimit limit(free);
        try {
            const auto result = scale(2, 0, 1).argument(numbers).run_for_one();
            succeeded = result.ok();
            EXPECT_TRUE(succeeded || result.outcome().code == EMFILE) << free << ": " << result.outcome().describe();
        } catch (const std::system_error& error) {
            EXPECT_EQ(error.code().value(), EMFILE) << free << ": " << error.what();
        }
    }
    EXPECT_TRUE(succeeded);
}

}  // namespace
