// Tests reading the mappings of a process, and whether it has a file mapped writable.
#include "vmcow/sys/proc/maps.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/process/idle_child.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::sys;
using tests::ChildEnd;
using tests::error_of;
using tests::IdleChild;
using tests::in_child;
using tests::kChildExitedWell;
using tests::reaped_process;

/// A memfd of four pages, and a mapping of it that is removed with this object.
class Image {
public:
    explicit Image(const std::string& name = "image") : fd_(create_memfd(name)), inode_(inode_of(fd_.get())) {
        resize_memfd(fd_.get(), kBytes, name);
    }
    Image(const Image&) = delete;
    Image& operator=(const Image&) = delete;
    ~Image() { unmap(); }

    [[nodiscard]] std::uint64_t inode() const { return inode_; }
    [[nodiscard]] std::byte* at() const { return at_; }

    Image& map(int protection, int sharing, std::size_t first_page = 0) {
        unmap();
        bytes_ = kBytes - first_page * kPageBytes;
        void* const at = ::mmap(nullptr, bytes_, protection, sharing, fd_.get(), static_cast<off_t>(kBytes - bytes_));
        if (at == MAP_FAILED) throw_errno("mmap");
        at_ = static_cast<std::byte*>(at);
        return *this;
    }
    void unmap() {
        if (at_ != nullptr) ::munmap(at_, bytes_);
        at_ = nullptr;
    }

    static constexpr std::size_t kBytes = 4 * kPageBytes;

private:
    UniqueFd fd_;
    std::uint64_t inode_;
    std::byte* at_ = nullptr;
    std::size_t bytes_ = 0;
};

bool is_writable(pid_t pid, std::uint64_t inode) { return maps_writable(pid, {&inode, 1}); }

constexpr int kReadWrite = PROT_READ | PROT_WRITE;

// ---- a line

TEST(ProcessMappingTest, LineIsReadWhole) {
    const auto mapping = parse_process_mapping(
        "7f2c14a00000-7f2c14c22000 r-xp 00026000 fd:01 1835623                    /usr/lib/a b.so");
    ASSERT_TRUE(mapping.has_value());
    const ProcessMapping expected{.start = 0x7f2c14a00000,
                                  .end = 0x7f2c14c22000,
                                  .offset = 0x26000,
                                  .inode = 1835623,
                                  .shared = false,
                                  .writable = false,
                                  .executable = true,
                                  .name = "/usr/lib/a b.so"};
    EXPECT_EQ(*mapping, expected);
    EXPECT_EQ(mapping->bytes(), 0x222000U);
    EXPECT_TRUE(mapping->private_file());
}

TEST(ProcessMappingTest, MemoryWithoutAFileHasNoInodeAndMayHaveNoName) {
    const auto nameless = parse_process_mapping("00400000-00401000 rw-p 00000000 00:00 0 ");
    ASSERT_TRUE(nameless.has_value());
    EXPECT_EQ(nameless->name, "");
    EXPECT_TRUE(nameless->writable);
    EXPECT_FALSE(nameless->private_file());
    EXPECT_EQ(parse_process_mapping("00400000-00401000 rw-p 00000000 00:00 0").value().inode, 0U);
    EXPECT_EQ(parse_process_mapping("7ffd0000-7ffe0000 rw-p 00000000 00:00 0      [stack]").value().name, "[stack]");
}

TEST(ProcessMappingTest, SharedMemfdIsShared) {
    const auto mapping =
        parse_process_mapping("7f00-8f00 rw-s 00000000 00:01 18446744073709551615 /memfd:vmcow:a (deleted)");
    ASSERT_TRUE(mapping.has_value());
    EXPECT_TRUE(mapping->shared && mapping->writable && !mapping->executable);
    EXPECT_EQ(mapping->inode, UINT64_MAX);
    EXPECT_EQ(mapping->name, "/memfd:vmcow:a (deleted)");
}

TEST(ProcessMappingTest, LastAddressesAreRead) {
    const auto mapping = parse_process_mapping("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]");
    ASSERT_TRUE(mapping.has_value());
    EXPECT_EQ(mapping->end, 0xffffffffff601000U);
}

