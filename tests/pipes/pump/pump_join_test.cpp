// Several writers that a pump joins into one stream, in order or line by line.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "pipes/pump.hpp"
#include "tests/pipes/pump/pump_ends.hpp"
#include "tests/support/images.hpp"
#include "tests/support/support.hpp"

namespace {

using pipes::EndState;
using pipes::FlowReport;
using pipes::Join;
using pipes::Pipe;
using pipes::Pump;
using pipes::PumpOptions;
using tests::Bytes;
using tests::bytes_of;
using tests::Feeder;
using tests::noise;
using tests::read_all;
using tests::RunningPump;
using tests::same_bytes;
using tests::text_of;
using vmcow::sys::UniqueFd;

constexpr std::size_t kMiB = std::size_t{1} << 20;

class PumpJoinTest : public tests::PumpWayTest {
protected:
    std::unique_ptr<RunningPump> run(Join order, PumpOptions options) {
        Pump pump(std::move(options));
        pump.join(std::move(ins_), out_.take_write_end(), order);
        return std::make_unique<RunningPump>(std::move(pump));
    }
    /// Joins texts that are all there at once. Returns what comes out, and keeps the report in `flow_`.
    std::string joined(const std::vector<std::string>& texts, Join order) {
        out_ = Pipe::open();
        std::vector<std::unique_ptr<Feeder>> feeders;
        for (const std::string& text : texts) {
            feeders.push_back(std::make_unique<Feeder>(add_writer(), bytes_of(text)));
        }
        const auto pump = run(order, options());
        std::string out = text_of(read_all(out_.take_read_end()));
        flow_ = pump->report().flows.at(0);
        return out;
    }

