// Pipelines of functions and programs: how bytes and values flow, fork and join, and how failures end them.
#include "procrun/pipeline.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "pipes/message_socket.hpp"
#include "procrun/pipeline/bounded_channel.hpp"
#include "tests/support/forbidden_call.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_launcher.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/units.hpp"
#include "vmcow/value.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::OutcomeKind;
using procrun::Pipeline;
using procrun::PipelineResult;
using procrun::PipelineStage;
using procrun::StageIo;

using Text = vmcow::Value<char[]>;
using Numbers = vmcow::Value<long[]>;

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kLongsInPage = vmcow::kPageBytes / sizeof(long);

std::string string_of(const std::optional<Text>& text) {
    return text ? std::string(text->read().data(), text->size()) : "(nothing)";
}

std::vector<std::string> outcomes_of(const PipelineResult& result) {
    std::vector<std::string> outcomes;
    for (const auto& stage : result.report().stages) outcomes.push_back(stage.outcome.describe());
    return outcomes;
}

using Words = std::vector<std::string>;

Numbers first_numbers(std::size_t count) {
    Numbers numbers(count);
    numbers.edit([](std::span<long> all) { std::iota(all.begin(), all.end(), 0L); });
    return numbers;
}

/// Passes every value on.
void pass_on(StageIo& io) {
    while (auto value = io.take<Numbers>()) io.give(*value);
}

class PipelineMixTest : public testing::Test {
protected:
    std::string text_of(const PipelineStage& stage) { return string_of(result_.take<Text>(stage)); }
    /// The numbers of an output whose values hold one number each.
    std::vector<long> numbers_of(const PipelineStage& stage) {
        std::vector<long> numbers;
        while (auto value = result_.take<Numbers>(stage)) numbers.push_back((*value)[0]);
        return numbers;
    }
    void run(const procrun::PipelineRunOptions& options = {}) { result_ = pipeline_.run(options); }

    Pipeline pipeline_;
    PipelineResult result_;
};

TEST_F(PipelineMixTest, BytesGoFromAProgramThroughAFunctionToAProgram) {
    auto printed = pipeline_.program({"printf", "b\\na\\n"});
    auto doubled = pipeline_.function([](StageIo& io) {
        const Text all = io.read_all();
        const std::string_view text(all.read().data(), all.size());
        io.write(text);
        io.write(text);
    });
    auto sorted = pipeline_.program({"sort"}).reads(doubled.reads(printed));
    auto out = pipeline_.output(sorted);
    run();
    EXPECT_EQ(text_of(out), "a\na\nb\nb\n");
    EXPECT_EQ(outcomes_of(result_), (Words{"exit 0", "returned", "exit 0", "returned"}));
    EXPECT_TRUE(result_.ok());
}

TEST_F(PipelineMixTest, AFunctionReadsInPiecesAndPrintsWithStdio) {
    auto printed = pipeline_.program({"printf", "12345"});
    auto counted = pipeline_.function([](StageIo& io) {
        std::array<std::byte, 2> piece{};
        std::size_t sum = 0;
        while (const std::size_t got = io.read(piece)) sum += got;
        std::printf("%zu bytes", sum);
    });
    auto out = pipeline_.output(pipeline_.program({"cat"}).reads(counted.reads(printed)));
    run();
    EXPECT_EQ(text_of(out), "5 bytes");
}

// 64 MiB are handed over twice by descriptor. No stage writes, so that not one page is copied.
TEST_F(PipelineMixTest, AValueThatNobodyWritesIsNotCopied) {
    auto source = pipeline_.values(first_numbers(64 * kMiB / sizeof(long)));
    auto first = pipeline_.function(pass_on).reads(source);
    auto second = pipeline_.function(pass_on).reads(first);
    auto summed = pipeline_.function([](StageIo& io) {
        const auto value = io.take<Numbers>();
        const std::span<const long> all = value->read();
        io.give(Numbers{std::accumulate(all.begin(), all.end(), 0L)});
    });
    auto out = pipeline_.output(summed.reads(second));
    run();
    const long count = 64 * kMiB / sizeof(long);
    EXPECT_EQ(numbers_of(out), std::vector{count * (count - 1) / 2});
    for (const PipelineStage& stage : {first, second}) {
        ASSERT_TRUE(result_.traffic(stage));
        EXPECT_EQ(result_.traffic(stage)->changes, vmcow::PageChanges{});
    }
}

