// vmcow watch: processes that can and cannot be watched, its samples and files, budgets, and programs that it starts.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/support.hpp"
#include "tests/vmcow/meter/watch/watch_actors.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace {

using nlohmann::json;
using tests::Actors;
using tests::ChildEnd;
using tests::CommandResult;

CommandResult watch(std::vector<std::string> words, const tests::CommandInput& input = {}) {
    words.insert(words.begin(), {VMCOW_COMMAND, "watch"});
    return tests::run_command(words, input);
}

void expect_complaint(const CommandResult& run, int exit_status, const std::string& thing) {
    EXPECT_EQ(run.end, (ChildEnd{exit_status, 0}));
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    EXPECT_NE(run.err.find(thing), std::string::npos) << run.err;
}

std::vector<json> lines_of(const std::string& text) {
    std::vector<json> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
    return lines;
}

TEST(WatchCommandTest, CommandLineThatMakesNoSenseIsAUsageError) {
    expect_complaint(watch({}), 2, "name the processes to watch");
    expect_complaint(watch({"12x"}), 2, "'12x' is not a whole number");
    expect_complaint(watch({"0"}), 2, "'0' is less than 1");
    expect_complaint(watch({"99999999999"}), 2, "too large for the number of a process");
    expect_complaint(watch({"--"}), 2, "no program");
    expect_complaint(watch({"1", "--", "true"}), 2, "not both");
    expect_complaint(watch({"--interval", "5", "1"}), 2, "has no unit");
    expect_complaint(watch({"--limit", "8Q", "1"}), 2, "the unit is none of");
    expect_complaint(watch({"--ndjson", "-", "--csv", "-", "1"}), 2, "two files cannot both be standard output");
    expect_complaint(watch({"--ndjson", "-", "--", "true"}), 2, "standard output is the program's");
}

TEST(WatchCommandTest, ProcessThatIsNotThereIsNamed) {
    expect_complaint(watch({"2147483647"}), 1, "there is no process 2147483647");
}

TEST(WatchCommandTest, ZombieIsNamed) {
    const pid_t pid = fork();
    if (pid == 0) _exit(0);
    siginfo_t info{};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
    expect_complaint(watch({std::to_string(pid)}), 1, "is a zombie");
    waitpid(pid, nullptr, 0);
}

TEST(WatchCommandTest, KernelThreadIsNamed) {
    std::string name;
    std::getline(std::ifstream("/proc/2/comm"), name);
    if (name != "kthreadd") GTEST_SKIP() << "kernel threads are not to be seen here";
    expect_complaint(watch({"2"}), 1, "is a kernel thread");
}

