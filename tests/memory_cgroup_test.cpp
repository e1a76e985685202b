#include "procrun/memory_cgroup.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "procrun/function_process.hpp"
#include "procrun/process.hpp"
#include "tests/descriptor_limit.hpp"
#include "tests/support.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace {

using procrun::MemoryCgroup;
using procrun::Process;
using vmcow::sys::UniqueFd;

constexpr std::uint64_t kMiB = 1 << 20;

bool take_memory(std::size_t bytes) {
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    for (std::size_t at = 0; at < bytes; at += vmcow::kPageBytes) static_cast<volatile char*>(memory)[at] = 1;
    return true;
}

// ---- MemoryCgroup: its files, in an ordinary directory

void put(const std::string& path, std::string_view text) { std::ofstream(path) << text; }

/// A directory with the files of a cgroup.
class CgroupFiles {
public:
    CgroupFiles() {
        put(*this / "cgroup.procs", "");
        put(*this / "memory.max", "max\n");
        put(*this / "memory.swap.max", "max\n");
        put(*this / "memory.oom.group", "0\n");
        put(*this / "memory.current", "1048576\n");
        put(*this / "memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 2\n");
    }
    [[nodiscard]] std::string operator/(const std::string& name) const { return directory_ / name; }
    [[nodiscard]] std::string path() const { return directory_.path().string(); }
    [[nodiscard]] std::string text(const std::string& name) const { return vmcow::sys::read_text_file(*this / name); }

private:
    tests::TemporaryDirectory directory_;
};

std::string reason_of(const std::variant<MemoryCgroup, std::string>& made) {
    const auto* const reason = std::get_if<std::string>(&made);
    return reason == nullptr ? "" : *reason;
}

TEST(MemoryCgroupTest, LimitIsBeyondWhatIsInUse) {
    const CgroupFiles files;
    auto made = MemoryCgroup::adopt(files.path());
    ASSERT_EQ(reason_of(made), "");
    auto& cgroup = std::get<MemoryCgroup>(made);
    EXPECT_EQ(files.text("memory.oom.group"), "1");
    EXPECT_EQ(cgroup.limit(64 * kMiB), 0);
    EXPECT_EQ(files.text("memory.max"), std::to_string(65 * kMiB));
    EXPECT_EQ(files.text("memory.swap.max"), "0");
    EXPECT_EQ(cgroup.limit(UINT64_MAX), 0);
    EXPECT_EQ(files.text("memory.max"), "max") << "the sum would overflow";
    EXPECT_EQ(cgroup.limit(kMiB), 0);
    EXPECT_EQ(cgroup.limit(std::nullopt), 0);
    EXPECT_EQ(files.text("memory.max"), "max");
    EXPECT_EQ(files.text("memory.swap.max"), "max");
}

TEST(MemoryCgroupTest, FilesThatOlderKernelsLackAreNotMissed) {
    const CgroupFiles files;
    std::filesystem::remove(files / "memory.swap.max");
    std::filesystem::remove(files / "memory.oom.group");
    auto made = MemoryCgroup::adopt(files.path());
    ASSERT_EQ(reason_of(made), "");
    EXPECT_EQ(std::get<MemoryCgroup>(made).limit(kMiB), 0);
    EXPECT_FALSE(std::filesystem::exists(files / "memory.swap.max"));
}

TEST(MemoryCgroupTest, ProcessIsAddedByItsNumber) {
    const CgroupFiles files;
    auto made = MemoryCgroup::adopt(files.path());
    ASSERT_EQ(reason_of(made), "");
    EXPECT_EQ(std::get<MemoryCgroup>(made).add(4711), 0);
    EXPECT_EQ(files.text("cgroup.procs"), "4711");
}

TEST(MemoryCgroupTest, KillsAreCountedAndUnknownIsNotNone) {
    const CgroupFiles files;
    auto made = MemoryCgroup::adopt(files.path());
    ASSERT_EQ(reason_of(made), "");
    auto& cgroup = std::get<MemoryCgroup>(made);
    EXPECT_EQ(cgroup.oom_kills(), 3u);
    put(files / "memory.events", "low 0\nhigh 0\nmax 0\noom 0\n");
    EXPECT_EQ(cgroup.oom_kills(), std::nullopt);
    std::filesystem::remove(files / "memory.events");
    EXPECT_EQ(cgroup.oom_kills(), std::nullopt);
}