TEST_F(PipelineMixTest, PagesAreCopiedOnlyWhereAStageWrites) {
    const Numbers original = first_numbers(4 * kMiB / sizeof(long));
    auto source = pipeline_.values(original);
    auto changed = pipeline_.function([](StageIo& io) {
        auto value = io.take<Numbers>();
        value->edit([](std::span<long> all) {
            for (const std::size_t page : {0U, 10U, 999U}) all[page * kLongsInPage] = -1;
        });
        io.give(*std::move(value));
    });
    auto last = pipeline_.function(pass_on).reads(changed.reads(source));
    auto out = pipeline_.output(last);
    run();
    ASSERT_TRUE(result_.traffic(changed) && result_.traffic(changed)->changes);
    EXPECT_EQ(result_.traffic(changed)->changes->copied, vmcow::PageCount{3});
    EXPECT_EQ(result_.traffic(last)->changes, vmcow::PageChanges{});
    const auto value = result_.take<Numbers>(out);
    ASSERT_TRUE(value);
    EXPECT_EQ((*value)[10 * kLongsInPage], -1);
    EXPECT_EQ((*value)[11 * kLongsInPage], static_cast<long>(11 * kLongsInPage));
    EXPECT_EQ(original[10 * kLongsInPage], static_cast<long>(10 * kLongsInPage));
}

TEST_F(PipelineMixTest, TheCallersImagesArePrivateViewsInAFunction) {
    Numbers mine = first_numbers(8 * kLongsInPage);
    auto stage = pipeline_.function([&](StageIo& io) {
        mine.edit([](std::span<long> all) { all[0] = 7; });
        io.give(Numbers{mine[0]});
    });
    auto out = pipeline_.output(stage);
    run();
    EXPECT_EQ(numbers_of(out), std::vector{7L});
    EXPECT_EQ(mine[0], 0);
    EXPECT_EQ(result_.traffic(stage)->changes->copied, vmcow::PageCount{1});
}

