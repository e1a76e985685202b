// Tests reading the memory of another process.
#include "vmcow/sys/proc/mem.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/descriptor_limit.hpp"
#include "tests/support/support.hpp"
#include "tests/vmcow/sys/process/idle_child.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/proc/maps.hpp"
#include "vmcow/units.hpp"

namespace {

using namespace vmcow;
using namespace vmcow::sys;
using tests::error_of;
using tests::IdleChild;
using tests::reaped_process;

constexpr std::size_t kPages = 4;

/// Four pages of noise. The page before them is protected, so that they are a mapping of their own, and the page behind
/// them is not mapped.
class Memory {
public:
    Memory() {
        void* const start =
            ::mmap(nullptr, (kPages + 2) * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start == MAP_FAILED) throw_errno("mmap");
        at_ = static_cast<std::byte*>(start) + kPageBytes;
        ::mprotect(start, kPageBytes, PROT_NONE);
        ::munmap(at_ + kPages * kPageBytes, kPageBytes);
        std::copy(content_.begin(), content_.end(), at_);
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { ::munmap(at_ - kPageBytes, (kPages + 1) * kPageBytes); }

    [[nodiscard]] std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(at_); }
    [[nodiscard]] std::byte* at() const { return at_; }
    [[nodiscard]] const std::vector<std::byte>& content() const { return content_; }

private:
    std::vector<std::byte> content_ = tests::noise(kPages * kPageBytes);
    std::byte* at_ = nullptr;
};

class ProcessMemoryTest : public testing::Test {
protected:
    /// Overwrites the test's own pages, so that only the child's hold the noise.
    ProcessMemoryTest() { std::fill_n(memory_.at(), kPages * kPageBytes, std::byte{0xff}); }

    [[nodiscard]] std::vector<std::byte> read(const ProcessMemory& process, std::uint64_t address,
                                              std::size_t bytes) const {
        std::vector<std::byte> buffer(bytes);
        buffer.resize(process.read(address, buffer));
        return buffer;
    }
    [[nodiscard]] std::vector<std::byte> expected(std::size_t offset, std::size_t bytes) const {
        const auto piece = std::span(memory_.content()).subspan(offset, bytes);
        return {piece.begin(), piece.end()};
    }

    const Memory memory_;
    IdleChild child_;
};

TEST_F(ProcessMemoryTest, BytesAreThoseOfTheOtherProcess) {
    const ProcessMemory process(child_.pid());
    EXPECT_EQ(read(process, memory_.address(), kPages * kPageBytes), memory_.content());
    EXPECT_EQ(read(process, memory_.address() + 100, 5000), expected(100, 5000));
    EXPECT_TRUE(read(process, memory_.address(), 0).empty());
}

TEST_F(ProcessMemoryTest, ReadingEndsAtTheFirstByteThatIsNotMapped) {
    const ProcessMemory process(child_.pid());
    const std::size_t last_page = (kPages - 1) * kPageBytes;
    EXPECT_EQ(read(process, memory_.address() + last_page, 3 * kPageBytes), expected(last_page, kPageBytes));
    EXPECT_TRUE(read(process, memory_.address() + kPages * kPageBytes, kPageBytes).empty());
    EXPECT_TRUE(read(process, 0, kPageBytes).empty());
}

/// The KiB that this process shares with another one in the mapping at `address`, which was written to.
std::uint64_t shared_kib(std::uint64_t address) {
    const std::string smaps = read_text_file("/proc/self/smaps");
    for (std::string_view rest = smaps; !rest.empty();) {
        const auto mapping = parse_process_mapping(take_line(rest));
        if (mapping && mapping->start <= address && address < mapping->end) {
            return proc_number(rest, "Shared_Dirty").value_or(0);
        }
    }
    return 0;
}

// Other ways to read a process copy the very pages that are to be counted.
TEST(ProcessMemoryOfAForkTest, PagesThatAForkSharesAreStillSharedAfterwards) {
    const Memory memory;
    const std::uint64_t before = shared_kib(memory.address());
    const IdleChild child;
    const std::uint64_t shared = shared_kib(memory.address());
    EXPECT_GE(shared, before + kPages * kPageBytes / 1024);
    std::vector<std::byte> read(kPages * kPageBytes);
    EXPECT_EQ(ProcessMemory(child.pid()).read(memory.address(), read), read.size());
    EXPECT_EQ(read, memory.content());
    EXPECT_EQ(shared_kib(memory.address()), shared);
}

TEST_F(ProcessMemoryTest, ProcessThatHasEndedHasNothing) {
    const ProcessMemory process(child_.pid());
    child_.kill();
    EXPECT_TRUE(read(process, memory_.address(), kPageBytes).empty());
    child_.reap();
    EXPECT_TRUE(read(process, memory_.address(), kPageBytes).empty());
}

TEST_F(ProcessMemoryTest, ProcessThatIsNotThereIsEnoent) {
    EXPECT_EQ(error_of([] { const ProcessMemory process(reaped_process()); }), ENOENT);
}

TEST_F(ProcessMemoryTest, NoDescriptorLeftIsEmfile) {
    const DescriptorLimit none(0);
    EXPECT_EQ(error_of([] { const ProcessMemory process(::getpid()); }), EMFILE);
}

TEST_F(ProcessMemoryTest, ProcessOfAnotherUserIsEacces) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
    const tests::ChildEnd end = tests::in_child([parent = ::getpid()] {
        if (::setresuid(65534, 65534, 65534) != 0) return tests::kNotHere;
        return error_of([&] { const ProcessMemory process(parent); });
    });
    if (end.exit_status == tests::kNotHere) GTEST_SKIP() << "this root may not become another user (CAP_SETUID)";
    EXPECT_EQ(end, (tests::ChildEnd{EACCES, 0}));
}

}  // namespace