TEST(MemoryCgroupTest, RefusalsAreErrnos) {
    const CgroupFiles files;
    auto made = MemoryCgroup::adopt(files.path());
    ASSERT_EQ(reason_of(made), "");
    auto& cgroup = std::get<MemoryCgroup>(made);
    put(files / "memory.current", "much\n");
    EXPECT_EQ(cgroup.limit(kMiB), EIO);
    std::filesystem::remove(files / "memory.max");
    EXPECT_EQ(cgroup.limit(std::nullopt), ENOENT);
    const DescriptorLimit none(0);
    EXPECT_EQ(cgroup.add(1), EMFILE);
    EXPECT_EQ(cgroup.limit(kMiB), EMFILE);
    EXPECT_EQ(cgroup.oom_kills(), std::nullopt);
}

TEST(MemoryCgroupTest, EndRemovesTheDirectoryOnce) {
    const CgroupFiles files;
    auto made = MemoryCgroup::adopt(files.path());
    ASSERT_EQ(reason_of(made), "");
    {
        MemoryCgroup first = std::get<MemoryCgroup>(std::move(made));
        // A cgroup's files do not keep it from being removed; these would.
        for (const auto& entry : std::filesystem::directory_iterator(files.path())) {
            std::filesystem::remove(entry.path());
        }
        MemoryCgroup second = std::move(first);
        MemoryCgroup& same = second;
        second = std::move(same);
        EXPECT_EQ(second.directory(), files.path());
        EXPECT_TRUE(std::filesystem::exists(files.path()));
    }
    EXPECT_FALSE(std::filesystem::exists(files.path()));
}

TEST(MemoryCgroupTest, DirectoryThatIsNoCgroupIsRefusedWithTheReason) {
    const tests::TemporaryDirectory directory;
    const std::string path = directory.path().string();
    EXPECT_EQ(reason_of(MemoryCgroup::make(path)), "'" + path + "' is no cgroup v2 directory");
    EXPECT_EQ(reason_of(MemoryCgroup::make(directory / "none")),
              "open '" + (directory / "none") + "': No such file or directory");
    put(directory / "cgroup.controllers", "\n");
    EXPECT_EQ(reason_of(MemoryCgroup::make(path)), "cgroup '" + path + "' has no memory controller (it has: none)");
    put(directory / "cgroup.controllers", "cpu hugetlb memory2\n");
    EXPECT_EQ(reason_of(MemoryCgroup::make(path)),
              "cgroup '" + path + "' has no memory controller (it has: cpu hugetlb memory2)");
}

TEST(MemoryCgroupTest, ControllerIsEnabledBelowAndNothingIsLeftWhenTheCgroupIsOfNoUse) {
    const tests::TemporaryDirectory directory;
    put(directory / "cgroup.controllers", "cpuset cpu memory pids\n");
    put(directory / "cgroup.subtree_control", "cpu\n");
    const std::string reason = reason_of(MemoryCgroup::make(directory.path().string()));
    EXPECT_EQ(vmcow::sys::read_text_file(directory / "cgroup.subtree_control"), "+memory");
    // The directory that was made below is an ordinary one: it has no files of a cgroup.
    EXPECT_NE(reason.find("cgroup.procs': No such file or directory"), std::string::npos) << reason;
    std::size_t entries = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
        EXPECT_FALSE(entry.is_directory()) << entry.path();
        ++entries;
    }
    EXPECT_EQ(entries, 2u);
}

TEST(MemoryCgroupTest, ControllerThatIsEnabledIsNotEnabledAgain) {
    const tests::TemporaryDirectory directory;
    put(directory / "cgroup.controllers", "memory\n");
    put(directory / "cgroup.subtree_control", "cpu memory\n");
    static_cast<void>(MemoryCgroup::make(directory.path().string()));
    EXPECT_EQ(vmcow::sys::read_text_file(directory / "cgroup.subtree_control"), "cpu memory\n");
}

TEST(MemoryCgroupTest, OutOfDescriptorsIsAReason) {
    const CgroupFiles files;
    const DescriptorLimit none(0);
    EXPECT_NE(reason_of(MemoryCgroup::adopt(files.path())).find("Too many open files"), std::string::npos);
    EXPECT_NE(reason_of(MemoryCgroup::make()).find("Too many open files"), std::string::npos);
}