// The reader counts what it has taken; the giver compares that count with the number of values that it has given.
TEST_F(PipelineMixTest, AGiverIsNeverFurtherAheadThanItsBound) {
    auto* const shared = static_cast<std::atomic<long>*>(
        ::mmap(nullptr, vmcow::kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(shared, MAP_FAILED);
    std::atomic<long>& taken = shared[0];
    std::atomic<long>& most_ahead = shared[1];
    auto source = pipeline_.function([&](StageIo& io) {
        for (long i = 0; i < 100; ++i) {
            io.give(Numbers{i});
            most_ahead = std::max(most_ahead.load(), i + 1 - taken);
        }
    });
    source.bounds({.under_way = 3});
    auto slow = pipeline_.function([&](StageIo& io) {
        while (auto value = io.take<Numbers>()) {
            ++taken;
            std::this_thread::sleep_for(1ms);
        }
    });
    slow.reads(source);
    run();
    EXPECT_TRUE(result_.ok());
    EXPECT_EQ(taken, 100);
    EXPECT_LE(most_ahead, 3 + 1);  // the reader may have received one value that it has not counted yet
    EXPECT_EQ(result_.traffic(slow)->taken, 100U);
    ::munmap(shared, vmcow::kPageBytes);
}

TEST_F(PipelineMixTest, AValuesBytesGoToAProgramAndComeBackTheSame) {
    const std::vector<std::byte> bytes = tests::noise(3 * kMiB + 17);
    const Text text(std::span(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    auto source = pipeline_.values(text);
    auto out = pipeline_.output(pipeline_.program({"cat"}).reads(source));
    run();
    const auto back = result_.take<Text>(out);
    ASSERT_TRUE(back);
    EXPECT_TRUE(std::ranges::equal(back->read(), text.read()));
}

TEST_F(PipelineMixTest, TakingAnotherTypeIsRefused) {
    auto source = pipeline_.values(Numbers{1});
    auto wrong = pipeline_.function([](StageIo& io) { static_cast<void>(io.take<Text>()); }).reads(source);
    run();
    EXPECT_EQ(result_.stage(wrong).outcome.kind, OutcomeKind::threw);
    EXPECT_NE(result_.stage(wrong).outcome.text.find("another type"), std::string::npos);
}

// ---- several readers, several writers

TEST_F(PipelineMixTest, ThreeProgramsReadOneAndTheirOutputIsJoinedInOrder) {
    auto numbers = pipeline_.program({"seq", "1", "50000"});
    auto lines = pipeline_.program({"wc", "-l"}).reads(numbers);
    auto bytes = pipeline_.program({"wc", "-c"}).reads(numbers);
    auto last = pipeline_.program({"tail", "-n", "1"}).reads(numbers);
    auto all = pipeline_.program({"cat"}).reads(lines, bytes, last);
    auto out = pipeline_.output(all);
    run();
    EXPECT_EQ(text_of(out), "50000\n288894\n50000\n");
    EXPECT_EQ(result_.report().pump_failure, "");
}

TEST_F(PipelineMixTest, LinesOfSeveralStayWhole) {
    auto first = pipeline_.program({"seq", "1", "2000"});
    auto second = pipeline_.program({"seq", "2001", "4000"});
    auto joined = pipeline_.program({"sort", "-n"}).reads(first, second).join(pipes::Join::by_line);
    auto out = pipeline_.output(joined);
    run();
    std::string expected;
    for (int i = 1; i <= 4000; ++i) expected += std::to_string(i) + "\n";
    EXPECT_EQ(text_of(out), expected);
}

// The reader only finds the end of its input, so that the report alone can tell of the loss.
TEST(PipelineRefusedCallTest, BytesThatAJoinLosesAreAFailureOfTheRun) {
    EXPECT_EQ(tests::in_child([] {
                  if (!tests::forbid_call(SYS_splice, EIO)) return 124;
                  Pipeline pipeline;
                  auto left = pipeline.program({"echo", "left"});
                  auto right = pipeline.program({"echo", "right"});
                  static_cast<void>(pipeline.output(pipeline.program({"cat"}).reads(left, right)));
                  const PipelineResult result = pipeline.run();
                  if (result.report().status == 0) return 1;
                  return result.report().pump_failure == "bytes to 'cat': EIO: Input/output error" ? 0 : 2;
              }),
              tests::kChildExitedWell);
}

// The second branch is read only when the first has ended, which takes all of the source. Without a file the pipeline
// would deadlock.
TEST_F(PipelineMixTest, ADiamondThatNeedsMoreThanMemoryGoesThroughAFile) {
    std::vector<std::string> notices;
    procrun::PipelineRunOptions options;
    options.pump_memory_bytes = 64 << 10;
    options.on_notice = [&](const std::string& notice) { notices.push_back(notice); };
    auto numbers = pipeline_.program({"seq", "1", "400000"});
    auto left = pipeline_.program({"cat"}).reads(numbers);
    auto right = pipeline_.program({"cat"}).reads(numbers);
    auto out = pipeline_.output(pipeline_.program({"wc", "-l"}).reads(left, right));
    run(options);
    EXPECT_EQ(text_of(out), "800000\n");
    EXPECT_FALSE(notices.empty());
}

TEST_F(PipelineMixTest, ValuesGoToEveryReader) {
    auto source = pipeline_.values(Numbers{1}, Numbers{2}, Numbers{3});
    auto left = pipeline_.function(pass_on).reads(source);
    auto right = pipeline_.function(pass_on).reads(source);
    auto out = pipeline_.output(pipeline_.function(pass_on).reads(left, right));
    run();
    EXPECT_TRUE(result_.ok()) << result_.report().pump_failure;
    EXPECT_EQ(numbers_of(out), (std::vector{1L, 2L, 3L, 1L, 2L, 3L}));
    EXPECT_EQ(result_.traffic(source)->given, 6U);
}

TEST_F(PipelineMixTest, AGiverKeepsValuesForAReaderThatIsNotReadYet) {
    auto source = pipeline_.function([](StageIo& io) {
        for (long i = 0; i < 60; ++i) io.give(Numbers{i});
    });
    source.bounds({.under_way = 2, .stall_limit = 1ms});
    auto left = pipeline_.function(pass_on).reads(source).bounds({.under_way = 1});
    auto right = pipeline_.function(pass_on).reads(source).bounds({.under_way = 1});
    auto out = pipeline_.output(pipeline_.function(pass_on).reads(left, right));
    run();
    const std::vector<long> numbers = numbers_of(out);
    ASSERT_EQ(numbers.size(), 120U);
    EXPECT_EQ(numbers[59], 59);
    EXPECT_EQ(numbers[60], 0);
    EXPECT_GT(result_.traffic(source)->most_held, 0U);
}

TEST_F(PipelineMixTest, AGiverFailsWhereAReaderStandsStillTooFarBehind) {
    auto source = pipeline_.function([](StageIo& io) {
        for (long i = 0; i < 60; ++i) io.give(Numbers{i});
    });
    source.bounds({.under_way = 1, .held = 5, .stall_limit = 1ms});
    auto left = pipeline_.function(pass_on).reads(source);
    auto right = pipeline_.function(pass_on).reads(source).bounds({.under_way = 1});
    auto out = pipeline_.output(pipeline_.function(pass_on).reads(left, right));
    run();
    EXPECT_EQ(result_.stage(source).outcome.kind, OutcomeKind::threw);
    EXPECT_NE(result_.stage(source).outcome.text.find("stands still"), std::string::npos);
    EXPECT_FALSE(result_.ok());
    static_cast<void>(out);
}

TEST_F(PipelineMixTest, ValuesOfSeveralAreTakenAsTheyCome) {
    auto first = pipeline_.values(Numbers{1}, Numbers{2});
    auto second = pipeline_.values(Numbers{3}, Numbers{4});
    auto out = pipeline_.output(pipeline_.function(pass_on).reads(first, second).join(pipes::Join::by_line));
    run();
    std::vector<long> numbers = numbers_of(out);
    std::ranges::sort(numbers);
    EXPECT_EQ(numbers, (std::vector{1L, 2L, 3L, 4L}));
}

// A program and a function read the same function: the program gets the bytes, the function the values.
TEST_F(PipelineMixTest, ProgramsGetTheBytesAndFunctionsTheValuesOfOneStage) {
    auto source = pipeline_.function([](StageIo& io) {
        io.write("some bytes");
        io.give(Numbers{5});
    });
    auto text = pipeline_.output(pipeline_.program({"cat"}).reads(source));
    auto seen = pipeline_.function([](StageIo& io) {
        std::array<std::byte, 1> byte{};
        io.give(Numbers{static_cast<long>(io.read(byte))});
        pass_on(io);
    });
    auto values = pipeline_.output(seen.reads(source));
    run();
    EXPECT_EQ(text_of(text), "some bytes");
    EXPECT_EQ(numbers_of(values), (std::vector{0L, 5L}));
}

// ---- stages that fail

TEST_F(PipelineMixTest, AFunctionThatThrowsEndsTheOthersAndSaysWhy) {
    auto endless = pipeline_.program({"yes"});
    auto throwing = pipeline_.function([](StageIo&) { throw std::runtime_error("bad row 7"); }).reads(endless);
    auto out = pipeline_.output(pipeline_.program({"cat"}).reads(throwing));
    run();
    EXPECT_EQ(outcomes_of(result_), (Words{"killed by SIGPIPE", "threw: bad row 7", "exit 0", "returned"}));
    EXPECT_EQ(text_of(out), "");
    EXPECT_EQ(result_.report().status, 1);
}

TEST_F(PipelineMixTest, AFunctionThatIsKilledEndsTheOthers) {
    auto endless = pipeline_.program({"yes"});
    auto killed = pipeline_.function([](StageIo&) { ::raise(SIGKILL); }).reads(endless);
    pipeline_.program({"cat"}).reads(killed);
    run();
    EXPECT_EQ(outcomes_of(result_), (Words{"killed by SIGPIPE", "killed by SIGKILL", "exit 0"}));
    EXPECT_FALSE(result_.traffic(killed));
    EXPECT_EQ(result_.report().status, 128 + SIGKILL);
}

TEST_F(PipelineMixTest, AGiverWhoseReaderEndsEarlyEndsBySigpipeAndIsExcused) {
    auto endless = pipeline_.function([](StageIo& io) {
        for (long i = 0;; ++i) io.give(Numbers{i});
    });
    auto early = pipeline_.function([](StageIo& io) { static_cast<void>(io.take<Numbers>()); }).reads(endless);
    run();
    EXPECT_EQ(result_.stage(endless).outcome.describe(), "killed by SIGPIPE");
    EXPECT_TRUE(result_.stage(early).outcome.ok());
    EXPECT_EQ(result_.report().status, 0);
}

TEST_F(PipelineMixTest, AStageThatNeitherTakesNorGivesHoldsNobodyUp) {
    auto source = pipeline_.values(Numbers{1}, Numbers{2});
    auto nothing = pipeline_.function([](StageIo&) {}).reads(source);
    auto out = pipeline_.output(pipeline_.function(pass_on).reads(nothing));
    run();
    EXPECT_EQ(numbers_of(out), std::vector<long>{});
    EXPECT_EQ(result_.report().status, 0);
}

TEST_F(PipelineMixTest, AFunctionPastItsProcessorTimeIsEnded) {
    auto busy = pipeline_.function([](StageIo&) {
        for (std::atomic<long> rounds = 0;;) ++rounds;
    });
    busy.limits({.processor_time = 20ms});
    run();
    EXPECT_EQ(result_.stage(busy).outcome.kind, OutcomeKind::limit_exceeded);
}

TEST_F(PipelineMixTest, ADeadlineEndsFunctionsToo) {
    auto waiting = pipeline_.function([](StageIo&) { ::pause(); });
    procrun::PipelineRunOptions options;
    options.deadline = procrun::Deadline::in(10ms);
    run(options);
    EXPECT_EQ(result_.stage(waiting).outcome.kind, OutcomeKind::deadline_passed);
    EXPECT_EQ(result_.report().status, 124);
}

TEST_F(PipelineMixTest, NothingStartsWhenAProgramIsMissing) {
    auto source = pipeline_.function([](StageIo& io) { io.write("x"); });
    auto missing = pipeline_.program({"no-such-program-here"}).reads(source);
    run();
    EXPECT_EQ(result_.report().refused, missing.index());
    EXPECT_EQ(result_.stage(source).outcome.kind, OutcomeKind::not_started);
    EXPECT_FALSE(result_.stage(source).pid);
}

TEST_F(PipelineMixTest, AStageReadsOnlyEarlierOnesOfItsPipelineAndEachOnce) {
    auto first = pipeline_.program({"true"});
    auto second = pipeline_.program({"true"});
    Pipeline other;
    auto foreign = other.program({"true"});
    EXPECT_THROW(first.reads(second), std::invalid_argument);
    EXPECT_THROW(first.reads(first), std::invalid_argument);
    EXPECT_THROW(second.reads(foreign), std::invalid_argument);
    second.reads(first);
    EXPECT_THROW(second.reads(first), std::invalid_argument);
}

TEST_F(PipelineMixTest, APipelineCanBeRunAgain) {
    auto source = pipeline_.values(Text{'a', 'b'});
    auto out = pipeline_.output(pipeline_.program({"cat"}).reads(source));
    for (int i = 0; i < 2; ++i) {
        run();
        EXPECT_EQ(text_of(out), "ab");
    }
}

// The leak guard sees what is left behind. A leak of one descriptor a run also exceeds the guard's limit after 100
// runs.
TEST_F(PipelineMixTest, ManySmallPipelinesLeaveNothingBehind) {
    auto source = pipeline_.values(Numbers{1});
    auto middle = pipeline_.function(pass_on).reads(source);
    auto program = pipeline_.program({"true"}).reads(middle);
    for (int i = 0; i < 100; ++i) {
        run();
        ASSERT_EQ(result_.report().stages.size(), 3U);
    }
    static_cast<void>(program);
}

// ---- the channel of values

TEST(BoundedChannelTest, AGiverThatNeverLooksForRoomDoesNotHoldTheReceiverUp) {
    auto [giver, taker] = pipes::MessageSocket::pair();
    procrun::BoundedReceiver receiver(std::move(taker));
    const vmcow::TypedSnapshot value{first_numbers(1).snapshot(), 0};
    int error = 0;
    for (int i = 0; i < 10'000 && error == 0; ++i) {
        vmcow::send_values(giver.fd().get(), {&value, 1});
        error = tests::error_of([&] { static_cast<void>(receiver.receive()); });
    }
    EXPECT_EQ(error, EBADMSG);
}

TEST(BoundedChannelTest, AsManyAsMayBeUnderWayAreTakenAtOnce) {
    constexpr std::size_t kMost = procrun::BoundedChannel::kMostUnderWay;
    procrun::BoundedChannel channel = procrun::BoundedChannel::open(kMost);
    const vmcow::TypedSnapshot value{first_numbers(1).snapshot(), 0};
    for (int round = 0; round < 3; ++round) {
        for (std::size_t i = 0; i < kMost; ++i) {
            ASSERT_TRUE(channel.sender.has_room());
            ASSERT_TRUE(channel.sender.send(value));
        }
        EXPECT_FALSE(channel.sender.has_room());
        for (std::size_t i = 0; i < kMost; ++i) EXPECT_TRUE(channel.receiver.receive());
    }
}

}  // namespace