    Pipe out_ = Pipe::open();
    FlowReport flow_;
};

TEST_P(PumpJoinTest, InOrderIsAsCat) {
    EXPECT_EQ(joined({"one\ntw", "", "o", "three\n"}, Join::in_order), "one\ntwothree\n");
    for (const auto& in : flow_.ins) EXPECT_EQ(in.state, EndState::finished);
    EXPECT_EQ(flow_.outs.at(0).bytes, 13U);
}

TEST_P(PumpJoinTest, InOrderKeepsLongStreamsWhole) {
    const std::string first = text_of(noise(3 * kMiB, 1));
    const std::string second = text_of(noise(2 * kMiB + 9, 2));
    EXPECT_TRUE(joined({first, second}, Join::in_order) == first + second);
}

// One program writes all of the second stream before the first. Without holding the second, that would be a deadlock.
TEST_P(PumpJoinTest, WriterOfTheSecondBeforeTheFirstIsNotADeadlock) {
    PumpOptions with = options();
    with.stall_limit = std::chrono::milliseconds(5);
    with.memory_bytes = 50'000;
    std::vector<pipes::SpillNotice> notices;
    with.notice = [&](const pipes::SpillNotice& notice) { notices.push_back(notice); };
    UniqueFd first = add_writer();
    UniqueFd second = add_writer();
    const auto pump = run(Join::in_order, with);
    Bytes expected = noise(1000, 1);
    const Bytes long_one = noise(8 * kMiB, 2);
    std::thread program([&] {
        vmcow::sys::write_all(second.get(), long_one, "second");
        vmcow::sys::write_all(first.get(), expected, "first");
        first.reset();
        second.reset();
    });
    const Bytes got = read_all(out_.take_read_end());
    program.join();
    expected.insert(expected.end(), long_one.begin(), long_one.end());
    EXPECT_TRUE(same_bytes(got, expected));
    const FlowReport& flow = pump->report().flows.at(0);
    EXPECT_GT(flow.ins.at(1).spilled_bytes, 0U);
    ASSERT_EQ(notices.size(), 1U);
    EXPECT_EQ(notices[0].end, 1U);
}

// Every line that comes out is a line that went in, and the lines of each writer keep their order.
TEST_P(PumpJoinTest, ByLineTearsNoLine) {
    for (unsigned seed = 1; seed <= 5; ++seed) {
        std::mt19937 random(seed);
        std::vector<std::string> texts(1 + random() % 4);
        for (std::size_t writer = 0; writer < texts.size(); ++writer) {
            for (int line = 0; line < 2000; ++line) {
                const std::size_t length = random() % 200 == 0 ? random() % 150'000 : random() % 60;
                texts[writer] += std::to_string(writer) + " " + std::to_string(line) + " " +
                                 std::string(length, static_cast<char>('a' + writer)) + "\n";
            }
        }
        std::istringstream out(joined(texts, Join::by_line));
        std::vector<std::string> got(texts.size());
        for (std::string line; std::getline(out, line);) {
            const std::size_t writer = std::stoul(line);
            ASSERT_LT(writer, got.size()) << line.substr(0, 50);
            got[writer] += line + "\n";
        }
        for (std::size_t writer = 0; writer < texts.size(); ++writer) EXPECT_TRUE(got[writer] == texts[writer]) << seed;
        EXPECT_EQ(flow_.added_newlines, 0U);
    }
}

TEST_P(PumpJoinTest, ShortLinesAreHeldInMemoryHoweverLittleOfItThereIs) {
    PumpOptions with = options();
    with.memory_bytes = 10'000;
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += "line " + std::to_string(i) + "\n";
    Feeder first(add_writer(), bytes_of(text), 1);
    Feeder second(add_writer(), bytes_of(text), 2);
    const auto pump = run(Join::by_line, with);
    EXPECT_EQ(read_all(out_.take_read_end()).size(), 2 * text.size());
    for (const auto& in : pump->report().flows.at(0).ins) {
        EXPECT_EQ(in.spilled_bytes, 0U);
        EXPECT_LE(in.held_bytes, 10'000U);
        EXPECT_EQ(in.bytes, text.size());
    }
}

TEST_P(PumpJoinTest, LastLineWithoutANewlineIsNotGluedToAnother) {
    EXPECT_EQ(joined({"alone"}, Join::by_line), "alone");
    std::string out = joined({"a", "b"}, Join::by_line);
    EXPECT_TRUE(out == "a\nb" || out == "b\na") << out;
    EXPECT_EQ(flow_.added_newlines, 1U);
    EXPECT_EQ(joined({"", ""}, Join::by_line), "");
}

// While one writer is in the middle of a line, the other writer's lines come through.
TEST_P(PumpJoinTest, UnfinishedLineHoldsNobodyUp) {
    PumpOptions with = options();
    with.memory_bytes = 10'000;
    UniqueFd talker = add_writer();
    UniqueFd other = add_writer();
    const auto pump = run(Join::by_line, with);
    const std::string half(kMiB, 'x');
    vmcow::sys::write_all(talker.get(), bytes_of(half), "talker");
    vmcow::sys::write_all(other.get(), bytes_of("line\n"), "other");
    Bytes line(5);
    ASSERT_EQ(vmcow::sys::read_full(out_.read_end().get(), line, "out"), line.size());
    EXPECT_EQ(text_of(line), "line\n");
    vmcow::sys::write_all(talker.get(), bytes_of("y\n"), "talker");
    talker.reset();
    other.reset();
    EXPECT_EQ(text_of(read_all(out_.take_read_end())), half + "y\n");
    EXPECT_GT(pump->report().flows.at(0).ins.at(0).spilled_bytes, 0U);
}

TEST_P(PumpJoinTest, WritersOfWhatNobodyReadsGetEpipe) {
    for (const Join order : {Join::in_order, Join::by_line}) {
        out_ = Pipe::open();
        Feeder first(add_writer(), bytes_of(std::string(kMiB, '\n')));
        Feeder second(add_writer(), bytes_of(std::string(kMiB, '\n')));
        out_.take_read_end().reset();
        const auto pump = run(order, options());
        EXPECT_EQ(first.error(), EPIPE);
        EXPECT_EQ(second.error(), EPIPE);
        EXPECT_EQ(pump->report().flows.at(0).outs.at(0).state, EndState::reader_gone);
    }
}

INSTANTIATE_TEST_SUITE_P(Ways, PumpJoinTest, tests::kBothWays, tests::way_name);

}  // namespace
