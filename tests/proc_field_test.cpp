#include "vmcow/sys/proc_field.hpp"

#include <gtest/gtest.h>
#include <sys/sysinfo.h>

#include <cerrno>
#include <fstream>

#include "tests/descriptor_limit.hpp"
#include "tests/support.hpp"

namespace {

using vmcow::sys::read_proc_bytes;

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

TEST(ProcFieldTest, MissingFileIsEnoent) {
    EXPECT_EQ(tests::error_of([] { static_cast<void>(read_proc_bytes("/proc/no-such-file", "VmPTE")); }), ENOENT);
}

TEST(ProcFieldTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit limit{0};
    EXPECT_EQ(tests::error_of([] { static_cast<void>(read_proc_bytes("/proc/self/status", "VmPTE")); }), EMFILE);
}

}  // namespace
