// Pipelines of programs: their status, their running, redirections, refused starts, stopping, and the meter of each
// stage.
#include "procrun/pipeline.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "pipes/pipe.hpp"
#include "procrun/launcher.hpp"
#include "procrun/observe/transfer_meter.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/program.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/process_counts.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_launcher.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using namespace std::chrono_literals;
using procrun::Deadline;
using procrun::Outcome;
using procrun::OutcomeKind;
using procrun::parse_pipeline;
using procrun::PipelineOptions;
using procrun::PipelineReport;
using procrun::StageReport;
using tests::descriptors;
using tests::TemporaryDirectory;
using vmcow::sys::read_text_file;
using vmcow::sys::UniqueFd;

constexpr std::size_t kMiB = std::size_t{1} << 20;

PipelineReport run(const std::string& text, const PipelineOptions& options = {}) {
    return procrun::run_pipeline(parse_pipeline(text), options);
}

std::vector<std::string> outcomes_of(const PipelineReport& report) {
    std::vector<std::string> outcomes;
    for (const StageReport& stage : report.stages) outcomes.push_back(stage.outcome.describe());
    return outcomes;
}

void write_file(const std::string& path, const std::string& text, unsigned mode = 0666) {
    const UniqueFd file = vmcow::sys::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    vmcow::sys::write_all(file.get(), std::as_bytes(std::span(text)), path);
}

/// A named pipe that becomes readable when a stage has written to it.
class Bell {
public:
    explicit Bell(const TemporaryDirectory& folder) : path_(folder / "bell") {
        if (mkfifo(path_.c_str(), 0600) != 0) vmcow::sys::throw_errno("mkfifo");
        fd_ = vmcow::sys::open_file(path_, O_RDWR | O_NONBLOCK);
    }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    std::string path_;
    UniqueFd fd_;
};

// ---- the status

StageReport ended(OutcomeKind kind, int code) {
    StageReport stage;
    stage.outcome = {.kind = kind, .code = code, .text = {}};
    return stage;
}
StageReport exited(int code) { return ended(OutcomeKind::exited, code); }
StageReport killed(int number) { return ended(OutcomeKind::signaled, number); }

/// The status of stages each of which reads the stage before it.
int status_of(std::vector<StageReport> stages) {
    for (std::size_t i = 0; i + 1 < stages.size(); ++i) stages[i].readers = {i + 1};
    return procrun::status_of(stages);
}

TEST(PipelineStatusTest, IsThatOfTheLastStageThatFailed) {
    EXPECT_EQ(status_of({exited(0), exited(0)}), 0);
    EXPECT_EQ(status_of({exited(3), exited(0)}), 3);
    EXPECT_EQ(status_of({exited(3), exited(4), exited(0)}), 4);
    EXPECT_EQ(status_of({exited(3), killed(SIGKILL), exited(0)}), 137);
    EXPECT_EQ(status_of({exited(3), ended(OutcomeKind::deadline_passed, SIGTERM)}), 124);
    EXPECT_EQ(status_of({exited(3), ended(OutcomeKind::not_started, ENOENT)}), 1);
}

TEST(PipelineStatusTest, DeathBySigpipeIsNoFailureAfterTheReaderEndedWell) {
    EXPECT_EQ(status_of({killed(SIGPIPE), exited(0)}), 0);
    EXPECT_EQ(status_of({killed(SIGPIPE), killed(SIGPIPE), exited(0)}), 0);
    EXPECT_EQ(status_of({exited(5), killed(SIGPIPE), exited(0)}), 5);
}

TEST(PipelineStatusTest, DeathBySigpipeIsAFailureUnlessAllReadersEndedWell) {
    std::vector<StageReport> stages{killed(SIGPIPE), exited(3), exited(0)};
    stages[0].readers = {1, 2};
    EXPECT_FALSE(procrun::is_excused(stages, 0));
    stages[1] = exited(0);
    EXPECT_TRUE(procrun::is_excused(stages, 0));
}

