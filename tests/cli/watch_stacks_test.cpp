// vmcow watch --stacks and --record: copies that are attributed to functions, and the writes that are recorded.
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/meter/model/trace.hpp"
#include "vmcow/meter/watch/change_record.hpp"
#include "vmcow/sys/perf_events.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using nlohmann::json;
using tests::ChildEnd;
using tests::CommandResult;

constexpr std::uint64_t kPages = 1024;

/// Lets the program take its steps while it is watched, with looks between them.
CommandResult watch_program(const std::string& flags, const std::string& what,
                            const std::string& path = COPYING_FUNCTIONS) {
    const std::string command = "{ sleep 0.4; printf .; sleep 0.5; printf .; sleep 0.5; printf .; } | '" VMCOW_COMMAND
                                "' watch --quiet --interval 100ms " +
                                flags + " -- '" + path + "' " + what + " " + std::to_string(kPages);
    return tests::run_command({"sh", "-c", command});
}

json read_json(const std::string& path) {
    std::ifstream file(path);
    return json::parse(file);
}

std::string read_text(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::uint64_t pages_by(const json& document, const std::string& function) {
    std::uint64_t pages = 0;
    for (const json& each : document["functions"]) {
        if (each["function"].get<std::string>().starts_with(function))
            pages += each["copied_pages"].get<std::uint64_t>();
    }
    return pages;
}

class WatchStacksTest : public testing::Test {
protected:
    void SetUp() override {
        if (const int error = sys::perf_faults_error(); error != 0) {
            GTEST_SKIP() << "no page faults as perf events: " << std::strerror(error);
        }
    }
    tests::TemporaryDirectory directory_;
};

/// The functions that wrote account for 99 % of the copies that the page scan finds.
TEST_F(WatchStacksTest, CopiesOfAChildAreAttributedToItsFunctions) {
    const CommandResult run = watch_program(
        "--stack-period 1 --json '" + directory_ / "w.json" + "' --folded '" + directory_ / "folded" + "'",
        "functions");
    ASSERT_EQ(run.end, tests::kChildExitedWell) << run.err;
    const json document = read_json(directory_ / "w.json");
    const std::uint64_t right =
        pages_by(document, "write_first(") + pages_by(document, "write_second(") + pages_by(document, "inlined_write(");
    EXPECT_GE(right, kPages * 99 / 100) << document["functions"].dump(1);
    EXPECT_LE(right, kPages);
    EXPECT_EQ(document["functions"][0]["function"], "write_first(char*, unsigned long)");
    EXPECT_TRUE(document["functions"][0]["line"].is_number());
    EXPECT_NE(read_text(directory_ / "folded").find(";write_all(char*, unsigned long);write_first("),
              std::string::npos);
}

TEST_F(WatchStacksTest, CopiesOfAParentAreAttributedToItsFunctions) {
    const CommandResult run = watch_program("--stack-period 1 --json '" + directory_ / "w.json" + "'", "parent");
    ASSERT_EQ(run.end, tests::kChildExitedWell) << run.err;
    const json document = read_json(directory_ / "w.json");
    EXPECT_GE(pages_by(document, "write_first("), kPages * 99 / 100) << document["functions"].dump(1);
    EXPECT_LE(pages_by(document, "write_first("), kPages);
}

TEST_F(WatchStacksTest, AllocatedPagesAreNotAmongTheCopies) {
    const CommandResult run = watch_program("--stack-period 1 --json '" + directory_ / "w.json" + "'", "new");
    ASSERT_EQ(run.end, tests::kChildExitedWell) << run.err;
    EXPECT_EQ(pages_by(read_json(directory_ / "w.json"), "write_first("), 0U);
}

TEST_F(WatchStacksTest, StrippedProgramIsNamedByItsFile) {
    const CommandResult run =
        watch_program("--stack-period 1 --json '" + directory_ / "w.json" + "'", "functions", STRIPPED_FUNCTIONS);
    ASSERT_EQ(run.end, tests::kChildExitedWell) << run.err;
    const json document = read_json(directory_ / "w.json");
    EXPECT_GE(pages_by(document, "stripped_functions+0x"), kPages * 99 / 100) << document["functions"].dump(1);
    EXPECT_TRUE(document["functions"][0]["line"].is_null());
}

/// Makes perf_event_open(2) fail with EACCES in this process and in all that it starts.
bool forbid_perf_events() {
    std::array<sock_filter, 4> program{
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{program.size(), program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/// Where perf events are forbidden, one line says so, all else is measured, and the exit status tells.
TEST(WatchStacksRefusalTest, ForbiddenPerfEventsCostOnlyTheFunctions) {
    const tests::TemporaryDirectory directory;
    const ChildEnd end = tests::in_child([&] {
        if (!forbid_perf_events()) return 1;
        const CommandResult run = watch_program("--stacks --json '" + directory / "w.json" + "'", "functions");
        if (run.end != ChildEnd{77, 0}) return 2;
        if (run.err.find("page faults of process") == std::string::npos) return 3;
        if (run.err.find("Permission denied") == std::string::npos) return 4;
        return 0;
    });
    ASSERT_EQ(end, tests::kChildExitedWell);
    const json document = read_json(directory / "w.json");
    EXPECT_TRUE(document["functions"].is_null());
    EXPECT_FALSE(document["samples"].empty());
    EXPECT_NE(document["notes"].dump().find("Permission denied"), std::string::npos);
}

TEST(WatchStacksRefusalTest, CommandLineThatMakesNoSenseIsAUsageError) {
    const auto watch = [](std::vector<std::string> words) {
        words.insert(words.begin(), {VMCOW_COMMAND, "watch"});
        return tests::run_command(words);
    };
    const CommandResult period = watch({"--stack-period", "0", "1"});
    EXPECT_EQ(period.end, (ChildEnd{2, 0}));
    EXPECT_NE(period.err.find("'0' is less than 1"), std::string::npos) << period.err;
    EXPECT_EQ(watch({"--folded", "-", "--", "true"}).end, (ChildEnd{2, 0}));
    EXPECT_EQ(watch({"--folded", "/no/such/folder/f", "--", "true"}).end, (ChildEnd{1, 0}));
    EXPECT_EQ(watch({"--record", "/no/such/folder/f", "--", "true"}).end, (ChildEnd{1, 0}));
}

/// The record holds what has changed: a byte in each page that the child wrote to.
TEST(WatchRecordTest, RecordedWritesAreTheBytesThatChanged) {
    const tests::TemporaryDirectory directory;
    for (const std::string name : {"trace", "trace.csv"}) {
        const CommandResult run = watch_program("--record '" + directory / name + "'", "functions");
        ASSERT_EQ(run.end, tests::kChildExitedWell) << run.err;
        const meter::Trace trace = meter::read_trace(directory / name);
        std::uint64_t single = 0;
        for (const meter::TracedWrite& write : trace.writes()) {
            const std::uint64_t at = write.offset % kPageBytes;
            if (write.bytes == 1 && (at == 17 || at == 99 || at == 5)) ++single;
        }
        EXPECT_GE(single, kPages);
        EXPECT_LE(single, kPages + 8);
        // The replayed writes copy as many pages and change as many bytes.
        const CommandResult replay =
            tests::run_command({VMCOW_COMMAND, "measure", "--trace", directory / name, "--json"});
        ASSERT_EQ(replay.end, tests::kChildExitedWell) << replay.err;
        std::set<std::uint64_t> pages;
        std::uint64_t bytes = 0;
        for (const meter::TracedWrite& write : trace.writes()) {
            bytes += write.bytes;
            for (std::uint64_t at = write.offset / kPageBytes; at <= (write.offset + write.bytes - 1) / kPageBytes;
                 ++at) {
                pages.insert(at);
            }
        }
        EXPECT_EQ(json::parse(replay.out).at("copied_pages"), pages.size());
        EXPECT_EQ(json::parse(replay.out).at("changed_bytes"), bytes);
    }
    EXPECT_TRUE(read_text(directory / "trace.csv").starts_with("offset,length\n"));
}

TEST(ChangeRecordTest, RunsKeepTheirPlaceWithinTwoMebibytes) {
    std::array<std::byte, kPageBytes> before{};
    std::array<std::byte, kPageBytes> now{};
    now[3] = now[4] = now[9] = std::byte{1};
    meter::ChangeRecord record;
    record.add(5 * kHugeBytes + kPageBytes, now.data(), before.data());
    record.add(9 * kHugeBytes, now.data(), before.data());
    record.end(7, true, true);
    const meter::Trace trace = record.trace();
    const std::vector<meter::TracedWrite> expected{
        {kPageBytes + 3, 2}, {kPageBytes + 9, 1}, {kHugeBytes + 3, 2}, {kHugeBytes + 9, 1}};
    EXPECT_EQ(std::vector(trace.writes().begin(), trace.writes().end()), expected);
}

TEST(ChangeRecordTest, RunAcrossPagesIsOneWrite) {
    std::array<std::byte, kPageBytes> before{};
    std::array<std::byte, kPageBytes> now{};
    now.fill(std::byte{1});
    meter::ChangeRecord record;
    record.add(0, now.data(), before.data());
    record.add(kPageBytes, now.data(), before.data());
    record.end(7, true, true);
    ASSERT_EQ(record.trace().writes().size(), 1U);
    EXPECT_EQ(record.trace().writes()[0], (meter::TracedWrite{0, 2 * kPageBytes}));
}

TEST(ChangeRecordTest, LaterLookTakesThePlaceOfAnEarlierOneUnlessItIsCut) {
    std::array<std::byte, kPageBytes> before{};
    std::array<std::byte, kPageBytes> now{};
    now[0] = std::byte{1};
    meter::ChangeRecord record;
    const auto look = [&](pid_t pid, std::uint64_t pages, bool whole, bool with_relative = true) {
        record.begin();
        for (std::uint64_t i = 0; i < pages; ++i) record.add(i * kPageBytes, now.data(), before.data());
        record.end(pid, whole, with_relative);
    };
    EXPECT_TRUE(record.empty());
    look(7, 3, true);
    look(8, 1, false);  // without an earlier look, a look that was cut is kept
    EXPECT_EQ(record.trace().writes().size(), 4U);
    look(7, 2, false);
    look(7, 2, true, false);
    EXPECT_EQ(record.trace().writes().size(), 4U);
    look(7, 2, true);
    EXPECT_EQ(record.trace().writes().size(), 3U);
    look(7, 0, true);
    look(8, 0, true);
    EXPECT_TRUE(record.empty());
}

}  // namespace
