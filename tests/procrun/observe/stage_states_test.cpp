// Stage states: what looking from outside finds a stage doing, compared with what the stage measures itself.
#include "procrun/observe/stage_states.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <fstream>
#include <optional>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/observe/look_pace.hpp"
#include "procrun/observe/pipe_gauge.hpp"
#include "procrun/observe/stage_tasks.hpp"
#include "procrun/process.hpp"
#include "procrun/process/poll_until.hpp"
#include "procrun/program.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/proc/tasks.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using procrun::Deadline;
using procrun::LookPace;
using procrun::PipeGauge;
using procrun::Process;
using procrun::Program;
using procrun::SharedGauge;
using procrun::StageLookOptions;
using procrun::StageShares;
using procrun::StageState;
using procrun::StageStates;
using Clock = Deadline::Clock;
using std::chrono::milliseconds;

constexpr double kPoints = 0.05;
constexpr std::chrono::seconds kLongest{30};

// ---- what the shares are compared with

struct Behaviour {
    std::string mode;
    std::string number = "0";
};

struct StageCase {
    std::string name;
    std::vector<Behaviour> stages;
    StageLookOptions options = {};
};

std::ostream& operator<<(std::ostream& out, const StageCase& one) { return out << one.name; }

/// The shares that a stage reports of itself.
struct TrueShares {
    double running = 0;
    double blocked_read = 0;
    double blocked_write = 0;
    double waiting = 0;
};

TrueShares read_truth(const std::string& path) {
    TrueShares truth;
    std::ifstream(path) >> truth.running >> truth.blocked_read >> truth.blocked_write >> truth.waiting;
    const double life = truth.running + truth.blocked_read + truth.blocked_write + truth.waiting;
    EXPECT_GT(life, 0) << path;
    return {truth.running / life, truth.blocked_read / life, truth.blocked_write / life, truth.waiting / life};
}

struct RunningStage {
    Process process;
    procrun::StageStreams streams;
    std::optional<StageStates> states;
};

/// Starts a program between two descriptors of this process, and sets up looking at it.
RunningStage start_stage(std::vector<std::string> argv, int input, int output, const procrun::StageStreams& streams,
                         StageLookOptions options = {}) {
    Program program(std::move(argv));
    program.die_with_parent().descriptor(STDIN_FILENO, input).descriptor(STDOUT_FILENO, output);
    const auto now = Clock::now();
    auto started = program.start();
    RunningStage stage{.process = std::get<Process>(std::move(started)), .streams = streams, .states = {}};
    stage.states.emplace(stage.process.pid(), streams, now, options);
    return stage;
}

/// Waits until the stage has stopped itself.
void wait_stopped(const Process& process) {
    const auto longest = Deadline::in(kLongest);
    siginfo_t info{};
    do {
        ASSERT_EQ(waitid(P_PID, static_cast<id_t>(process.pid()), &info, WSTOPPED | WEXITED | WNOWAIT | WNOHANG), 0);
        std::this_thread::sleep_for(milliseconds{1});
    } while (info.si_pid == 0 && !longest.passed());
    ASSERT_EQ(info.si_code, CLD_STOPPED);
}

/// Continues all stages together once each has stopped itself. Of their lives until then, only the busy time counts.
void release(std::vector<RunningStage>& stages, StageLookOptions options) {
    for (RunningStage& stage : stages) wait_stopped(stage.process);
    for (RunningStage& stage : stages) {
        const pid_t pid = stage.process.pid();
        const auto busy = procrun::StageTask(pid, pid, false).busy();
        ASSERT_TRUE(busy);
        stage.states.emplace(pid, stage.streams, Clock::now() - *busy, options);
        stage.process.signal(SIGCONT);
    }
}

std::vector<RunningStage> start_pipeline(const StageCase& one, const tests::TemporaryDirectory& folder) {
    const vmcow::sys::UniqueFd nothing = vmcow::sys::open_file("/dev/null", O_RDWR);
    const auto null_gauge = std::make_shared<const PipeGauge>(nothing.get());
    std::vector<RunningStage> stages;
    vmcow::sys::UniqueFd input = vmcow::sys::duplicate(nothing.get());
    SharedGauge input_gauge = null_gauge;
    for (std::size_t i = 0; i < one.stages.size(); ++i) {
        const bool last = i + 1 == one.stages.size();
        pipes::Pipe pipe = pipes::Pipe::open();
        const SharedGauge output_gauge = last ? null_gauge : std::make_shared<const PipeGauge>(pipe.write_end().get());
        stages.push_back(start_stage(
            {STAGE_BEHAVIOUR, folder / std::to_string(i), "1.2", one.stages[i].mode, one.stages[i].number}, input.get(),
            last ? nothing.get() : pipe.write_end().get(), {input_gauge, output_gauge}, one.options));
        input = pipe.take_read_end();
        input_gauge = output_gauge;
    }
    return stages;
}