TEST(ProcessMappingTest, WhatIsNoLineIsNothing) {
    for (const char* const line : {"",
                                   " ",
                                   "-",
                                   "7f00",
                                   "7f00 8f00 rw-s 0 00:01 1",
                                   "7f00-8f00",
                                   "7f00-8f00 rw-s",
                                   "7f00-8f00 rw-s 0",
                                   "7f00-8f00 rw-s 0 00:01",
                                   "7f00-8f00 rw-s 0 00:01 x",
                                   "7f00-8f00 rw-s 0 00:01 1x",
                                   "7f00-8f00 rws 0 00:01 1",
                                   "7f00-8f00 rw-sp 0 00:01 1",
                                   "7g00-8f00 rw-s 0 00:01 1",
                                   "7f00-8f0g rw-s 0 00:01 1",
                                   "7f00-8f00 rw-s 0x 00:01 1",
                                   "8f00-7f00 rw-s 0 00:01 1",
                                   "7f00-7f00 rw-s 0 00:01 1",
                                   "7f00-18f00000000000000 rw-s 0 00:01 1",
                                   "7f00-8f00 rw-s 0 00:01 18446744073709551616",
                                   "Rss:                   4 kB",
                                   "VmFlags: rd wr sh mr"}) {
        EXPECT_EQ(parse_process_mapping(line), std::nullopt) << '"' << line << '"';
    }
}

// ---- all of a process

TEST(ProcessMapsTest, MappingOfOursIsAmongThem) {
    Image image;
    image.map(kReadWrite, MAP_SHARED, 1);
    const std::vector<ProcessMapping> mappings = read_process_maps(::getpid());
    const auto start = reinterpret_cast<std::uintptr_t>(image.at());
    const auto found =
        std::find_if(mappings.begin(), mappings.end(), [&](const ProcessMapping& each) { return each.start == start; });
    ASSERT_NE(found, mappings.end());
    const ProcessMapping expected{.start = start,
                                  .end = start + Image::kBytes - kPageBytes,
                                  .offset = kPageBytes,
                                  .inode = image.inode(),
                                  .shared = true,
                                  .writable = true,
                                  .executable = false,
                                  .name = "/memfd:vmcow:image (deleted)"};
    EXPECT_EQ(*found, expected);
}

TEST(ProcessMapsTest, TheyAscendAndStayBelowTheKernel) {
    const std::vector<ProcessMapping> mappings = read_process_maps(::getpid());
    ASSERT_GT(mappings.size(), 10U);
    for (std::size_t i = 1; i < mappings.size(); ++i) EXPECT_GE(mappings[i].start, mappings[i - 1].end);
    EXPECT_LT(mappings.back().end, std::uint64_t{1} << 63);
}

TEST(ProcessMapsTest, ZombieHasNoneAndAReapedProcessIsEnoent) {
    IdleChild child;
    EXPECT_FALSE(read_process_maps(child.pid()).empty());
    child.kill();
    // For a process without memory, kernels give either an empty file or ESRCH.
    EXPECT_TRUE(error_of([&] { EXPECT_TRUE(read_process_maps(child.pid()).empty()); }) == 0 ||
                error_of([&] { static_cast<void>(read_process_maps(child.pid())); }) == ESRCH);
    const pid_t gone = child.reap();
    EXPECT_EQ(error_of([&] { static_cast<void>(read_process_maps(gone)); }), ENOENT);
}

TEST(ProcessMapsTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([] { static_cast<void>(read_process_maps(::getpid())); }), EMFILE);
}

TEST(ProcessMapsTest, ProcessOfAnotherUserIsEacces) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
    const ChildEnd end = in_child([parent = ::getpid()] {
        if (::setresuid(65534, 65534, 65534) != 0) return tests::kNotHere;
        return error_of([&] { static_cast<void>(read_process_maps(parent)); });
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, (ChildEnd{EACCES, 0}));
}

// ---- whether a memfd is mapped writable: the caller of a moved value relies on the answer false (I3)

