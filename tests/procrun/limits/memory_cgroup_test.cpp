// MemoryCgroup: the files that it writes, tried in an ordinary directory, and a real cgroup where one is delegated.
#include "procrun/limits/memory_cgroup.hpp"

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

#include "procrun/process.hpp"
#include "procrun/process/function_process.hpp"
#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
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

// A cgroup is a directory that can be removed; on an ordinary file system only an empty one can.
TEST(MemoryCgroupTest, CopyInAForkedProcessLeavesItThere) {
    const tests::TemporaryDirectory outer;
    const std::string path = outer / "cgroup";
    const auto empty = [&] {
        for (const auto& file : std::filesystem::directory_iterator(path)) std::filesystem::remove(file);
    };
    std::filesystem::create_directory(path);
    for (const char* const name : {"cgroup.procs", "memory.max", "memory.current", "memory.events"}) {
        put(path + "/" + name, "0\n");
    }
    std::optional<std::variant<MemoryCgroup, std::string>> made(MemoryCgroup::adopt(path));
    ASSERT_EQ(reason_of(*made), "");
    empty();
    EXPECT_EQ(tests::in_child([&] {
                  made.reset();
                  return 0;
              }),
              tests::kChildExitedWell);
    EXPECT_TRUE(std::filesystem::exists(path));
    made.reset();
    EXPECT_FALSE(std::filesystem::exists(path));
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
        // A cgroup's own files do not keep it from being removed, but ordinary files in a directory would.
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
    // MemoryCgroup made an ordinary directory here, which lacks the files of a cgroup.
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