/// Looks at all stages until the last of them has ended.
void watch(std::vector<RunningStage>& stages) {
    LookPace pace(Clock::now());
    const auto longest = Deadline::in(kLongest);
    while (std::any_of(stages.begin(), stages.end(), [](const auto& stage) { return bool(stage.process); })) {
        ASSERT_FALSE(longest.passed()) << "the stages do not end";
        std::vector<pollfd> ends;
        for (const RunningStage& stage : stages) {
            ends.push_back({.fd = stage.process.pidfd(), .events = POLLIN, .revents = 0});
        }
        procrun::poll_until(ends, Deadline::at(pace.next_look()), "wait for stages");
        for (std::size_t i = 0; i < stages.size(); ++i) {
            if (ends[i].revents == 0) continue;
            stages[i].states->stop(Clock::now());
            EXPECT_TRUE(stages[i].process.wait().outcome.ok()) << i;
        }
        if (!pace.due(Clock::now())) continue;
        for (RunningStage& stage : stages) {
            if (stage.process) stage.states->look(Clock::now());
        }
        // Passes no cost to the pace: a sanitizer makes looks so dear that too few would be left.
        pace.looked(Clock::now(), {});
    }
}

std::string text_of(const TrueShares& truth, const StageShares& seen) {
    std::ostringstream text;
    text << "truth: " << truth.running << ' ' << truth.blocked_read << ' ' << truth.blocked_write << ' '
         << truth.waiting << ", seen: " << seen.running.value_or(-1) << ' ' << seen.blocked_read.value_or(-1) << ' '
         << seen.blocked_write.value_or(-1) << ' ' << seen.waiting.value_or(-1) << ", looks: " << seen.looks
         << ", asleep in " << seen.asleep_looks << ", life " << seen.life_seconds;
    return text.str();
}

class StageSharesTest : public testing::TestWithParam<StageCase> {};

/// A stage knows how long it was blocked, and the shares seen from outside must agree with that.
TEST_P(StageSharesTest, AreWithinFivePointsOfWhatTheStageMeasures) {
    // Other work on the machine may delay the looks so much that a run says nothing: one of the runs has to agree.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    constexpr int kRuns = 8;  // each look takes longer
#else
    constexpr int kRuns = 3;
#endif
    std::string runs;
    for (int run = 0; run < kRuns; ++run) {
        const tests::TemporaryDirectory folder;
        std::vector<RunningStage> stages = start_pipeline(GetParam(), folder);
        release(stages, GetParam().options);
        watch(stages);
        bool all_near = true;
        for (std::size_t i = 0; i < stages.size(); ++i) {
            const TrueShares truth = read_truth(folder / std::to_string(i));
            const StageShares seen = stages[i].states->shares();
            ASSERT_TRUE(seen.running && seen.blocked_read && seen.blocked_write && seen.waiting);
            EXPECT_NEAR(*seen.running + *seen.blocked_read + *seen.blocked_write + *seen.waiting, 1, 1e-9);
            const auto near = [](double a, double b) { return std::abs(a - b) <= kPoints; };
            all_near = all_near && near(*seen.running, truth.running) && near(*seen.blocked_read, truth.blocked_read) &&
                       near(*seen.blocked_write, truth.blocked_write) && near(*seen.waiting, truth.waiting);
            runs += GetParam().stages[i].mode + ": " + text_of(truth, seen) + "\n";
        }
        if (all_near) return;
    }
    ADD_FAILURE() << "further off than " << kPoints << " in each run:\n" << runs;
}

constexpr StageLookOptions kLevelsOnly{.depth = StageLookOptions::Depth::levels};
constexpr StageLookOptions kStatesOnly{.depth = StageLookOptions::Depth::states};
constexpr StageLookOptions kByParents{.children_files = false};

INSTANTIATE_TEST_SUITE_P(Behaviours, StageSharesTest,
                         testing::Values(StageCase{"SlowReader", {{"write_fast"}, {"read_sleep", "5"}}},
                                         StageCase{"BusyReader", {{"write_fast"}, {"read_spin", "5"}}},
                                         StageCase{"BusyWriter", {{"write_busy", "60"}, {"read_spin"}}},
                                         StageCase{"PollingWriter", {{"write_poll"}, {"read_sleep", "5"}}},
                                         StageCase{"PollAndEpoll",
                                                   {{"write_busy", "20"}, {"relay_poll", "2"}, {"read_epoll", "2"}}},
                                         StageCase{"ThreadsInTurns", {{"write_busy", "5"}, {"read_threads", "4"}}},
                                         StageCase{"ThreadsTogether", {{"write_parallel", "40"}, {"read_spin"}}},
                                         StageCase{"Wrapped", {{"wrapped:write_fast"}, {"wrapped:read_spin", "5"}}},
                                         StageCase{"SchedulerOnly", {{"write_fast"}, {"read_spin", "5"}}, kStatesOnly}),
                         [](const auto& one) { return one.param.name; });