TEST(MapsWritableTest, OnlySharedAndWritableCounts) {
    Image image;
    EXPECT_FALSE(is_writable(::getpid(), image.inode())) << "not mapped";
    EXPECT_TRUE(is_writable(::getpid(), image.map(kReadWrite, MAP_SHARED).inode()));
    EXPECT_TRUE(is_writable(::getpid(), image.map(PROT_WRITE, MAP_SHARED).inode()));
    EXPECT_FALSE(is_writable(::getpid(), image.map(PROT_READ, MAP_SHARED).inode()));
    EXPECT_FALSE(is_writable(::getpid(), image.map(PROT_NONE, MAP_SHARED).inode()));
    EXPECT_FALSE(is_writable(::getpid(), image.map(kReadWrite, MAP_PRIVATE).inode()));
}

TEST(MapsWritableTest, ItIsAskedAnewEachTime) {
    Image image;
    EXPECT_TRUE(is_writable(::getpid(), image.map(kReadWrite, MAP_SHARED).inode()));
    ASSERT_EQ(::mprotect(image.at(), Image::kBytes, PROT_READ), 0);
    EXPECT_FALSE(is_writable(::getpid(), image.inode()));
    ASSERT_EQ(::mprotect(image.at() + kPageBytes, kPageBytes, kReadWrite), 0);
    EXPECT_TRUE(is_writable(::getpid(), image.inode())) << "a page is enough";
    image.unmap();
    EXPECT_FALSE(is_writable(::getpid(), image.inode()));
}

TEST(MapsWritableTest, MappingOfAPartCounts) {
    Image image;
    EXPECT_TRUE(is_writable(::getpid(), image.map(kReadWrite, MAP_SHARED, 3).inode()));
}

TEST(MapsWritableTest, MappingOfClosedDescriptorsCounts) {
    Image image;
    image.map(kReadWrite, MAP_SHARED);
    const std::uint64_t inode = image.inode();
    EXPECT_EQ(in_child([&] {
                  for (int fd = 3; fd < 1000; ++fd) ::close(fd);
                  return is_writable(::getpid(), inode) ? 0 : 1;
              }),
              kChildExitedWell);
}

TEST(MapsWritableTest, AnyOfSeveralFilesCountsAndNoOther) {
    const Image first;
    Image second;
    Image other;
    second.map(kReadWrite, MAP_SHARED);
    other.map(kReadWrite, MAP_SHARED);
    EXPECT_TRUE(maps_writable(::getpid(), std::array{first.inode(), second.inode()}));
    EXPECT_TRUE(maps_writable(::getpid(), std::array{second.inode(), first.inode()}));
    second.unmap();
    EXPECT_FALSE(maps_writable(::getpid(), std::array{first.inode(), second.inode()}));
}

TEST(MapsWritableTest, NameOfTheFileDoesNotMatter) {
    for (const char* const name : {"", " ", "a b", "line\nfeed", "0-1 rw-s 0 00:00 0", "\\012", "back\\slash\t"}) {
        Image image(name);
        EXPECT_TRUE(is_writable(::getpid(), image.map(kReadWrite, MAP_SHARED).inode())) << name;
        EXPECT_FALSE(is_writable(::getpid(), image.map(PROT_READ, MAP_SHARED).inode())) << name;
    }
}

