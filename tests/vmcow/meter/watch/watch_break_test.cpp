// Tests a watch under stress: memory in ten thousand mappings, targets that change during the look, and signals.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/support.hpp"
#include "tests/vmcow/meter/watch/watch_actors.hpp"
#include "vmcow/meter/watch/process_family.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/signal_process.hpp"

extern char** environ;

namespace {

using nlohmann::json;
using tests::Actors;
using tests::ChildEnd;
using vmcow::kPageBytes;
using vmcow::meter::FamilySample;
using vmcow::meter::PageFigures;
using vmcow::meter::ProcessFamily;
using vmcow::meter::ProcessSample;
using Deed = Actors::Deed;
using Clock = std::chrono::steady_clock;

TEST(WatchBreakTest, TenThousandMappingsAreCountedEach) {
    constexpr std::size_t kMappings = 10'000;
    Actors actors(kMappings, Actors::Memory::small_pages);
    actors.tell(0, {Deed::seal, 0, kMappings / 2, 2, 0, 0});
    ProcessFamily family({.tree = true, .bytes = true});
    family.add(actors.pid(0));
    (void)family.look();
    actors.fork(0, 1);
    (void)family.look();
    actors.write(1, 1, 100, 2);  // the writable pages between the sealed ones
    const FamilySample sample = family.look();
    std::size_t mappings = 0;
    PageFigures sum;
    for (const ProcessSample& process : sample.processes) {
        if (process.pid != actors.pid(1)) continue;
        for (const auto& mapping : process.mappings) {
            if (mapping.start < actors.start() || mapping.end > actors.end()) continue;
            ++mappings;
            sum += mapping.figures;
        }
    }
    EXPECT_EQ(mappings, kMappings);
    EXPECT_EQ(sum.copied.value, 100U);
    EXPECT_EQ(sum.changed_bytes, 100U);
    EXPECT_EQ(sum.shared_bytes, (kMappings - 100) * kPageBytes);
}

bool notes_unseen_children(const ProcessFamily& family) {
    const std::vector<std::string> notes = family.notes();
    return std::any_of(notes.begin(), notes.end(), [](const std::string& note) {
        return note.find("children came and went between two looks") != std::string::npos;
    });
}

/// Children that no look saw must be reported as unknown; a child that was seen must not (I8).
TEST(WatchBreakTest, ChildrenThatNobodySawAreTold) {
    Actors actors(16, Actors::Memory::small_pages);
    ProcessFamily family({.tree = true});
    family.add(actors.pid(0));
    (void)family.look();
    actors.fork(0, 1);
    (void)family.look();
    actors.tell(1, {Deed::leave, 0, 0, 1, 0, 0});
    (void)family.look();
    actors.tell(0, {Deed::reap, 0, 0, 1, 0, 0});
    (void)family.look();
    EXPECT_FALSE(notes_unseen_children(family));
    actors.fork(0, 2);
    actors.tell(2, {Deed::leave, 0, 0, 1, 0, 0});
    actors.tell(0, {Deed::reap, 0, 0, 1, 0, 0});
    (void)family.look();
    EXPECT_TRUE(notes_unseen_children(family));
}

/// A process that does `work` in a loop until it is killed.
class Restless {
public:
    explicit Restless(const std::function<void()>& work) : pid_(::fork()) {
        if (pid_ != 0) return;
        for (;;) work();
    }
    ~Restless() {
        vmcow::sys::signal_process(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Restless(const Restless&) = delete;
    Restless& operator=(const Restless&) = delete;
    [[nodiscard]] pid_t pid() const { return pid_; }

private:
    pid_t pid_;
};

/// Looks at a process and its descendants for half a second: no look may fail, or count more than `most_bytes`.
void look_for_a_while(pid_t pid, std::uint64_t most_bytes) {
    ProcessFamily family({.tree = true, .bytes = true});
    family.add(pid);
    std::size_t looks = 0;
    for (const auto until = Clock::now() + std::chrono::milliseconds(500); Clock::now() < until; ++looks) {
        for (const ProcessSample& process : family.look().processes) {
            const PageFigures& figures = process.figures;
            EXPECT_LE(figures.shared_bytes + figures.copied.bytes() + figures.new_bytes, most_bytes);
            EXPECT_LE(figures.compared.value_or(vmcow::PageCount{}), figures.copied);
        }
    }
    EXPECT_GT(looks, 3U);
    EXPECT_EQ(family.members().empty(), false);
}

constexpr std::uint64_t kGibibyte = std::uint64_t{1} << 30;

TEST(WatchBreakTest, MemoryThatComesAndGoesDuringTheLook) {
    const Restless target([] {
        constexpr std::size_t kBytes = 256 * kPageBytes;
        void* const at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (std::size_t i = 0; i < kBytes; i += kPageBytes) static_cast<volatile char*>(at)[i] = 1;
        ::munmap(at, kBytes);
    });
    look_for_a_while(target.pid(), kGibibyte);
}

TEST(WatchBreakTest, ChildrenThatComeAndGoDuringTheLook) {
    const Restless target([] {
        const pid_t child = ::fork();
        if (child == 0) ::_exit(0);
        ::waitpid(child, nullptr, 0);
    });
    look_for_a_while(target.pid(), kGibibyte);
}

TEST(WatchBreakTest, ProgramsThatAreExecutedDuringTheLook) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        constexpr const char* kAgain = "exec sh -c \"$0\" \"$0\"";
        ::execlp("sh", "sh", "-c", kAgain, kAgain, nullptr);
        ::_exit(127);
    }
    look_for_a_while(pid, kGibibyte);
    vmcow::sys::signal_process(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
}

/// `vmcow watch`, running beside the test.
class Watcher {
public:
    explicit Watcher(std::vector<std::string> words) {
        words.insert(words.begin(), {VMCOW_COMMAND, "watch", "--quiet", "--interval", "20ms"});
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        if (::posix_spawn(&pid_, VMCOW_COMMAND, nullptr, nullptr, arguments.data(), environ) != 0) pid_ = -1;
    }
    ~Watcher() {
        if (pid_ > 0) (void)end(SIGKILL);
    }
    Watcher(const Watcher&) = delete;
    Watcher& operator=(const Watcher&) = delete;