// ---- what is seen at one moment

/// A program between two pipes, whose other ends this process holds.
struct StageAtPipes {
    pipes::Pipe in = pipes::Pipe::open();
    pipes::Pipe out = pipes::Pipe::open();
    RunningStage stage;

    StageAtPipes(std::vector<std::string> argv, StageLookOptions options = {})
        : stage(start_stage(std::move(argv), in.read_end().get(), out.write_end().get(),
                            {std::make_shared<const PipeGauge>(in.read_end().get()),
                             std::make_shared<const PipeGauge>(out.write_end().get())},
                            options)) {
        in.take_read_end().reset();
        out.take_write_end().reset();
    }
    ~StageAtPipes() {
        in.take_write_end().reset();
        out.take_read_end().reset();
        // Closing the pipes ends what the program has started; the wait lets those processes exit before the kill.
        if (stage.process && !stage.process.wait_ended(Deadline::in(milliseconds{100}))) stage.process.signal(SIGKILL);
    }

    /// Looks until the stage is seen in `state`. Returns the last state that was seen, if that never happens.
    StageState look_until(StageState state) {
        const auto longest = Deadline::in(kLongest);
        do {
            stage.states->look(Clock::now());
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        } while (stage.states->view().state != state && !longest.passed());
        return stage.states->view().state;
    }
};

const std::vector<StageLookOptions> kAllDepths{{}, kStatesOnly, kLevelsOnly};

TEST(StageStatesTest, ReaderAtAnEmptyPipeIsBlockedReadingAtAnyDepth) {
    for (const StageLookOptions options : kAllDepths) {
        StageAtPipes at({"cat"}, options);
        EXPECT_EQ(at.look_until(StageState::blocked_read), StageState::blocked_read);
    }
}

TEST(StageStatesTest, WriterAtAFullPipeIsBlockedWritingAtAnyDepth) {
    for (const StageLookOptions options : kAllDepths) {
        StageAtPipes at({"sh", "-c", "exec yes"}, options);
        const std::string line = "the input pipe is not empty, which would hold up a reader";
        vmcow::sys::write_all(at.in.write_end().get(), std::as_bytes(std::span(line)), "the stage's input");
        EXPECT_EQ(at.look_until(StageState::blocked_write), StageState::blocked_write);
    }
}

TEST(StageStatesTest, SleeperBetweenPipesIsWaiting) {
    StageAtPipes at({"sleep", "60"});
    EXPECT_EQ(at.look_until(StageState::waiting), StageState::waiting);
}

TEST(StageStatesTest, SpinnerIsRunning) {
    StageAtPipes at({"sh", "-c", "while :; do :; done"});
    EXPECT_EQ(at.look_until(StageState::running), StageState::running);
}

/// The shell waits for a process that reads the stage's input.
TEST(StageStatesTest, ShellIsBlockedWhereItsChildIs) {
    for (const StageLookOptions options : {StageLookOptions{}, kByParents}) {
        StageAtPipes at({"sh", "-c", "cat; :"}, options);
        EXPECT_EQ(at.look_until(StageState::blocked_read), StageState::blocked_read);
    }
}

/// A process that reads from another process of its own stage waits for no neighbouring stage.
TEST(StageStatesTest, ShellWhoseChildSleepsIsWaitingWhateverItsOtherChildrenReadFromIt) {
    StageAtPipes at({"sh", "-c", "exec 2>/dev/null; sleep 60 | cat"});
    EXPECT_EQ(at.look_until(StageState::waiting), StageState::waiting);
    const auto ids = procrun::tasks_below(at.stage.process.pid(), vmcow::sys::has_children_files());
    ASSERT_TRUE(ids);
    for (const auto id : *ids) {
        if (id.pid != at.stage.process.pid()) vmcow::sys::signal_process(id.pid, SIGKILL);
    }
}

/// The pipes alone say nothing when they are neither empty nor full.
TEST(StageStatesTest, LevelsThatHoldNobodyUpLeaveTheStateUnknown) {
    StageAtPipes at({"sleep", "60"}, kLevelsOnly);
    vmcow::sys::write_all(at.in.write_end().get(), std::as_bytes(std::span("x")), "the stage's input");
    at.stage.states->look(Clock::now());
    EXPECT_EQ(at.stage.states->view().state, StageState::unknown);
    EXPECT_EQ(at.stage.states->shares().looks, 0U);
}