TEST(PipelineStatusTest, DeathBySigpipeIsAFailureWithoutAReaderThatEndedWell) {
    EXPECT_EQ(status_of({killed(SIGPIPE)}), 141);
    EXPECT_EQ(status_of({exited(0), killed(SIGPIPE)}), 141);
    EXPECT_EQ(status_of({killed(SIGPIPE), exited(2)}), 2);
    EXPECT_EQ(status_of({killed(SIGPIPE), exited(2), exited(0)}), 2);
    const std::vector<StageReport> stages{killed(SIGPIPE), exited(2)};
    EXPECT_FALSE(procrun::is_excused(stages, 0));
}

TEST(PipelineStatusTest, ExitWithTheNumberOfSigpipeIsAFailure) {
    EXPECT_EQ(status_of({exited(128 + SIGPIPE), exited(0)}), 141);
}

// ---- running

TEST(PipelineTest, EachStageReadsWhatTheOneBeforeWrote) {
    const TemporaryDirectory folder;
    const PipelineReport report = run("printf 'b\\nc\\na\\nb\\n' | sort | uniq -c | tr -d ' ' > " + (folder / "out"));
    EXPECT_EQ(read_text_file(folder / "out"), "1a\n2b\n1c\n");
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>(4, "exit 0")));
    EXPECT_EQ(report.status, 0);
    EXPECT_FALSE(report.stopped || report.refused);
}

TEST(PipelineTest, ReportTellsTheWordsTheProcessAndTheTimes) {
    const TemporaryDirectory folder;
    const PipelineReport report = run("sh -c 'echo $$; exit 7' > " + (folder / "pid"));
    const StageReport& stage = report.stages.at(0);
    EXPECT_EQ(stage.argv, (std::vector<std::string>{"sh", "-c", "echo $$; exit 7"}));
    EXPECT_EQ(std::to_string(stage.pid.value()) + "\n", read_text_file(folder / "pid"));
    EXPECT_EQ(stage.outcome.describe(), "exit 7");
    EXPECT_GT(stage.wall_seconds.value(), 0);
    EXPECT_GE(stage.user_seconds.value() + stage.system_seconds.value(), 0);
    EXPECT_LE(*stage.wall_seconds, report.wall_seconds);
    EXPECT_EQ(report.status, 7);
}

/// Checks the counters of a pipeline that moves a hundred million bytes from end to end.
void expect_counted(const PipelineReport& report) {
    constexpr std::size_t kBytes = 100'000'000;
    ASSERT_EQ(report.status, 0);
    for (const StageReport& stage : report.stages) {
        EXPECT_EQ(stage.written_bytes.value(), kBytes);
        EXPECT_GE(stage.read_bytes.value(), kBytes);
        EXPECT_LT(stage.read_bytes.value(), kBytes + kMiB);  // the loader reads files too
    }
}

// dd uses read(2) and write(2) alone.
constexpr const char* kMoveBytes =
    "dd if=/dev/zero bs=100000 count=1000 status=none | dd bs=64K status=none | dd of=/dev/null bs=64K status=none";

TEST(PipelineTest, BytesReadAndWrittenAreCountedToTheEnd) { expect_counted(run(kMoveBytes)); }

TEST(PipelineTest, BytesReadAndWrittenAreCountedBesideOtherThreads) {
    std::atomic<bool> done = false;
    std::thread other([&] {
        const UniqueFd zero = vmcow::sys::open_file("/dev/zero", O_RDONLY);
        std::vector<std::byte> bytes(kMiB);
        while (!done) vmcow::sys::read_full(zero.get(), bytes, "zero");
    });
    const PipelineReport report = run(kMoveBytes);
    done = true;
    other.join();
    expect_counted(report);
}

TEST(PipelineTest, BytesOfAStageThatEndsAtOnceAreKnown) {
    if (!procrun::has_one_thread()) GTEST_SKIP() << "a process with one thread is missing: the sanitizer has another";
    for (int round = 0; round < 20; ++round) EXPECT_GT(run("true").stages[0].read_bytes.value(), 0U);
}