TEST(WatchCommandTest, ProcessThatIsNotOursIsNamed) {
    if (geteuid() != 0) {
        expect_complaint(watch({"1"}), 1, "may not be looked at");
        return;
    }
    // Root may look at every process, so that another user has to ask. That user must be able to execute the command.
    const Actors actors(1, Actors::Memory::small_pages);
    const tests::TemporaryDirectory folder;
    std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
    const std::string command = folder / "vmcow";
    std::filesystem::copy_file(VMCOW_COMMAND, command);
    const std::string err = folder / "err";
    const ChildEnd end = tests::in_child([&] {
        if (setgid(65534) != 0 || setuid(65534) != 0) return 124;
        const int fd = open(err.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (dup2(fd, STDERR_FILENO) < 0) return 124;
        execl(command.c_str(), command.c_str(), "watch", std::to_string(actors.pid(0)).c_str(), nullptr);
        return 124;
    });
    EXPECT_EQ(end, (ChildEnd{1, 0}));
    const std::string said = vmcow::sys::read_text_file(err);
    EXPECT_NE(said.find("may not be looked at: Permission denied"), std::string::npos) << said;
}

TEST(WatchCommandTest, WhatCanBeWatchedIsWatchedAndTheStatusTellsOfTheRest) {
    const Actors actors(4, Actors::Memory::small_pages);
    const CommandResult run =
        watch({"--for", "50ms", "--interval", "20ms", "--ndjson", "-", "2147483647", std::to_string(actors.pid(0))});
    EXPECT_EQ(run.end, (ChildEnd{1, 0}));
    EXPECT_NE(run.err.find("there is no process 2147483647"), std::string::npos) << run.err;
    EXPECT_GE(lines_of(run.out).size(), 2U);
}

TEST(WatchCommandTest, SampleHasAllFields) {
    Actors actors(64, Actors::Memory::small_pages);
    actors.fork(0, 1);
    actors.write(1, 0, 16, 1, 0);
    const tests::TemporaryDirectory folder;
    const std::string document = folder / "watch.json";
    const CommandResult run = watch({"--for", "50ms", "--interval", "20ms", "--bytes", "--tree", "--ndjson", "-",
                                     "--json", document, std::to_string(actors.pid(0))});
    ASSERT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    const std::vector<json> lines = lines_of(run.out);
    ASSERT_GE(lines.size(), 4U);
    const json& child = lines.back();
    EXPECT_EQ(child.at("pid"), actors.pid(1));
    EXPECT_EQ(child.at("parent_pid"), actors.pid(0));
    for (const char* key : {"time", "elapsed", "command", "resident_bytes", "shared_bytes", "copied_by_parent_pages",
                            "new_bytes", "swapped_bytes"}) {
        EXPECT_TRUE(child.contains(key)) << key;
    }
    EXPECT_GE(child.at("copied_pages"), 16);
    EXPECT_EQ(child.at("copied_bytes"), child.at("copied_pages").get<std::uint64_t>() * 4096);
    EXPECT_GE(child.at("changed_bytes"), 16);
    bool found = false;
    for (const json& mapping : child.at("mappings")) {
        if (mapping.at("start") != actors.start()) continue;
        found = true;
        EXPECT_EQ(mapping.at("end"), actors.end());
        EXPECT_EQ(mapping.at("copied_pages"), 16);
        EXPECT_EQ(mapping.at("changed_bytes"), 16);
        EXPECT_EQ(mapping.at("identical_pages"), 0);
        EXPECT_EQ(mapping.at("amplification"), 4096.0);
    }
    EXPECT_TRUE(found);

    const json report = json::parse(vmcow::sys::read_text_file(document));
    EXPECT_EQ(report.at("kind"), "watch");
    EXPECT_EQ(report.at("samples").size(), lines.size());
    EXPECT_GE(report.at("cost").at("scans"), 2);
    EXPECT_GT(report.at("cost").at("scan_seconds"), 0.0);
    // For blocks of the size of a page, the what-if must agree with the pages that were compared and differ.
    std::uint64_t differing = 0;
    for (const json& sample : report.at("samples")) {
        if (sample.at("time") != child.at("time") || sample.at("compared_pages").is_null()) continue;
        differing +=
            sample.at("compared_pages").get<std::uint64_t>() - sample.at("identical_pages").get<std::uint64_t>();
    }
    EXPECT_GE(differing, 16U);
    for (const json& block : report.at("what_if")) {
        if (block.at("block_bytes") == 4096) {
            EXPECT_EQ(block.at("copied_bytes"), differing * 4096);
        }
    }
    EXPECT_LT(report.at("best_block_bytes"), 4096);
    std::uint64_t hot = 0;
    for (const json& range : report.at("heat")) {
        EXPECT_EQ(range.at("times").size(), range.at("copied_pages").size());
        for (const json& row : range.at("copied_pages")) {
            EXPECT_EQ(row.size(), (range.at("end").get<std::uint64_t>() - range.at("start").get<std::uint64_t>()) /
                                      range.at("bucket_bytes").get<std::uint64_t>());
        }
        if (range.at("pid") != actors.pid(1)) continue;
        for (const json& pages : range.at("copied_pages").back()) hot += pages.get<std::uint64_t>();
    }
    EXPECT_EQ(hot, child.at("copied_pages"));
}

TEST(WatchCommandTest, CsvHasALineForEachProcessAndSample) {
    const Actors actors(4, Actors::Memory::small_pages);
    const CommandResult run =
        watch({"--for", "50ms", "--interval", "20ms", "--csv", "-", "--quiet", std::to_string(actors.pid(0))});
    ASSERT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    std::istringstream in(run.out);
    std::size_t lines = 0;
    std::string first;
    for (std::string line; std::getline(in, line); ++lines) {
        if (lines == 0) first = line;
        EXPECT_EQ(std::count(line.begin(), line.end(), ','), std::count(first.begin(), first.end(), ',')) << line;
    }
    EXPECT_TRUE(first.starts_with("time,elapsed,pid,parent_pid,command,"));
    EXPECT_GE(lines, 3U);
}

/// Checks what the text format demands: a family's HELP and TYPE stand once, before its samples, and no sample twice.
void expect_valid_exposition(const std::string& text) {
    const std::regex sample(R"re(([a-z_]+)(\{[a-z_]+="(\\.|[^"\\])*"(,[a-z_]+="(\\.|[^"\\])*")*\})? [-+0-9.eE]+)re");
    std::istringstream in(text);
    std::set<std::string> families;
    std::set<std::string> samples;
    std::string last;
    std::string line;
    while (std::getline(in, line) && line != "# EOF") {
        std::smatch match;
        if (line.starts_with("# TYPE ")) {
            last = line.substr(7, line.find(' ', 7) - 7);
            EXPECT_TRUE(families.insert(last).second) << line;
            EXPECT_TRUE(line.ends_with(" gauge")) << line;
        } else if (!line.starts_with("# HELP ")) {
            ASSERT_TRUE(std::regex_match(line, match, sample)) << line;
            EXPECT_EQ(match[1], last) << line;
            EXPECT_TRUE(samples.insert(match[1].str() + match[2].str()).second) << line;
        }
    }
    EXPECT_EQ(line, "# EOF");
    EXPECT_FALSE(std::getline(in, line));
    EXPECT_GE(samples.size(), 5U);
}

TEST(WatchCommandTest, OpenMetricsFileIsValid) {
    Actors actors(4, Actors::Memory::small_pages);
    actors.fork(0, 1);
    const tests::TemporaryDirectory folder;
    const std::string file = folder / "watch.prom";
    const CommandResult run = watch({"--for", "50ms", "--interval", "20ms", "--tree", "--bytes", "--openmetrics", file,
                                     "--limit", "1G", std::to_string(actors.pid(0))});
    ASSERT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    const std::string text = vmcow::sys::read_text_file(file);
    expect_valid_exposition(text);
    if (tests::run_command({"sh", "-c", "command -v promtool"}).end.exit_status != 0) {
        GTEST_SKIP() << "promtool is lacking: only our own check was made";
    }
    const CommandResult checked =
        tests::run_command({"promtool", "check", "metrics"}, {.text = text, .environment = {}, .out_path = {}});
    EXPECT_EQ(checked.end, (ChildEnd{0, 0})) << checked.out << checked.err;
}

TEST(WatchCommandTest, BudgetThatIsExceededIsTheStatus) {
    Actors actors(64, Actors::Memory::small_pages);
    actors.fork(0, 1);
    actors.write(1, 0, 16, 1, 0);
    const auto run = [&](const char* budget) {
        return watch({"--for", "50ms", "--interval", "20ms", "--quiet", "--bytes", "--budget", budget,
                      std::to_string(actors.pid(1))});
    };
    EXPECT_EQ(run("copied=1G").end, (ChildEnd{0, 0}));
    expect_complaint(run("copied=64K"), 1, "copied");
    expect_complaint(run("copied=x"), 2, "--budget: 'x' is not a size");
}

TEST(WatchCommandTest, PageHoldsTheWatch) {
    Actors actors(64, Actors::Memory::small_pages);
    actors.fork(0, 1);
    const tests::TemporaryDirectory folder;
    const std::string page = folder / "watch.html";
    const CommandResult run = watch(
        {"--for", "50ms", "--interval", "20ms", "--quiet", "--tree", "--html", page, std::to_string(actors.pid(0))});
    ASSERT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    const std::string text = vmcow::sys::read_text_file(page);
    EXPECT_TRUE(text.starts_with("<!DOCTYPE html>")) << text.substr(0, 100);
    EXPECT_NE(text.find(std::to_string(actors.pid(1))), std::string::npos);
}

TEST(WatchCommandTest, StatusOfTheProgramIsPassedOn) {
    const CommandResult run = watch({"--quiet", "--", "sh", "-c", "echo out; exit 7"});
    EXPECT_EQ(run.end, (ChildEnd{7, 0}));
    EXPECT_EQ(run.out, "out\n");
    EXPECT_EQ(run.err, "");
    EXPECT_EQ(watch({"--quiet", "--", "sh", "-c", "kill -USR1 $$"}).end, (ChildEnd{128 + SIGUSR1, 0}));
    expect_complaint(watch({"--quiet", "--", "/no/such/program"}), 1, "/no/such/program");
}

// Such a program may be gone before the first look, during it, or after it.
TEST(WatchCommandTest, StatusOfAProgramThatEndsAtOnceIsPassedOn) {
    for (int i = 0; i < 40; ++i) {
        const CommandResult run = watch({"--quiet", "--", "sh", "-c", "exit 7"});
        EXPECT_EQ(run.end, (ChildEnd{7, 0}));
        EXPECT_EQ(run.err, "");
    }
}

TEST(WatchCommandTest, ProgramIsEndedWithTheWatch) {
    const tests::TemporaryDirectory folder;
    const std::string file = folder / "pids";
    const CommandResult run = watch(
        {"--for", "300ms", "--interval", "50ms", "--", "sh", "-c", "sleep 1000 & echo $! > " + file + "; sleep 1000"});
    EXPECT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    EXPECT_NE(run.err.find("sleep"), std::string::npos) << run.err;
    const pid_t left = std::stoi(vmcow::sys::read_text_file(file));
    EXPECT_NE(vmcow::sys::try_signal_process(left, 0), 0) << "what the program has started is still there";
}

TEST(WatchCommandTest, WatchEndsWithTheLastProcess) {
    Actors actors(4, Actors::Memory::small_pages);
    const pid_t pid = fork();
    if (pid == 0) {
        usleep(100'000);
        actors.tell(0, {Actors::Deed::leave, 0, 0, 1, 0, 0});
        _exit(0);
    }
    const CommandResult run = watch({"--interval", "10s", std::to_string(actors.pid(0))});
    EXPECT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    EXPECT_NE(run.out.find("looking:"), std::string::npos) << run.out;
    waitpid(pid, nullptr, 0);
}

TEST(WatchCommandTest, FullDiskUnderAReportIsAFailureAndTheOthersAreWritten) {
    const Actors actors(4, Actors::Memory::small_pages);
    const tests::TemporaryDirectory folder;
    const std::string document = folder / "watch.json";
    const CommandResult run = watch({"--for", "50ms", "--interval", "20ms", "--quiet", "--ndjson", "/dev/full",
                                     "--json", document, std::to_string(actors.pid(0))});
    expect_complaint(run, 1, "/dev/full");
    EXPECT_EQ(json::parse(vmcow::sys::read_text_file(document)).at("kind"), "watch");
    expect_complaint(watch({"--json", "/no/such/folder/x", std::to_string(actors.pid(0))}), 1, "/no/such/folder/x");
}

TEST(WatchCommandTest, BitsOfPagemapDoAndAreReported) {
    const Actors actors(4, Actors::Memory::small_pages);
    const CommandResult run =
        watch({"--for", "50ms", "--interval", "20ms", "--page-scan", "pagemap", std::to_string(actors.pid(0))});
    EXPECT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    EXPECT_NE(run.out.find("note: pages were found by the bits of pagemap"), std::string::npos) << run.out;
}

}  // namespace