TEST(StageStatesTest, WhereItReadsFromNoPipeAndItsCallsCannotBeSeenItIsUnknown) {
    const vmcow::sys::UniqueFd nothing = vmcow::sys::open_file("/dev/null", O_RDWR);
    RunningStage stage = start_stage({"sleep", "60"}, nothing.get(), nothing.get(), {}, kStatesOnly);
    const auto longest = Deadline::in(kLongest);
    do {
        stage.states->look(Clock::now());
    } while (stage.states->view().state == StageState::running && !longest.passed());
    EXPECT_EQ(stage.states->view().state, StageState::unknown);
}

TEST(StageStatesTest, StageThatNobodyLookedAtHasACountedRunningShareAndNothingElse) {
    StageAtPipes at({"true"});
    ASSERT_TRUE(at.stage.process.wait_ended(Deadline::in(kLongest)));
    at.stage.states->stop(Clock::now());
    const StageShares shares = at.stage.states->shares();
    ASSERT_TRUE(shares.running);
    EXPECT_GT(*shares.running, 0);
    EXPECT_LE(*shares.running, 1);
    EXPECT_FALSE(shares.blocked_read || shares.blocked_write || shares.waiting);
    EXPECT_EQ(shares.looks, 0U);
    EXPECT_GT(shares.life_seconds, 0);
}

TEST(StageStatesTest, LookAtAStageThatHasEndedSeesNothing) {
    StageAtPipes at({"true"});
    ASSERT_TRUE(at.stage.process.wait_ended(Deadline::in(kLongest)));
    at.in.take_write_end().reset();
    at.stage.states->look(Clock::now());
    EXPECT_NE(at.stage.states->view().state, StageState::running);
    EXPECT_NE(at.stage.states->view().state, StageState::waiting);
}

TEST(StageStatesTest, ViewHasTheBytesAndTheMemoryAndTheLevelWithinATenthOfASecond) {
    StageAtPipes at({"sh", "-c", "read line; exec sleep 60"});
    const std::string text = "one line\nrest";
    vmcow::sys::write_all(at.in.write_end().get(), std::as_bytes(std::span(text)), "the stage's input");
    ASSERT_EQ(at.look_until(StageState::waiting), StageState::waiting);
    at.stage.states->look(Clock::now() + milliseconds{200});
    const procrun::StageView& view = at.stage.states->view();
    ASSERT_TRUE(view.input && view.transferred && view.resident_bytes);
    EXPECT_EQ(view.input->queued_bytes, std::string("rest").size());
    EXPECT_GE(view.transferred->read, std::string("one line\n").size());
    EXPECT_GT(*view.resident_bytes, 0U);
}

TEST(StageStatesTest, WithoutDescriptorsLeftItStillSeesWhatItHasOpen) {
    StageAtPipes at({"cat"});
    ASSERT_EQ(at.look_until(StageState::blocked_read), StageState::blocked_read);
    const tests::ScopedLimit limit(RLIMIT_NOFILE, 3);
    at.stage.states->look(Clock::now() + std::chrono::seconds{1});
    EXPECT_EQ(at.stage.states->view().state, StageState::blocked_read);
    EXPECT_FALSE(at.stage.states->view().input);
}

TEST(StageTasksTest, ProcessesBelowAreFoundByTheirParentsToo) {
    if (!vmcow::sys::has_children_files()) GTEST_SKIP() << "the kernel does not list children (CONFIG_PROC_CHILDREN)";
    StageAtPipes at({"sh", "-c", "cat | cat; :"});
    const pid_t pid = at.stage.process.pid();
    const auto longest = Deadline::in(kLongest);
    while (procrun::tasks_below(pid, true)->size() < 3 && !longest.passed()) std::this_thread::yield();
    const auto listed = procrun::tasks_below(pid, true);
    const auto searched = procrun::tasks_below(pid, false);
    ASSERT_TRUE(listed && searched);
    ASSERT_EQ(listed->size(), 3U);
    EXPECT_EQ(listed->front(), (procrun::TaskId{.pid = pid, .tid = pid}));
    EXPECT_TRUE(std::is_permutation(listed->begin(), listed->end(), searched->begin(), searched->end()));
}

TEST(StageTasksTest, NothingIsBelowAProcessThatIsNotThere) {
    EXPECT_FALSE(procrun::tasks_below(-1, true));
    EXPECT_FALSE(procrun::tasks_below(-1, false));
}

}  // namespace