    ChildEnd end(int signal) {
        vmcow::sys::signal_process(pid_, signal);
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? ChildEnd{WEXITSTATUS(status), 0} : ChildEnd{-1, WTERMSIG(status)};
    }

private:
    pid_t pid_ = -1;
};

/// Waits until a stream of samples has a whole line, at most 60 s.
void await_sample(const std::string& path) {
    for (const auto until = Clock::now() + std::chrono::seconds(60); Clock::now() < until; ::usleep(5000)) {
        if (std::filesystem::exists(path) && vmcow::sys::read_text_file(path).find('\n') != std::string::npos) return;
    }
    ADD_FAILURE() << "no sample in " << path;
}

class WatchSignalTest : public testing::Test {
protected:
    Actors actors_{64, Actors::Memory::small_pages};
    tests::TemporaryDirectory folder_;
    std::string stream_ = folder_ / "samples.ndjson";
    std::string document_ = folder_ / "watch.json";
};

TEST_F(WatchSignalTest, InterruptEndsTheWatchAndItsReportIsWhole) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        Watcher watcher({"--ndjson", stream_, "--json", document_, std::to_string(actors_.pid(0))});
        await_sample(stream_);
        EXPECT_EQ(watcher.end(signal), tests::kChildExitedWell) << signal;
        EXPECT_EQ(json::parse(vmcow::sys::read_text_file(document_)).at("kind"), "watch");
        EXPECT_EQ(vmcow::sys::try_signal_process(actors_.pid(0), 0), 0) << "the target is gone";
        std::filesystem::remove(document_);
        std::filesystem::remove(stream_);
    }
}

/// A killed watcher must leave the target as it was and whole lines in the stream, but no partial report.
TEST_F(WatchSignalTest, KilledWatcherLeavesTheTargetAndWholeLines) {
    Watcher watcher({"--ndjson", stream_, "--json", document_, std::to_string(actors_.pid(0))});
    await_sample(stream_);
    EXPECT_EQ(watcher.end(SIGKILL), (ChildEnd{-1, SIGKILL}));
    actors_.write(0, 0, 8);  // the actor still carries out orders
    const std::string text = vmcow::sys::read_text_file(stream_);
    EXPECT_TRUE(json::accept(text.substr(0, text.find('\n'))));
    EXPECT_FALSE(std::filesystem::exists(document_));
}

TEST_F(WatchSignalTest, InterruptEndsTheProgramToo) {
    const std::string pids = folder_ / "pid";
    Watcher watcher({"--ndjson", stream_, "--", "sh", "-c", "echo $$ > '" + pids + "'; exec sleep 1000"});
    await_sample(stream_);
    await_sample(pids);
    const pid_t program = std::stoi(vmcow::sys::read_text_file(pids));
    EXPECT_EQ(watcher.end(SIGTERM), (ChildEnd{128 + SIGTERM, 0}));
    EXPECT_NE(vmcow::sys::try_signal_process(program, 0), 0) << "the program is still there";
}

}  // namespace