TEST(PipelineTest, PeakIsWhatTheStageHadResident) {
    const PipelineReport report = run("head -c 67108864 /dev/zero | tail -c 67108864 | cat > /dev/null");
    ASSERT_EQ(report.status, 0);
    EXPECT_GE(report.stages[1].peak_bytes.value(), 64 * kMiB);
    EXPECT_LT(report.stages[1].peak_bytes.value(), 256 * kMiB);
}

TEST(PipelineTest, PeakIsNotWhatTheStageInheritedFromUs) {
    const std::vector<std::byte> ours(128 * kMiB, std::byte{1});
    const PipelineReport report = run("sleep 0.1");
    ASSERT_EQ(report.status, 0);
    EXPECT_LT(report.stages[0].peak_bytes.value(), 64 * kMiB);
}

// Where the kernel executes no memfd, programs are forked from this process, and their peak stays unknown (I8).
TEST(PipelineTest, StagesThatAreForkedFromUsRunAndTheirPeakIsUnknown) {
    procrun::Launcher launcher(procrun::LauncherKind::fork);
    const PipelineReport report = run("echo text | cat > /dev/null", {.launcher = &launcher});
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>{"exit 0", "exit 0"}));
    for (const StageReport& stage : report.stages) EXPECT_FALSE(stage.peak_bytes);
    EXPECT_EQ(report.stages[1].written_bytes, 5U);
}

TEST(PipelineTest, TwoHundredStagesRunAtTheSameTime) {
    const TemporaryDirectory folder;
    std::string text = "echo payload";
    for (int i = 0; i < 199; ++i) text += " | cat";
    const PipelineReport report = run(text + " > " + (folder / "out"));
    EXPECT_EQ(report.status, 0);
    EXPECT_EQ(report.stages.size(), 200U);
    EXPECT_EQ(read_text_file(folder / "out"), "payload\n");
}

// A running stage takes a pidfd, a gauge and its counters, which are opened twice when this process has other threads.
// A pipe that was opened for all stages in advance would take two more descriptors a stage.
TEST(PipelineTest, EachPipeIsOpenedWhenItsStageStarts) {
    constexpr std::size_t kStages = 50;
    std::string text = "true";
    for (std::size_t i = 1; i < kStages; ++i) text += " | true";
    const DescriptorLimit limit{kStages * (procrun::has_one_thread() ? 3 : 4) + 20};
    const PipelineReport report = run(text);
    EXPECT_FALSE(report.refused);
    EXPECT_EQ(report.stages.size(), kStages);
    EXPECT_EQ(report.status, 0);
}

TEST(PipelineTest, WriterThatNobodyReadsAnyMoreIsEndedAndExcused) {
    const PipelineReport report = run("yes | cat | head -n 1 > /dev/null");
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>{"killed by SIGPIPE", "killed by SIGPIPE", "exit 0"}));
    EXPECT_EQ(report.status, 0);
}

/// VMCOW_PIPELINES, or a number that runs in a short time.
int pipelines_in_a_row() {
    const char* const wanted = std::getenv("VMCOW_PIPELINES");
    return wanted != nullptr ? std::stoi(wanted) : 500;
}

std::size_t children_of(pid_t pid) {
    const std::string text =
        read_text_file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), ' '));
}

// The leak guard looks at this process alone; a descriptor that the launcher keeps a pipeline is fatal after some
// thousand pipelines.
TEST(PipelineTest, PipelinesInARowLeaveThisProcessAndTheLauncherAsTheyWere) {
    procrun::Launcher launcher;
    const auto once = [&] {
        const PipelineReport report = run("true | sh -c 'exit 3' | true", {.launcher = &launcher});
        ASSERT_EQ(outcomes_of(report), (std::vector<std::string>{"exit 0", "exit 3", "exit 0"}));
    };
    once();
    const std::size_t ours = descriptors(getpid());
    const std::size_t its = descriptors(launcher.pid());
    const std::size_t children = children_of(getpid());
    for (int i = 0; i < pipelines_in_a_row() && !HasFatalFailure(); ++i) once();
    EXPECT_EQ(descriptors(getpid()), ours);
    // The launcher forgets the programs of an ended pipeline when it starts the next one. It answers before it closes
    // what came with a request: a pipeline may end before that.
    EXPECT_TRUE(tests::eventually([&] { return descriptors(launcher.pid()) <= its + 3; }))
        << descriptors(launcher.pid()) << " descriptors after " << its;
    EXPECT_EQ(children_of(getpid()), children);
    EXPECT_EQ(children_of(launcher.pid()), 0U);
}

