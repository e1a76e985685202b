// Tests finding the cgroup of a process and the memory limit that it meets first.
#include "vmcow/sys/proc/cgroup.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"

namespace {

using vmcow::sys::cgroup_directory;
using vmcow::sys::cgroup_memory;
using vmcow::sys::CgroupMemory;
using vmcow::sys::has_cgroup2_mount;
using vmcow::sys::has_controller;

TEST(CgroupDirectoryTest, PathIsBelowTheMount) {
    const std::string mounts =
        "22 1 0:20 / / rw - ext4 /dev/vda rw\n"
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";
    EXPECT_EQ(cgroup_directory("0::/user.slice/a b.scope\n", mounts), "/sys/fs/cgroup/user.slice/a b.scope");
    EXPECT_EQ(cgroup_directory("0::/\n", mounts), "/sys/fs/cgroup");
}

TEST(CgroupDirectoryTest, HybridLayoutTakesTheUnifiedHierarchy) {
    EXPECT_EQ(cgroup_directory("4:memory:/box/7\n1:name=systemd:/init\n0::/box\n",
                               "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                               "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"),
              "/sys/fs/cgroup/unified/box");
    EXPECT_EQ(cgroup_directory("4:memory:/box/7\n", "41 31 0:38 / /c rw - cgroup2 cgroup2 rw\n"), std::nullopt);
    EXPECT_EQ(cgroup_directory("0::/box\n", "35 31 0:32 / /m rw - cgroup cgroup rw,memory\n"), std::nullopt);
}

TEST(CgroupDirectoryTest, MountOfAPartHasWhatIsBelowIt) {
    const std::string part = "41 31 0:38 /a/b /part rw - cgroup2 cgroup2 rw\n";
    EXPECT_EQ(cgroup_directory("0::/a/b/c", part), "/part/c");
    EXPECT_EQ(cgroup_directory("0::/a/b", part), "/part");
    EXPECT_EQ(cgroup_directory("0::/a/bc", part), std::nullopt);
    EXPECT_EQ(cgroup_directory("0::/a", part), std::nullopt);
    EXPECT_EQ(cgroup_directory("0::/a/b/c", part + "42 31 0:38 / /whole rw - cgroup2 none rw\n"), "/whole/a/b/c");
    EXPECT_EQ(cgroup_directory("0::/a",
                               "42 31 0:38 / /low rw - cgroup2 none rw\n"
                               "43 31 0:38 / /top rw - cgroup2 none rw\n"),
              "/top/a");
}

TEST(CgroupDirectoryTest, EscapedNamesAreRead) {
    EXPECT_EQ(cgroup_directory("0::/x", "41 31 0:38 / /my\\040dir\\134\\011n rw - cgroup2 none rw\n"),
              "/my dir\\\tn/x");
    EXPECT_EQ(cgroup_directory("0::/a b/x", "41 31 0:38 /a\\040b /m rw - cgroup2 none rw\n"), "/m/x");
}

TEST(CgroupDirectoryTest, ProcessOutsideItsNamespaceAndBrokenLinesHaveNone) {
    const std::string mounts = "41 31 0:38 / /m rw - cgroup2 none rw\n";
    EXPECT_EQ(cgroup_directory("0::/../other", mounts), std::nullopt);
    EXPECT_EQ(cgroup_directory("", mounts), std::nullopt);
    for (const char* const line : {"", "\n\n", "41 31 - cgroup2", "41 31 0:38 / /m rw -", "41 31 0:38 / /m rw"}) {
        EXPECT_EQ(cgroup_directory("0::/x", line), std::nullopt) << line;
    }
}

// ---- fields of a text

TEST(CgroupTextTest, MountOfTheUnifiedHierarchyIsFoundAmongOthers) {
    const std::string first = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    EXPECT_FALSE(has_cgroup2_mount(""));
    EXPECT_FALSE(has_cgroup2_mount(first));
    EXPECT_FALSE(has_cgroup2_mount(first + "41 31 0:38 / /cgroup2 rw - ext4 cgroup2 rw\n"));
    EXPECT_TRUE(has_cgroup2_mount(first + "41 31 0:38 /part /c rw shared:4 master:1 - cgroup2 none rw"));
}

TEST(CgroupTextTest, ControllerIsAWholeWord) {
    EXPECT_TRUE(has_controller("cpu io memory pids\n", "memory"));
    EXPECT_TRUE(has_controller("memory", "memory"));
    EXPECT_FALSE(has_controller("cpu io\nmemory\n", "memory"));
    EXPECT_FALSE(has_controller("memory2 hugememory\n", "memory"));
    EXPECT_FALSE(has_controller("\n", "memory"));
    EXPECT_FALSE(has_controller("", "memory"));
}

// ---- the limit that is met first, in folders that stand in for cgroup hierarchies

class CgroupMemoryTest : public testing::Test {
protected:
    void put(const std::string& file, const std::string& text) const {
        const std::filesystem::path path = folder_.path() / file;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path) << text;
    }
    void put_version_2(const std::string& group, const std::string& limit, const std::string& used) const {
        put("v2/" + group + "/memory.max", limit);
        put("v2/" + group + "/memory.current", used);
    }
    void put_version_1(const std::string& group, const std::string& limit, const std::string& used) const {
        put("v1/" + group + "/memory.limit_in_bytes", limit);
        put("v1/" + group + "/memory.usage_in_bytes", used);
    }
    [[nodiscard]] std::optional<CgroupMemory> memory_of(const std::string& cgroup) const {
        return cgroup_memory(cgroup, "41 31 0:38 / " + (folder_ / "v2") + " rw - cgroup2 none rw\n42 31 0:39 / " +
                                         (folder_ / "v1") + " rw - cgroup cgroup rw,cpu,memory\n");
    }

    const tests::TemporaryDirectory folder_;
};

TEST_F(CgroupMemoryTest, GroupWithTheLeastLeftIsMetFirst) {
    put_version_2("a/b", "max\n", "50\n");
    put_version_2("a", "1000\n", "600\n");
    put_version_2("", "5000\n", "4500\n");
    const auto memory = memory_of("0::/a/b\n");
    ASSERT_TRUE(memory.has_value());
    EXPECT_EQ(memory->group, "/a");
    EXPECT_EQ(memory->limit_bytes, 1000U);
    EXPECT_EQ(memory->used_bytes, 600U);
    EXPECT_EQ(memory_of("0::/\n").value().group, "/");
    EXPECT_EQ(memory_of("0::/elsewhere\n").value().limit_bytes, 5000U);
}

TEST_F(CgroupMemoryTest, GroupThatIsOverItsLimitHasNothingLeft) {
    put_version_2("a", "1000\n", "1500\n");
    put_version_2("", "5000\n", "4999\n");
    EXPECT_EQ(memory_of("0::/a\n").value().group, "/a");
}

TEST_F(CgroupMemoryTest, HierarchyOfVersion1Counts) {
    put_version_1("box", "2000\n", "100\n");
    put_version_1("", "9223372036854771712\n", "100\n");  // how version 1 writes no limit: LONG_MAX in whole pages
    const auto memory = memory_of("9:name=systemd:/init\n4:cpu,memory:/box\n0::/\n");
    ASSERT_TRUE(memory.has_value());
    EXPECT_EQ(memory->group, "/box");
    EXPECT_EQ(memory->limit_bytes, 2000U);
    EXPECT_EQ(memory_of("4:cpu,memory:/\n"), std::nullopt) << "the root alone";
}

TEST_F(CgroupMemoryTest, NothingIsKnownWithoutLimitsOrOutsideOfTheMounts) {
    EXPECT_EQ(memory_of("0::/a\n"), std::nullopt);
    put_version_2("a", "max\n", "600\n");
    EXPECT_EQ(memory_of("0::/a\n"), std::nullopt);
    put_version_2("a", "1000\n", "none\n");
    EXPECT_EQ(memory_of("0::/a\n"), std::nullopt);
    put_version_2("", "1000\n", "1\n");
    EXPECT_EQ(memory_of("0::/../other\n"), std::nullopt) << "of another namespace";
    EXPECT_EQ(memory_of("nonsense\n:\n\n0:\n"), std::nullopt);
    EXPECT_EQ(cgroup_memory("0::/a\n", ""), std::nullopt);
}

TEST_F(CgroupMemoryTest, PathWithoutASlashHasNone) { EXPECT_EQ(memory_of("0::a\n"), std::nullopt); }

TEST(CgroupMemoryOfProcessTest, ProcessThatIsNotThereOrCannotBeReadHasNone) {
    EXPECT_EQ(cgroup_memory(-1), std::nullopt);
    const DescriptorLimit none(0);
    EXPECT_EQ(cgroup_memory(::getpid()), std::nullopt);
}

}  // namespace