// The text of so many mappings is several pages long, and is read in several pieces.
TEST(MapsWritableTest, LastOfManyMappingsCounts) {
    constexpr std::size_t kPages = 600;
    const UniqueFd file = create_memfd("many");
    resize_memfd(file.get(), kPages * kPageBytes, "many");
    void* const memory = ::mmap(nullptr, kPages * kPageBytes, PROT_READ, MAP_SHARED, file.get(), 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto* const at = static_cast<std::byte*>(memory);
    for (std::size_t page = 0; page < kPages; page += 2) {
        ASSERT_EQ(::mprotect(at + page * kPageBytes, kPageBytes, PROT_NONE), 0);
    }
    const std::uint64_t inode = inode_of(file.get());
    EXPECT_FALSE(is_writable(::getpid(), inode));
    for (const std::size_t page : {std::size_t{0}, kPages / 2, kPages - 1}) {
        ASSERT_EQ(::mprotect(at + page * kPageBytes, kPageBytes, kReadWrite), 0);
        EXPECT_TRUE(is_writable(::getpid(), inode)) << page;
        ASSERT_EQ(::mprotect(at + page * kPageBytes, kPageBytes, PROT_READ), 0);
    }
    ::munmap(memory, kPages * kPageBytes);
}

TEST(MapsWritableTest, MappingOfAnotherProcessIsSeenThereAlone) {
    Image image;
    image.map(kReadWrite, MAP_SHARED);
    const IdleChild child;
    image.unmap();
    EXPECT_TRUE(is_writable(child.pid(), image.inode()));
    EXPECT_FALSE(is_writable(::getpid(), image.inode()));
}

TEST(MapsWritableTest, NoFilesAreMappedByNobody) {
    EXPECT_FALSE(maps_writable(::getpid(), {}));
    const DescriptorLimit none(0);
    EXPECT_FALSE(maps_writable(::getpid(), {})) << "and nothing is read";
}

TEST(MapsWritableTest, ProcessThatHasEndedMapsNothing) {
    Image image;
    image.map(kReadWrite, MAP_SHARED);
    IdleChild child;
    EXPECT_TRUE(is_writable(child.pid(), image.inode()));
    child.kill();
    EXPECT_FALSE(is_writable(child.pid(), image.inode())) << "a zombie";
    const pid_t gone = child.reap();
    EXPECT_FALSE(is_writable(gone, image.inode()));
    for (const pid_t pid : {0, -1}) EXPECT_FALSE(is_writable(pid, image.inode())) << "no process";
}

TEST(MapsWritableTest, WithoutADescriptorItIsUnknownAndTrue) {
    const Image image;
    IdleChild child;
    EXPECT_FALSE(is_writable(child.pid(), image.inode()));
    const DescriptorLimit none(0);
    EXPECT_TRUE(is_writable(child.pid(), image.inode()));
    EXPECT_TRUE(is_writable(::getpid(), image.inode()));
}

TEST(MapsWritableTest, ProcessOfAnotherUserIsUnknownAndTrue) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
    const Image image;
    const ChildEnd end = in_child([&, parent = ::getpid()] {
        if (::setresuid(65534, 65534, 65534) != 0) return tests::kNotHere;
        return is_writable(parent, image.inode()) ? 0 : 1;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, kChildExitedWell);
}

// Without /proc the errno is ENOENT, as for a process that has ended.
TEST(MapsWritableTest, WithoutProcItIsUnknownAndTrueWhileTheProcessRuns) {
    const tests::TemporaryDirectory empty;
    const Image image;
    const ChildEnd end = in_child([&] {
        IdleChild child;
        if (::chroot(empty.path().c_str()) != 0 || ::chdir("/") != 0) return tests::kNotHere;
        if (!is_writable(child.pid(), image.inode())) return 1;
        if (!is_writable(::getpid(), image.inode())) return 2;
        child.kill();
        const pid_t gone = child.reap();
        return is_writable(gone, image.inode()) ? 3 : 0;
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "no chroot(2) for this user";
    EXPECT_EQ(end, kChildExitedWell);
}

/// Ends the first thread of a process, which then is a zombie while `body` runs in another thread.
[[noreturn]] void go_on_without_the_first_thread(void (*body)()) {
    std::thread(body).detach();
    ::syscall(SYS_exit, 0);
    ::_exit(1);
}

// /proc/PID/maps shows only the maps of the first thread.
TEST(MapsWritableTest, ProcessWhoseFirstThreadHasEndedIsUnknownAndTrue) {
    Image image;
    image.map(kReadWrite, MAP_SHARED);
    const pid_t pid = ::fork();
    if (pid == 0) go_on_without_the_first_thread([] { ::pause(); });
    const auto is_zombie = [&] {
        const std::string stat = read_text_file("/proc/" + std::to_string(pid) + "/stat");
        return stat.find(") Z ") != std::string::npos;
    };
    EXPECT_TRUE(tests::eventually(is_zombie));
    EXPECT_TRUE(is_writable(pid, image.inode()));
    signal_process(pid, SIGKILL);
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
    EXPECT_FALSE(is_writable(pid, image.inode()));
    ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
}

}  // namespace
