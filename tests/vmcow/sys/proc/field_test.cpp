// Tests reading fields, lines and words of files in /proc.
#include "vmcow/sys/proc/field.hpp"

#include <gtest/gtest.h>
#include <sys/sysinfo.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string_view>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"

namespace {

using vmcow::sys::proc_field;
using vmcow::sys::proc_number;
using vmcow::sys::read_proc_bytes;
using vmcow::sys::take_line;
using vmcow::sys::take_word;

TEST(ProcFieldTest, ValueIsThatOfTheSystemCall) {
    struct sysinfo info {};
    ASSERT_EQ(sysinfo(&info), 0);
    EXPECT_EQ(read_proc_bytes("/proc/meminfo", "MemTotal"), std::uint64_t{info.totalram} * info.mem_unit);
}

TEST(ProcFieldTest, NameIsMatchedWhole) {
    const tests::TemporaryDirectory folder;
    std::ofstream(folder / "status") << "VmPTEx:\t 1 kB\nNotVmPTE: 2 kB\nVmPTE:\t    72 kB\n";
    EXPECT_EQ(read_proc_bytes(folder / "status", "VmPTE"), 72U * 1024);
}

TEST(ProcFieldTest, MissingOrUnreadableFieldIsUnknown) {
    const tests::TemporaryDirectory folder;
    std::ofstream(folder / "status") << "VmPTE:\nVmLib: none\nVmExe: 99999999999999999999 kB\n";
    for (const char* name : {"VmPTE", "VmLib", "VmExe", "VmRSS", "NoSuchField"}) {
        EXPECT_EQ(read_proc_bytes(folder / "status", name), std::nullopt) << name;
    }
}

TEST(ProcFieldTest, FieldIsTheRestOfItsLine) {
    constexpr std::string_view kText = "Name:\tcat (a b)\nState:\tS (sleeping)\nEmpty:\nBlank:  \t\nLast: 1";
    EXPECT_EQ(proc_field(kText, "Name"), "cat (a b)");
    EXPECT_EQ(proc_field(kText, "State"), "S (sleeping)");
    EXPECT_EQ(proc_field(kText, "Empty"), "");
    EXPECT_EQ(proc_field(kText, "Blank"), "");
    EXPECT_EQ(proc_field(kText, "Last"), "1") << "without the end of a line";
    for (const char* name : {"Nam", "ame", "name", "", "Last: 1"})
        EXPECT_EQ(proc_field(kText, name), std::nullopt) << name;
    EXPECT_EQ(proc_field("", "Name"), std::nullopt);
}

TEST(ProcFieldTest, FirstLineOfThatNameCounts) {
    EXPECT_EQ(proc_number("a: 1\nb: 2\nb: 3\n", "b"), 2U);
    EXPECT_EQ(proc_number("x b: 9\nb: 2\n", "b"), 2U) << "not in the middle of a line";
}

TEST(ProcFieldTest, NumberIsReadInItsBase) {
    constexpr std::string_view kText = "pos:\t12\nflags:\t0100002\nmnt_id:\t-1\nunit: 18446744073709551615 kB\n";
    EXPECT_EQ(proc_number(kText, "pos"), 12U);
    EXPECT_EQ(proc_number(kText, "flags", 8), 0100002U);
    EXPECT_EQ(proc_number(kText, "unit"), UINT64_MAX);
    EXPECT_EQ(proc_number(kText, "mnt_id"), std::nullopt);
    EXPECT_EQ(proc_number(kText, "ino"), std::nullopt);
}

TEST(ProcFieldTest, LinesAndWordsComeOffTheFront) {
    std::string_view text = "  one two\n\nthree";
    std::string_view line = take_line(text);
    EXPECT_EQ(take_word(line), "one");
    EXPECT_EQ(take_word(line), "two");
    EXPECT_EQ(take_word(line), "");
    EXPECT_EQ(take_line(text), "");
    EXPECT_EQ(take_line(text), "three");
    EXPECT_EQ(take_line(text), "");
    EXPECT_TRUE(text.empty());
}

TEST(ProcFieldTest, MissingFileIsEnoent) {
    EXPECT_EQ(tests::error_of([] { static_cast<void>(read_proc_bytes("/proc/no-such-file", "VmPTE")); }), ENOENT);
}

TEST(ProcFieldTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit limit{0};
    EXPECT_EQ(tests::error_of([] { static_cast<void>(read_proc_bytes("/proc/self/status", "VmPTE")); }), EMFILE);
}

}  // namespace
