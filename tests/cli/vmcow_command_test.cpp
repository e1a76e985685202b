// The vmcow command: its help and usage errors, output that cannot be written, and vmcow doctor.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/forbidden_call.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using nlohmann::json;
using tests::ChildEnd;
using tests::CommandResult;

constexpr int kNotPrepared = 124;

CommandResult vmcow(std::vector<std::string> words, const tests::CommandInput& input = {}) {
    words.insert(words.begin(), VMCOW_COMMAND);
    return tests::run_command(words, input);
}

/// Runs the command with one word in a child, after `prepare` has changed that child. The end is kNotPrepared when
/// `prepare` returns false.
CommandResult vmcow_after(const std::function<bool()>& prepare, const char* word, const char* flag = nullptr) {
    const tests::TemporaryDirectory folder;
    const std::string out = folder / "out";
    const std::string err = folder / "err";
    const ChildEnd end = tests::in_child([&] {
        const auto send = [](int fd, const std::string& path) {
            return dup2(vmcow::sys::open_file(path, O_WRONLY | O_CREAT).get(), fd) == fd;
        };
        if (!send(STDOUT_FILENO, out) || !send(STDERR_FILENO, err) || !prepare()) return kNotPrepared;
        execl(VMCOW_COMMAND, VMCOW_COMMAND, word, flag, nullptr);
        return 127;
    });
    return {end, vmcow::sys::read_text_file(out), vmcow::sys::read_text_file(err)};
}

CommandResult vmcow_without(int call, int error, const char* word, const char* flag = nullptr) {
    return vmcow_after([&] { return tests::forbid_call(call, error); }, word, flag);
}

/// Expects one line on standard error that names `thing`, and nothing on standard output.
void expect_complaint(const CommandResult& run, int exit_status, const std::string& thing) {
    EXPECT_EQ(run.end, (ChildEnd{exit_status, 0}));
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    EXPECT_TRUE(run.err.ends_with('\n')) << run.err;
    EXPECT_TRUE(run.err.starts_with("vmcow")) << run.err;
    EXPECT_NE(run.err.find(thing), std::string::npos) << run.err;
}

json facility(const json& report, const std::string& name) {
    for (const json& each : report.at("facilities")) {
        if (each.at("name") == name) return each;
    }
    ADD_FAILURE() << "no facility " << name;
    return {};
}

TEST(VmcowCommandTest, AnUnknownFlagIsNamed) {
    expect_complaint(vmcow({"doctor", "--jsno"}), 2, "'--jsno'");
    expect_complaint(vmcow({"--jsno"}), 2, "'--jsno'");
}

TEST(VmcowCommandTest, AnUnknownCommandIsNamedBesideThoseThatThereAre) {
    expect_complaint(vmcow({"docter", "--json"}), 2, "'docter'; there are: doctor");
}

TEST(VmcowCommandTest, AMissingCommandIsAUsageError) {
    expect_complaint(vmcow({}), 2, "a command is missing; there are: doctor");
}

TEST(VmcowCommandTest, ALineBreakInAnArgumentDoesNotBreakTheLine) {
    expect_complaint(vmcow({"doc\ntor"}), 2, "'doc\\ntor'");
}

TEST(VmcowCommandTest, HelpGoesToStandardOutput) {
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"--help"}, std::vector<std::string>{"doctor", "--help"}}) {
        const CommandResult run = vmcow(words);
        EXPECT_EQ(run.end, (ChildEnd{0, 0}));
        EXPECT_EQ(run.err, "");
        EXPECT_NE(run.out.find("Usage: vmcow"), std::string::npos);
    }
}

TEST(VmcowCommandTest, AFullDiskOnOutputIsReported) {
    for (const char* word : {"doctor", "--help", "--version"}) {
        expect_complaint(vmcow({word}, {.text = "", .environment = {}, .out_path = "/dev/full"}), 1,
                         "standard output: No space left on device");
    }
}

TEST(VmcowCommandTest, AClosedStandardOutputIsReported) {
    expect_complaint(vmcow_after([] { return close(STDIN_FILENO) == 0 && close(STDOUT_FILENO) == 0; }, "doctor"), 1,
                     "standard output: Bad file descriptor");
}

TEST(VmcowCommandTest, DoctorPrintsJsonWithAllFields) {
    const CommandResult run = vmcow({"doctor", "--json"});
    ASSERT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    const json report = json::parse(run.out);
    EXPECT_EQ(report.at("user").at("id"), geteuid());
    EXPECT_TRUE(report.at("kernel").at("release").is_string());
    for (const json& each : report.at("facilities")) {
        for (const char* key : {"name", "state", "detail", "used_for", "without", "enable"}) {
            EXPECT_FALSE(each.at(key).get<std::string>().empty()) << key << " of " << each;
        }
        EXPECT_TRUE(each.at("required").is_boolean());
        EXPECT_TRUE(each.at("since").is_string() || each.at("since").is_null());
    }
}

TEST(VmcowCommandTest, DoctorsTableKeepsWithinAHundredColumns) {
    const CommandResult run = vmcow({"doctor", "--all"});
    ASSERT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    for (std::size_t at = 0; at < run.out.size();) {
        const std::size_t end = run.out.find('\n', at);
        ASSERT_NE(end, std::string::npos) << "the last line has no end";
        EXPECT_LE(end - at, 100) << run.out.substr(at, end - at);
        at = end + 1;
    }
}

TEST(VmcowCommandTest, DoctorExitsWith77WhereARequiredCallIsMissing) {
    const CommandResult run = vmcow_without(SYS_close_range, ENOSYS, "doctor");
    if (run.end.exit_status == kNotPrepared) GTEST_SKIP() << "seccomp filters are missing";
    EXPECT_EQ(run.end, (ChildEnd{77, 0}));
    EXPECT_NE(run.out.find("something required is missing"), std::string::npos) << run.out;
    EXPECT_NE(run.err.find("close_range"), std::string::npos) << run.err;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
}

TEST(VmcowCommandTest, DoctorTellsARefusedCallFromOneThatFailed) {
    const CommandResult refused = vmcow_without(SYS_io_uring_setup, EPERM, "doctor", "--json");
    if (refused.end.exit_status == kNotPrepared) GTEST_SKIP() << "seccomp filters are missing";
    EXPECT_EQ(refused.end, (ChildEnd{0, 0})) << refused.err;
    EXPECT_EQ(facility(json::parse(refused.out), "io_uring").at("state"), "absent");
    const CommandResult failed = vmcow_without(SYS_io_uring_setup, ENOMEM, "doctor", "--json");
    EXPECT_EQ(failed.end, (ChildEnd{0, 0})) << failed.err;
    const json unknown = facility(json::parse(failed.out), "io_uring");
    EXPECT_EQ(unknown.at("state"), "unknown");
    EXPECT_NE(unknown.at("detail").get<std::string>().find("Cannot allocate memory"), std::string::npos) << unknown;
}

TEST(VmcowCommandTest, DoctorCallsARequiredFacilityMissingOnlyWhereItIsRefused) {
    const CommandResult run = vmcow_without(SYS_clone3, EAGAIN, "doctor");
    if (run.end.exit_status == kNotPrepared) GTEST_SKIP() << "seccomp filters are missing";
    EXPECT_EQ(run.end, (ChildEnd{0, 0})) << run.err;
    EXPECT_NE(run.out.find("something required could not be found out"), std::string::npos) << run.out;
}

}  // namespace