// ---- redirections

TEST(PipelineTest, StandardErrorFollowsIntoThePipe) {
    const TemporaryDirectory folder;
    run("sh -c 'echo out; echo err >&2' 2>&1 | sort > " + (folder / "both"));
    EXPECT_EQ(read_text_file(folder / "both"), "err\nout\n");
}

TEST(PipelineTest, RedirectionsApplyFromLeftToRight) {
    const TemporaryDirectory folder;
    const std::string script = "sh -c 'echo out; echo err >&2' ";
    run(script + "2>&1 >" + (folder / "a") + " | cat > " + (folder / "piped"));
    EXPECT_EQ(read_text_file(folder / "a"), "out\n");
    EXPECT_EQ(read_text_file(folder / "piped"), "err\n");
    run(script + ">" + (folder / "b") + " 2>&1");
    EXPECT_EQ(read_text_file(folder / "b"), "out\nerr\n");
    run(script + "2>" + (folder / "c") + " 1>&2");
    EXPECT_EQ(read_text_file(folder / "c"), "out\nerr\n");
}

TEST(PipelineTest, FilesAreReadReplacedAndAppendedTo) {
    const TemporaryDirectory folder;
    write_file(folder / "in", "new\n");
    write_file(folder / "out", "something old that is longer\n");
    run("cat < " + (folder / "in") + " > " + (folder / "out"));
    EXPECT_EQ(read_text_file(folder / "out"), "new\n");
    run("cat < " + (folder / "in") + " >> " + (folder / "out"));
    EXPECT_EQ(read_text_file(folder / "out"), "new\nnew\n");
    run("sh -c 'echo err >&2' 2>> " + (folder / "out"));
    EXPECT_EQ(read_text_file(folder / "out"), "new\nnew\nerr\n");
}

TEST(PipelineTest, LastOfTwoFilesIsWrittenAndTheFirstIsLeftEmpty) {
    const TemporaryDirectory folder;
    write_file(folder / "a", "old");
    run("echo new > " + (folder / "a") + " > " + (folder / "b"));
    EXPECT_EQ(read_text_file(folder / "a"), "");
    EXPECT_EQ(read_text_file(folder / "b"), "new\n");
}

TEST(PipelineTest, FullDiskIsTheStagesFailure) {
    const PipelineReport report = run("sh -c 'echo x' > /dev/full 2> /dev/null");
    EXPECT_NE(report.status, 0);
    EXPECT_EQ(report.stages[0].outcome.kind, OutcomeKind::exited);
}

// ---- what cannot start

TEST(PipelineTest, MissingProgramIsFoundBeforeAnythingIsDone) {
    const TemporaryDirectory folder;
    write_file(folder / "kept", "old");
    const PipelineReport report =
        run("touch " + (folder / "ran") + " | /no/such/program > " + (folder / "kept") + " | cat");
    EXPECT_EQ(report.refused, 1U);
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>{"not started without stage 2: Operation canceled",
                                                             "execve '/no/such/program': No such file or directory",
                                                             "not started without stage 2: Operation canceled"}));
    EXPECT_EQ(report.status, 1);
    EXPECT_FALSE(report.stages[0].pid || report.stages[0].wall_seconds || report.stages[0].read_bytes);
    EXPECT_FALSE(std::filesystem::exists(folder / "ran"));
    EXPECT_EQ(read_text_file(folder / "kept"), "old");
}

