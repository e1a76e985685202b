// The parser of command lines: sizes, durations and counts, options and verbs, messages, and files for output.
#include "vmcow/cli/kit/command_line.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/cli/kit/output_file.hpp"
#include "vmcow/facilities/facility.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using namespace std::chrono_literals;
using tests::contains;
using vmcow::cli::human_bytes;
using vmcow::cli::human_count;
using vmcow::cli::human_seconds;
using vmcow::cli::OutputFile;
using vmcow::cli::parse_count;
using vmcow::cli::parse_duration;
using vmcow::cli::parse_size;

/// The message of the exception that `action` throws, or an empty text.
std::string message_of(const auto& action) {
    try {
        action();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "";
}

/// Runs a verb `go` that has every kind of option. Returns the exit status and the line on standard error.
struct Parsed {
    int status = -1;
    std::string err;
    std::uint64_t size = 0;
    std::uint64_t count = 0;
    std::optional<std::chrono::nanoseconds> time;
    int choice = 0;
};

Parsed parse(
    std::vector<const char*> words, const std::function<void()>& verb = [] {}) {
    Parsed parsed;
    CLI::App app("Test", "program");
    app.require_subcommand(1);
    CLI::App* go = app.add_subcommand("go", "Goes");
    vmcow::cli::add_size(*go, "--size", parsed.size, "A size");
    vmcow::cli::add_count(*go, "--count", parsed.count, "A count", 1);
    vmcow::cli::add_duration(*go, "--time", parsed.time, "A time");
    vmcow::cli::add_choice(*go, "--choice", parsed.choice, {{"one", 1}, {"two", 2}}, "A choice");
    go->callback(verb);
    words.insert(words.begin(), "program");
    testing::internal::CaptureStderr();
    parsed.status = vmcow::cli::run_main(app, static_cast<int>(words.size()), words.data());
    parsed.err = testing::internal::GetCapturedStderr();
    return parsed;
}

TEST(SizeTest, UnitsArePowersOf1024) {
    EXPECT_EQ(parse_size("4096"), 4096);
    EXPECT_EQ(parse_size("1B"), 1);
    EXPECT_EQ(parse_size("64k"), 65536);
    EXPECT_EQ(parse_size("256M"), 268435456);
    EXPECT_EQ(parse_size("1GiB"), 1073741824);
    EXPECT_EQ(parse_size("2TB"), 2199023255552);
    EXPECT_EQ(parse_size("15E"), 17293822569102704640u);
    EXPECT_EQ(parse_size("18446744073709551615"), std::numeric_limits<std::uint64_t>::max());
}

TEST(SizeTest, LeadingZerosAreDecimal) { EXPECT_EQ(parse_size("010K"), 10240); }

TEST(SizeTest, WhatIsNoSizeIsRefusedWithItsText) {
    for (const char* text :
         {"", "M", "-1", "+1", " 1", "1 ", "1 M", "abc", "1Q", "1m", "0x10", "1e3", "1.5G", "1..", "1MM"}) {
        const std::string message = message_of([&] { (void)parse_size(text); });
        EXPECT_TRUE(contains(message, "'" + std::string(text) + "' is not a size")) << text << ": " << message;
    }
}

TEST(SizeTest, ZeroAndWhatOverflowsAreRefused) {
    for (const char* text : {"0", "0G", "00"}) {
        EXPECT_TRUE(contains(message_of([&] { (void)parse_size(text); }), "is zero")) << text;
    }
    for (const char* text : {"16E", "18446744073709551616", "18014398509481984K", "99999999999999999999999G"}) {
        EXPECT_TRUE(contains(message_of([&] { (void)parse_size(text); }), "is too large")) << text;
    }
}

TEST(DurationTest, UnitsAreThoseOfTime) {
    EXPECT_EQ(parse_duration("7ns"), 7ns);
    EXPECT_EQ(parse_duration("7us"), 7us);
    EXPECT_EQ(parse_duration("500ms"), 500ms);
    EXPECT_EQ(parse_duration("30s"), 30s);
    EXPECT_EQ(parse_duration("2m"), 2min);
    EXPECT_EQ(parse_duration("1.5h"), 90min);
    EXPECT_EQ(parse_duration("1d"), 24h);
    EXPECT_EQ(parse_duration("0.1s"), 100ms);
}

TEST(DurationTest, WhatIsNoDurationIsRefusedWithItsText) {
    for (const char* text : {"", "s", "-1s", "1.2.3s", "1y", "1e3s", "1 s", "inf", "nan", "1S"}) {
        const std::string message = message_of([&] { (void)parse_duration(text); });
        EXPECT_TRUE(contains(message, "'" + std::string(text) + "' is not a time")) << text << ": " << message;
    }
    EXPECT_TRUE(contains(message_of([] { (void)parse_duration("30"); }), "'30' has no unit"));
    EXPECT_TRUE(contains(message_of([] { (void)parse_duration("0s"); }), "is zero"));
    EXPECT_TRUE(contains(message_of([] { (void)parse_duration("0.1ns"); }), "is zero"));
}

TEST(DurationTest, WhatOverflowsIsRefused) {
    EXPECT_EQ(parse_duration("9223372036s"), 9223372036s);
    for (const char* text : {"9223372037s", "106752d", "99999999999999999999h"}) {
        EXPECT_TRUE(contains(message_of([&] { (void)parse_duration(text); }), "is too long")) << text;
    }
}

TEST(CountTest, OnlyWholeNumbersFromTheMinimumOnPass) {
    EXPECT_EQ(parse_count("0"), 0);
    EXPECT_EQ(parse_count("18446744073709551615"), std::numeric_limits<std::uint64_t>::max());
    EXPECT_TRUE(contains(message_of([] { (void)parse_count("0", 1); }), "'0' is less than 1"));
    EXPECT_TRUE(contains(message_of([] { (void)parse_count("18446744073709551616"); }), "too large"));
    for (const char* text : {"", "-1", "1.0", "1k", "x"}) {
        EXPECT_TRUE(contains(message_of([&] { (void)parse_count(text); }), "is not a whole number")) << text;
    }
}

TEST(CommandLineTest, OptionsReachTheirTargets) {
    const Parsed parsed = parse({"go", "--size", "1M", "--count", "3", "--time=2s", "--choice", "two"});
    EXPECT_EQ(parsed.status, 0) << parsed.err;
    EXPECT_EQ(parsed.err, "");
    EXPECT_EQ(parsed.size, 1048576);
    EXPECT_EQ(parsed.count, 3);
    EXPECT_EQ(parsed.time, 2s);
    EXPECT_EQ(parsed.choice, 2);
}

TEST(CommandLineTest, AWrongValueIsOneLineWithItsFlag) {
    const auto expect_line = [](std::vector<const char*> words, const std::string& line) {
        const Parsed parsed = parse(std::move(words));
        EXPECT_EQ(parsed.status, 2);
        EXPECT_EQ(parsed.err, line + "\n");
    };
    expect_line({"go", "--size", "0"}, "program go: --size: '0' is zero; a size is at least one byte");
    expect_line({"go", "--size", "-5"}, "program go: --size: '-5' is not a size; write 4096, 64K, 256M or 1G");
    expect_line({"go", "--count", "0"}, "program go: --count: '0' is less than 1");
    expect_line({"go", "--choice", "three"}, "program go: --choice: 'three' is none of one|two");
    expect_line({"go", "--size"}, "program go: --size: a value is missing");
    expect_line({"go", "--size", "--count"},
                "program go: --size: '--count' is not a size; write 4096, 64K, 256M or 1G");
    expect_line({"go", "--size", "1", "--size", "2"}, "program go: --size: given more than once");
}

TEST(CommandLineTest, WhatCannotBePlacedIsNamed) {
    EXPECT_EQ(parse({"go", "--siez", "1"}).err, "program go: unknown flag '--siez'; see 'program go --help'\n");
    EXPECT_EQ(parse({"go", "there"}).err, "program go: unexpected argument 'there'; see 'program go --help'\n");
    EXPECT_EQ(parse({"gone"}).err, "program: unknown command 'gone'; there are: go\n");
    EXPECT_EQ(parse({}).err, "program: a command is missing; there are: go\n");
}

TEST(CommandLineTest, WhatAVerbThrowsIsOneLineAndAStatus) {
    const auto expect_end = [](const std::function<void()>& verb, int status, const std::string& line) {
        const Parsed parsed = parse({"go"}, verb);
        EXPECT_EQ(parsed.status, status);
        EXPECT_EQ(parsed.err, line);
    };
    expect_end([] { throw vmcow::cli::Failure("two\nlines"); }, 1, "program go: two\\nlines\n");
    expect_end([] { throw vmcow::cli::Failure("no", vmcow::cli::ExitCode::usage); }, 2, "program go: no\n");
    expect_end([] { vmcow::sys::throw_error(ENOENT, "open 'x'"); }, 1,
               "program go: open 'x': No such file or directory\n");
    expect_end([] { throw std::bad_alloc(); }, 1, "program go: out of memory\n");
    expect_end([] { throw CLI::RuntimeError(143); }, 143, "");
}

TEST(CommandLineTest, OnlyAnAbsentRequiredFacilityIsExit77) {
    const auto status_with = [](vmcow::FacilityState state, bool required) {
        vmcow::Facility facility{.name = "thing", .group = "kernel", .state = state, .detail = "gone"};
        facility.required = required;
        return parse({"go"}, [&] { vmcow::cli::require_from({facility}); });
    };
    const Parsed missing = status_with(vmcow::FacilityState::absent, true);
    EXPECT_EQ(missing.status, 77);
    EXPECT_EQ(missing.err, "program go: this kernel lacks thing (gone)\n");
    EXPECT_EQ(status_with(vmcow::FacilityState::absent, false).status, 0);
    EXPECT_EQ(status_with(vmcow::FacilityState::unknown, true).status, 0);
}

TEST(HumanTest, BytesKeepTheirUnitAcrossRounding) {
    EXPECT_EQ(human_bytes(0), "0 B");
    EXPECT_EQ(human_bytes(1023), "1023 B");
    EXPECT_EQ(human_bytes(1024), "1.0 KiB");
    EXPECT_EQ(human_bytes(1288490189), "1.2 GiB");
    EXPECT_EQ(human_bytes(1048575), "1.0 MiB");
    EXPECT_EQ(human_bytes(std::numeric_limits<std::uint64_t>::max()), "16.0 EiB");
}

TEST(HumanTest, SecondsTakeTheUnitThatSuits) {
    EXPECT_EQ(human_seconds(0), "0 s");
    EXPECT_EQ(human_seconds(850e-9), "850 ns");
    EXPECT_EQ(human_seconds(999.7e-9), "1.0 µs");
    EXPECT_EQ(human_seconds(0.0034), "3.4 ms");
    EXPECT_EQ(human_seconds(0.99996), "1.0 s");
    EXPECT_EQ(human_seconds(59.94), "59.9 s");
    EXPECT_EQ(human_seconds(59.96), "1 min 00 s");
    EXPECT_EQ(human_seconds(125), "2 min 05 s");
    EXPECT_EQ(human_seconds(3720), "1 h 02 min");
    EXPECT_EQ(human_seconds(-0.0034), "-3.4 ms");
    EXPECT_EQ(human_seconds(std::numeric_limits<double>::quiet_NaN()), "?");
}

TEST(HumanTest, CountsAreGroupedByThree) {
    EXPECT_EQ(human_count(0), "0");
    EXPECT_EQ(human_count(999), "999");
    EXPECT_EQ(human_count(65530), "65,530");
    EXPECT_EQ(human_count(1234567), "1,234,567");
}

class OutputFileTest : public testing::Test {
protected:
    [[nodiscard]] std::string path(const std::string& name) const { return folder_ / name; }
    void put(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }
    [[nodiscard]] std::string get(const std::string& name) const { return vmcow::sys::read_text_file(path(name)); }
    [[nodiscard]] std::ptrdiff_t files() const {
        const std::filesystem::directory_iterator entries(folder_.path());
        return std::distance(begin(entries), end(entries));
    }

private:
    tests::TemporaryDirectory folder_;
};

TEST_F(OutputFileTest, AFileIsWrittenWholeAndAlone) {
    OutputFile file(path("out"));
    EXPECT_EQ(files(), 0) << "nothing is there before it is written";
    file.write("text\n");
    EXPECT_EQ(get("out"), "text\n");
    EXPECT_EQ(files(), 1);
}

TEST_F(OutputFileTest, AnOldFileIsReplacedAndKeepsItsPermissions) {
    put("out", "old and longer\n");
    ASSERT_EQ(chmod(path("out").c_str(), 0640), 0);
    OutputFile(path("out")).write("new\n");
    EXPECT_EQ(get("out"), "new\n");
    struct stat status {};
    ASSERT_EQ(stat(path("out").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0640);
    EXPECT_EQ(files(), 1);
}

TEST_F(OutputFileTest, ASymbolicLinkStaysAndItsTargetIsReplaced) {
    put("target", "old\n");
    std::filesystem::create_symlink("target", path("link"));
    std::filesystem::create_symlink("later", path("dangling"));
    OutputFile(path("link")).write("new\n");
    OutputFile(path("dangling")).write("made\n");
    EXPECT_TRUE(std::filesystem::is_symlink(path("link")));
    EXPECT_TRUE(std::filesystem::is_symlink(path("dangling")));
    EXPECT_EQ(get("target"), "new\n");
    EXPECT_EQ(get("later"), "made\n");
}

TEST_F(OutputFileTest, ALoopOfLinksIsAnError) {
    std::filesystem::create_symlink("b", path("a"));
    std::filesystem::create_symlink("a", path("b"));
    EXPECT_TRUE(contains(message_of([&] { OutputFile{path("a")}; }), "Too many levels of symbolic links"));
}

TEST_F(OutputFileTest, ANameAsLongAsANameCanBeIsWritten) {
    const std::string name(255, 'n');
    OutputFile(path(name)).write("text\n");
    EXPECT_EQ(get(name), "text\n");
}

// A run of an hour must not end in an error that could have been told at its start.
TEST_F(OutputFileTest, WhatCannotBeWrittenIsSaidBeforeTheWork) {
    const std::string missing = path("no/such/folder/out");
    EXPECT_EQ(message_of([&] { OutputFile{missing}; }), "write '" + missing + "': No such file or directory");
    EXPECT_TRUE(contains(message_of([&] { OutputFile{path("")}; }), "Is a directory"));
    // Not even root can make files in sysfs.
    EXPECT_TRUE(contains(message_of([] { OutputFile{"/sys/kernel/out"}; }), "write '/sys/kernel/out': "));
    EXPECT_EQ(message_of([] { OutputFile{""}; }), "write '': No such file or directory");
}

TEST_F(OutputFileTest, AReadOnlyFileIsNotReplaced) {
    if (geteuid() != 0) {
        put("out", "old\n");
        ASSERT_EQ(chmod(path("out").c_str(), 0444), 0);
        EXPECT_TRUE(contains(message_of([&] { OutputFile{path("out")}; }), "Permission denied"));
        EXPECT_EQ(get("out"), "old\n");
    } else {
        // Root ignores permission bits, but /proc/version has no write operation.
        EXPECT_NE(message_of([] { OutputFile("/proc/version").write("x"); }), "");
    }
}

TEST_F(OutputFileTest, AFullDeviceIsAnErrorWithItsName) {
    OutputFile full("/dev/full");
    EXPECT_EQ(message_of([&] { full.write("text"); }), "write '/dev/full': No space left on device");
}

TEST_F(OutputFileTest, AFailedWriteLeavesTheOldFileWholeAndNothingBeside) {
    put("out", "old\n");
    OutputFile file(path("out"));
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const std::string message = [&] {
        const tests::ScopedLimit limit(RLIMIT_FSIZE, 100);
        return message_of([&] { file.write(std::string(1000, 'x')); });
    }();
    (void)std::signal(SIGXFSZ, handler);
    EXPECT_EQ(message, "write '" + path("out") + "': File too large");
    EXPECT_EQ(get("out"), "old\n");
    EXPECT_EQ(files(), 1);
}

}  // namespace