// ---- MemoryCgroup: finding the place

TEST(CgroupDirectoryTest, PathIsBelowTheMount) {
    const std::string mounts =
        "22 1 0:20 / / rw - ext4 /dev/vda rw\n"
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/user.slice/a b.scope\n", mounts),
              "/sys/fs/cgroup/user.slice/a b.scope");
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/\n", mounts), "/sys/fs/cgroup");
}

TEST(CgroupDirectoryTest, HybridLayoutTakesTheUnifiedHierarchy) {
    EXPECT_EQ(procrun::detail::cgroup_directory("4:memory:/box/7\n1:name=systemd:/init\n0::/box\n",
                                                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                                                "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"),
              "/sys/fs/cgroup/unified/box");
    EXPECT_EQ(procrun::detail::cgroup_directory("4:memory:/box/7\n", "41 31 0:38 / /c rw - cgroup2 cgroup2 rw\n"),
              std::nullopt);
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/box\n", "35 31 0:32 / /m rw - cgroup cgroup rw,memory\n"),
              std::nullopt);
}

TEST(CgroupDirectoryTest, MountOfAPartHasWhatIsBelowIt) {
    const std::string part = "41 31 0:38 /a/b /part rw - cgroup2 cgroup2 rw\n";
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/a/b/c", part), "/part/c");
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/a/b", part), "/part");
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/a/bc", part), std::nullopt);
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/a", part), std::nullopt);
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/a/b/c", part + "42 31 0:38 / /whole rw - cgroup2 none rw\n"),
              "/whole/a/b/c");
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/a",
                                                "42 31 0:38 / /low rw - cgroup2 none rw\n"
                                                "43 31 0:38 / /top rw - cgroup2 none rw\n"),
              "/top/a");
}

TEST(CgroupDirectoryTest, EscapedNamesAreRead) {
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/x", "41 31 0:38 / /my\\040dir\\134\\011n rw - cgroup2 none rw\n"),
              "/my dir\\\tn/x");
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/a b/x", "41 31 0:38 /a\\040b /m rw - cgroup2 none rw\n"), "/m/x");
}

TEST(CgroupDirectoryTest, ProcessOutsideItsNamespaceAndBrokenLinesHaveNone) {
    const std::string mounts = "41 31 0:38 / /m rw - cgroup2 none rw\n";
    EXPECT_EQ(procrun::detail::cgroup_directory("0::/../other", mounts), std::nullopt);
    EXPECT_EQ(procrun::detail::cgroup_directory("", mounts), std::nullopt);
    for (const char* const line : {"", "\n\n", "41 31 - cgroup2", "41 31 0:38 / /m rw -", "41 31 0:38 / /m rw"}) {
        EXPECT_EQ(procrun::detail::cgroup_directory("0::/x", line), std::nullopt) << line;
    }
}

// ---- MemoryCgroup: the real thing, where VMCOW_TEST_CGROUP names a delegated directory or our own cgroup will do

TEST(MemoryCgroupTest, KernelKillsAProcessThatTakesMore) {
    const char* const directory = std::getenv("VMCOW_TEST_CGROUP");
    auto made = MemoryCgroup::make(directory == nullptr ? "" : directory);
    if (!reason_of(made).empty()) GTEST_SKIP() << "a delegated cgroup v2 with memory is missing: " << reason_of(made);
    auto& cgroup = std::get<MemoryCgroup>(made);
    std::array<int, 2> go{};
    ASSERT_EQ(pipe2(go.data(), O_CLOEXEC), 0);
    const UniqueFd go_read(go[0]);
    UniqueFd go_write(go[1]);
    Process process = procrun::fork_function_process([&] {
        char command = 0;
        go_write.reset();
        if (read(go_read.get(), &command, 1) != 1 || !take_memory(4 * kMiB)) return 1;
        return take_memory(64 * kMiB) ? 0 : 1;
    });
    ASSERT_EQ(cgroup.add(process.pid()), 0);
    ASSERT_EQ(cgroup.limit(16 * kMiB), 0);
    EXPECT_EQ(cgroup.oom_kills(), 0u);
    ASSERT_EQ(write(go_write.get(), "x", 1), 1);
    EXPECT_EQ(process.wait().outcome.code, SIGKILL);
    EXPECT_EQ(cgroup.oom_kills(), 1u);
}

}  // namespace