TEST(PipelineTest, FileThatMayNotBeExecutedIsNamed) {
    const TemporaryDirectory folder;
    write_file(folder / "text", "", 0644);
    const PipelineReport report = run((folder / "text") + " | cat");
    EXPECT_EQ(report.stages[0].outcome.describe(), "execve '" + (folder / "text") + "': Permission denied");
    EXPECT_EQ(run(folder.path().string()).stages[0].outcome.code, EACCES);
    EXPECT_EQ(run("''").stages[0].outcome.code, ENOENT);
}

TEST(PipelineTest, MissingInputFileIsNamedAndNoOutputIsLost) {
    const TemporaryDirectory folder;
    write_file(folder / "kept", "old");
    const PipelineReport report = run("cat > " + (folder / "kept") + " | cat < " + (folder / "none"));
    EXPECT_EQ(report.stages[1].outcome.kind, OutcomeKind::not_started);
    EXPECT_EQ(report.stages[1].outcome.describe(), "open '" + (folder / "none") + "': No such file or directory");
    EXPECT_EQ(report.refused, 1U);
    EXPECT_EQ(report.status, 1);
    EXPECT_EQ(read_text_file(folder / "kept"), "old");
}

TEST(PipelineTest, OutputFileThatCannotBeOpenedCostsNoOtherItsBytes) {
    const TemporaryDirectory folder;
    write_file(folder / "kept", "old");
    const PipelineReport report = run("true > " + (folder / "kept") + " | true > " + folder.path().string());
    EXPECT_EQ(report.stages[1].outcome.code, EISDIR);
    EXPECT_EQ(read_text_file(folder / "kept"), "old");
}

// Exec finds the error only when the stages before are running.
TEST(PipelineTest, StageThatFailsToStartHasThoseBeforeItStopped) {
    const TemporaryDirectory folder;
    write_file(folder / "empty", "", 0755);
    const PipelineReport report = run("sleep 60 | sleep 60 | " + (folder / "empty") + " | cat");
    if (report.stages[2].outcome.code == EACCES) GTEST_SKIP() << "the temporary folder allows no programs";
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>{"killed by SIGTERM", "killed by SIGTERM",
                                                             "execve '" + (folder / "empty") + "': Exec format error",
                                                             "not started without stage 3: Operation canceled"}));
    EXPECT_EQ(report.refused, 2U);
    EXPECT_EQ(report.status, 1);
    EXPECT_TRUE(report.stages[0].pid && report.stages[0].wall_seconds);
    EXPECT_FALSE(report.stages[3].pid);
}

// The leak guard checks that nothing is left, whichever descriptor could not be opened.
TEST(PipelineTest, NoDescriptorLeftIsAStageThatDidNotStart) {
    // The sanitizer opens a pipe when it checks the type of an exception for the first time.
    ASSERT_EQ(run("true < /no/such/file").stages[0].outcome.code, ENOENT);
    bool ran = false;
    for (std::size_t free = 0; free < 20 && !ran; ++free) {
        const DescriptorLimit limit{free};
        const PipelineReport report = run("true < /dev/null | true 2> /dev/null | true");
        ran = !report.refused;
        if (ran) break;
        const Outcome& outcome = report.stages[*report.refused].outcome;
        EXPECT_EQ(outcome.kind, OutcomeKind::not_started);
        EXPECT_EQ(outcome.code, EMFILE) << free << " free: " << outcome.describe();
        EXPECT_EQ(report.status, 1);
    }
    EXPECT_TRUE(ran);
}

TEST(PipelineTest, IgnoredSigchldIsAnErrorAndNotAGuess) {
    const auto body = [] {
        static_cast<void>(std::signal(SIGCHLD, SIG_IGN));
        return tests::error_of([] { static_cast<void>(run("true | sleep 60")); });
    };
    EXPECT_EQ(tests::in_child(body), (tests::ChildEnd{ECHILD, 0}));
}

// ---- what is stopped

