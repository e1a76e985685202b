// Which stage is named as the bottleneck, and for what reason, given the shares of all stages.
#include "procrun/observe/bottleneck.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace {

using procrun::Bottleneck;
using procrun::find_bottleneck;
using procrun::StageLoad;
using Kind = Bottleneck::Kind;

/// A stage that was looked at often enough, with its shares in percent.
StageLoad load(const std::string& name, double running, double blocked_read, double blocked_write, double waiting,
               double life_seconds = 10) {
    StageLoad stage{.name = name, .shares = {}};
    stage.shares.running = running / 100;
    stage.shares.blocked_read = blocked_read / 100;
    stage.shares.blocked_write = blocked_write / 100;
    stage.shares.waiting = waiting / 100;
    stage.shares.life_seconds = life_seconds;
    stage.shares.looks = 800;
    return stage;
}

/// A stage of which only the processor time is known.
StageLoad unseen(const std::string& name, double running, std::uint64_t looks, double life_seconds = 10) {
    StageLoad stage{.name = name, .shares = {}};
    stage.shares.running = running / 100;
    stage.shares.life_seconds = life_seconds;
    stage.shares.looks = looks;
    return stage;
}

struct Case {
    std::string name;
    std::vector<StageLoad> stages;
    Kind kind;
    std::optional<std::size_t> stage;
    std::string reason;
};

std::ostream& operator<<(std::ostream& out, const Case& one) { return out << one.name; }

class BottleneckTest : public testing::TestWithParam<Case> {};

TEST_P(BottleneckTest, IsFoundWithItsReason) {
    const Bottleneck found = find_bottleneck(GetParam().stages);
    EXPECT_EQ(found.kind, GetParam().kind);
    EXPECT_EQ(found.stage, GetParam().stage);
    EXPECT_EQ(found.reason, GetParam().reason);
}

// clang-format off: the columns are running, blocked reading, blocked writing, waiting
const std::vector<Case> kCases{
    {"BusyStageItsNeighbourWaitsToWriteTo",
     {load("zcat", 12, 0, 88, 0), load("tr", 19, 0, 81, 0), load("sort", 97, 3, 0, 0)},
     Kind::stage,
     2,
     "stage 3 `sort` is the bottleneck: running 97 % of the time while stage 2 waited to write 81 %"},
    {"BusyFirstStage",
     {load("xz", 99, 0, 1, 0), load("wc", 4, 96, 0, 0)},
     Kind::stage,
     0,
     "stage 1 `xz` is the bottleneck: running 99 % of the time while stage 2 waited to read 96 %"},
    {"BusyStageBetweenTwoThatWait",
     {load("cat", 5, 0, 95, 0), load("gzip", 98, 2, 0, 0), load("wc", 2, 98, 0, 0)},
     Kind::stage,
     1,
     "stage 2 `gzip` is the bottleneck: running 98 % of the time while stage 1 waited to write 95 % and stage 3 waited "
     "to read 98 %"},
    {"StageThatSleeps",
     {load("yes", 3, 0, 97, 0), load("throttle", 2, 0, 0, 98)},
     Kind::stage,
     1,
     "stage 2 `throttle` is the bottleneck: waiting for something other than its neighbours 98 % of the time while "
     "stage "
     "1 waited to write 97 %"},
    {"StageThatRunsAndSleeps",
     {load("yes", 3, 0, 97, 0), load("upload", 40, 2, 0, 58)},
     Kind::stage,
     1,
     "stage 2 `upload` is the bottleneck: running 40 % of the time and waiting for something other than its neighbours "
     "58 % while stage 1 waited to write 97 %"},
    {"WhatTakesTheLastOutput",
     {load("cat", 3, 0, 97, 0), load("tr", 8, 1, 91, 0)},
     Kind::output,
     std::nullopt,
     "what takes the last stage's output is the bottleneck: stage 2 `tr` waited to write 91 % of the time"},
    {"WhatTheFirstStageReads",
     {load("cat", 3, 97, 0, 0), load("wc", 1, 99, 0, 0)},
     Kind::input,
     std::nullopt,
     "what the first stage reads is the bottleneck: stage 1 `cat` waited for it 97 % of the time"},
    {"StageThatReadsAllAndThenWritesAll",
     {load("gen", 30, 0, 70, 0, 6), load("sort", 90, 4, 6, 0), load("uniq", 15, 85, 0, 0)},
     Kind::stage,
     1,
     "stage 2 `sort` is the bottleneck: running 90 % of the time while stage 1 waited to write 70 % and stage 3 waited "
     "to read 85 %"},
    {"ShortBusyLifeBesideALongOne",
     {load("gen", 100, 0, 0, 0, 1), load("sort", 80, 10, 10, 0)},
     Kind::stage,
     1,
     "stage 2 `sort` is the bottleneck: running 80 % of the time"},
    {"TwoEquallyBusyStages",
     {load("a", 93, 0, 7, 0), load("b", 20, 80, 0, 0), load("c", 90, 10, 0, 0)},
     Kind::none,
     std::nullopt,
     "none: stage 1 `a` and stage 3 `c` are equally busy, 93 % and 90 % of the time"},
    {"ThreeEquallyBusyStages",
     {load("a", 93, 0, 7, 0), load("b", 92, 8, 0, 0), load("c", 90, 10, 0, 0)},
     Kind::none,
     std::nullopt,
     "none: stage 1 `a`, stage 2 `b` and stage 3 `c` are equally busy, 93 %, 92 % and 90 % of the time"},
    {"StageAndWhatTakesItsOutput",
     {load("a", 51, 0, 49, 0)},
     Kind::none,
     std::nullopt,
     "none: stage 1 `a` and what takes the last stage's output are equally busy, 51 % and 49 % of the time"},
    {"StagesThatTakeTurns",
     {load("a", 40, 30, 30, 0), load("b", 30, 70, 0, 0), load("c", 30, 70, 0, 0)},
     Kind::none,
     std::nullopt,
     "none: they held one another up in turns, stage 1 `a` the longest, 40 % of the time"},
    {"SingleStage",
     {load("sort", 97, 3, 0, 0)},
     Kind::stage,
     0,
     "stage 1 `sort` is the only one: running 97 % of the time"},
    {"NothingKnown",
     {load("a", 90, 10, 0, 0), unseen("sudo", 10, 0)},
     Kind::unknown,
     std::nullopt,
     "unknown: what stage 2 `sudo` did could not be seen"},
    {"ShortUnseenLifeIsNotMissed",
     {unseen("echo", 90, 0, 0.01), load("sort", 97, 3, 0, 0)},
     Kind::stage,
     1,
     "stage 2 `sort` is the bottleneck: running 97 % of the time"},
    {"TooFewLooks",
     {unseen("a", 90, 3, 0.004), unseen("b", 10, 1, 0.004)},
     Kind::unknown,
     std::nullopt,
     "too short to tell: stage 1 `a` could be looked at only 3 times in 0.004 s"},
    {"OneLook",
     {unseen("a", 90, 1, 0.002)},
     Kind::unknown,
     std::nullopt,
     "too short to tell: stage 1 `a` could be looked at only 1 time in 0.002 s"},
    {"NoLife",
     {StageLoad{.name = "a", .shares = {}}},
     Kind::unknown,
     std::nullopt,
     "unknown: no stage has been looked at"},
};
// clang-format on

INSTANTIATE_TEST_SUITE_P(Cases, BottleneckTest, testing::ValuesIn(kCases),
                         [](const auto& one) { return one.param.name; });

}  // namespace