TEST(PipelineTest, WhatRunsAtTheDeadlineIsEndedAndSaysSo) {
    const PipelineReport report = run("true | sleep 60 | sleep 60", {.deadline = Deadline::in(100ms)});
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>{"exit 0", "deadline passed, ended by SIGTERM",
                                                             "deadline passed, ended by SIGTERM"}));
    EXPECT_EQ(report.status, 124);
    EXPECT_FALSE(report.stopped || report.refused);
}

TEST(PipelineTest, DeadlineInThePastEndsWhatWasStarted) {
    const PipelineReport report = run("sleep 60", {.deadline = Deadline::at(Deadline::Clock::now() - 1s)});
    EXPECT_EQ(report.stages[0].outcome.kind, OutcomeKind::deadline_passed);
}

TEST(PipelineTest, ReadableStopDescriptorEndsEveryStage) {
    const TemporaryDirectory folder;
    const Bell bell(folder);
    const PipelineReport report =
        run("sh -c 'echo > " + bell.path() + "; exec sleep 60' | sleep 60", {.stop_fd = bell.fd()});
    EXPECT_TRUE(report.stopped);
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>(2, "killed by SIGTERM")));
}

TEST(PipelineTest, WhatIgnoresSigtermIsKilledAfterTheGrace) {
    const TemporaryDirectory folder;
    const Bell bell(folder);
    // The bell rings when the shell ignores SIGTERM, and exec keeps that setting.
    const PipelineReport report =
        run("sh -c 'trap \"\" TERM; echo > " + bell.path() + "; exec sleep 60'", {.grace = 10ms, .stop_fd = bell.fd()});
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>{"killed by SIGKILL"}));
}

TEST(PipelineTest, StageThatEndsItselfWhenToldKeepsItsStatus) {
    const TemporaryDirectory folder;
    const Bell bell(folder);
    const PipelineReport report =
        run("sh -c 'trap \"exit 9\" TERM; echo > " + bell.path() + "; while :; do sleep 0.02; done'",
            {.grace = 60s, .stop_fd = bell.fd()});
    EXPECT_EQ(outcomes_of(report), (std::vector<std::string>{"exit 9"}));
}

// ---- the meter

TEST(StageMeterTest, WhatIsGoneIsUnknown) {
    EXPECT_FALSE(procrun::TransferMeter().read());
    EXPECT_FALSE(procrun::TransferMeter(-1).read());
}

TEST(StageMeterTest, ZombieStillTellsItsBytes) {
    pipes::Pipe pipe = pipes::Pipe::open();
    auto started = procrun::Program({"dd", "of=/dev/null", "status=none"}).descriptor(0, pipe.read_end().get()).start();
    auto& process = std::get<procrun::Process>(started);
    const procrun::TransferMeter meter(process.pid());
    const std::vector<std::byte> bytes(7000);
    vmcow::sys::write_all(pipe.write_end().get(), bytes, "pipe");
    pipe.take_write_end().reset();
    ASSERT_TRUE(process.wait_ended(Deadline::never()));
    EXPECT_EQ(meter.read().value().written, 7000U);
    static_cast<void>(process.wait());
    EXPECT_FALSE(meter.read());
}

TEST(StageMeterTest, ReapingTellsTheBytesOfTheChildAlone) {
    auto started =
        procrun::Program({"dd", "if=/dev/zero", "of=/dev/null", "bs=1000", "count=7", "status=none"}).start();
    auto& process = std::get<procrun::Process>(started);
    ASSERT_TRUE(process.wait_ended(Deadline::never()));
    const procrun::ReapMeter before;
    EXPECT_EQ(before.read().value().written, 0U);
    EXPECT_LT(before.read().value().read, 1000U);  // reading the counters is a read too
    const procrun::ReapMeter meter;
    static_cast<void>(process.wait());
    EXPECT_EQ(meter.read().value().written, 7000U);
}

TEST(StageMeterTest, WithoutADescriptorNothingIsKnown) {
    const DescriptorLimit limit{0};
    EXPECT_FALSE(procrun::ReapMeter().read());
    EXPECT_FALSE(procrun::TransferMeter(getpid()).read());
}

}  // namespace
