// Tests both ways to find the private pages of a mapping.
#include "vmcow/sys/page_scan.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/support.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/smaps.hpp"
#include "vmcow/sys/process/signal_process.hpp"
#include "vmcow/view.hpp"

namespace {

using namespace vmcow;
using sys::PageScanMethod;
using sys::PageScanner;
using tests::error_of;

using tests::is_maximal;
using tests::Pages;
using tests::pages_in;
using tests::write_pages;

View view_of(std::size_t pages, PagePolicy policy = PagePolicy::automatic) {
    Arena arena({.name = "scanned", .pages = policy});
    arena.allocate(pages * kPageBytes);
    return std::move(arena).freeze().map_private();
}

std::uintptr_t address_of(const View& view) { return reinterpret_cast<std::uintptr_t>(view.bytes().data()); }

class PageScanTest : public testing::TestWithParam<PageScanMethod> {
protected:
    void SetUp() override {
        if (GetParam() == PageScanMethod::pagemap_scan && sys::page_scan_error() != 0) {
            GTEST_SKIP() << "no PAGEMAP_SCAN in this kernel: " << std::strerror(sys::page_scan_error());
        }
    }

    static std::vector<PageRun> scan(const View& view) {
        std::vector<PageRun> runs;
        PageScanner(GetParam()).private_pages(address_of(view), view.bytes().size(), runs);
        EXPECT_TRUE(is_maximal(runs));
        return runs;
    }
};

INSTANTIATE_TEST_SUITE_P(Methods, PageScanTest,
                         testing::Values(PageScanMethod::pagemap_scan, PageScanMethod::pagemap_bits),
                         [](const auto& made_for) {
                             return made_for.param == PageScanMethod::pagemap_scan ? "Scan" : "Bits";
                         });

TEST_P(PageScanTest, UntouchedAndReadPagesAreNotPrivate) {
    const View view = view_of(600);
    EXPECT_TRUE(scan(view).empty());
    std::byte sum{};
    for (const std::byte byte : view.bytes()) sum |= byte;
    EXPECT_EQ(sum, std::byte{0});
    EXPECT_TRUE(scan(view).empty());
}

TEST_P(PageScanTest, EveryWrittenPageIsOneRun) {
    View view = view_of(1500);
    std::memset(view.bytes().data(), 1, view.bytes().size());
    EXPECT_EQ(scan(view), (std::vector<PageRun>{{{0}, {1500}}}));
}

// One answer of the kernel ends when its vector of 512 regions is full.
TEST_P(PageScanTest, MoreRunsThanOneAnswerHoldsAreAllFound) {
    View view = view_of(5000);
    Pages written;
    for (std::uint64_t page = 0; page < 5000; page += 2) written.insert(page);
    write_pages(view, written);
    EXPECT_EQ(pages_in(scan(view)), written);
}

TEST_P(PageScanTest, RunsAreAppendedAndNotJoinedWithWhatWasThere) {
    View view = view_of(8);
    write_pages(view, {1, 2});
    std::vector<PageRun> runs{{{0}, {1}}};
    PageScanner(GetParam()).private_pages(address_of(view), view.bytes().size(), runs);
    EXPECT_EQ(runs, (std::vector<PageRun>{{{0}, {1}}, {{1}, {2}}}));
}

TEST_P(PageScanTest, PagesAreCountedFromTheAddressGiven) {
    View view = view_of(64);
    write_pages(view, {9, 10, 40});
    std::vector<PageRun> runs;
    PageScanner(GetParam()).private_pages(address_of(view) + 10 * kPageBytes, 30 * kPageBytes, runs);
    EXPECT_EQ(runs, (std::vector<PageRun>{{{0}, {1}}})) << "the end is excluded";
    PageScanner(GetParam()).private_pages(address_of(view), 0, runs);
    EXPECT_EQ(runs.size(), 1U);
}

TEST_P(PageScanTest, HugeBaseLosesOnlyThePagesWritten) {
    View view = view_of(std::size_t{4} * 512);
    const Pages written{0, 511, 512, 700, 2047};
    write_pages(view, written);
    EXPECT_EQ(pages_in(scan(view)), written);
}

// I5
TEST_P(PageScanTest, CountEqualsAnonymousInSmaps) {
    View view = view_of(3000);
    for (std::uint64_t page = 0; page < 3000; page += 7) view.bytes()[page * kPageBytes] = std::byte{1};
    EXPECT_EQ(sys::total_pages(scan(view)).bytes(),
              sys::read_smaps(address_of(view), view.bytes().size()).anonymous_bytes);
}

TEST_P(PageScanTest, ZeroedPagesAreStillPrivate) {
    View view = view_of(16);
    write_pages(view, {3});
    view.bytes()[3 * kPageBytes + 17] = std::byte{0};
    EXPECT_EQ(pages_in(scan(view)), Pages{3});
}

/// A child that runs `prepare` and then waits until it is killed.
class WaitingChild {
public:
    template <class Prepare>
    explicit WaitingChild(const Prepare& prepare) {
        std::array<int, 2> ready{};
        if (::pipe2(ready.data(), O_CLOEXEC) != 0) sys::throw_errno("pipe2");
        const sys::UniqueFd reader(ready[0]);
        sys::UniqueFd writer(ready[1]);
        pid_ = ::fork();
        if (pid_ == 0) {
            prepare();
            writer.reset();
            for (;;) ::pause();
        }
        writer.reset();
        char end = 0;
        static_cast<void>(sys::retry_interrupted([&] { return ::read(reader.get(), &end, 1); }));
    }
    ~WaitingChild() { end(); }
    WaitingChild(const WaitingChild&) = delete;
    WaitingChild& operator=(const WaitingChild&) = delete;

    void end() {
        if (pid_ <= 0) return;
        vmcow::sys::signal_process(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    [[nodiscard]] pid_t pid() const { return pid_; }

private:
    pid_t pid_ = -1;
};

class AnonymousPages {
public:
    explicit AnonymousPages(std::size_t pages)
        : bytes_(pages * kPageBytes),
          at_(static_cast<std::byte*>(
              ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
        ::madvise(at_, bytes_, MADV_NOHUGEPAGE);
    }
    ~AnonymousPages() { ::munmap(at_, bytes_); }
    AnonymousPages(const AnonymousPages&) = delete;
    AnonymousPages& operator=(const AnonymousPages&) = delete;

    void write(const Pages& pages) const {
        for (const std::uint64_t page : pages) at_[page * kPageBytes] = std::byte{1};
    }
    [[nodiscard]] Pages found_by(const PageScanner& scanner) const {
        std::vector<PageRun> runs;
        scanner.private_pages(reinterpret_cast<std::uintptr_t>(at_), bytes_, runs);
        return pages_in(runs);
    }

private:
    std::size_t bytes_;
    std::byte* at_;
};

TEST_P(PageScanTest, OtherProcessIsScannedByItsNumber) {
    const AnonymousPages memory(32);
    const WaitingChild child([&] { memory.write({4, 5, 31}); });
    EXPECT_EQ(memory.found_by(PageScanner(child.pid(), GetParam())), (Pages{4, 5, 31}));
    EXPECT_EQ(memory.found_by(PageScanner(GetParam())), Pages{});
}

TEST_P(PageScanTest, ProcessThatNeverWasIsEnoent) {
    EXPECT_EQ(error_of([] { const PageScanner scanner(pid_t{0x7fffffff}, GetParam()); }), ENOENT);
    EXPECT_EQ(error_of([] { const PageScanner scanner(pid_t{-1}, GetParam()); }), ENOENT);
}

// An empty result would be a count of 0 where the count is unknown (I8).
TEST_P(PageScanTest, ProcessThatHasEndedIsEsrchAndNotEmpty) {
    const AnonymousPages memory(32);
    WaitingChild child([&] { memory.write({4}); });
    const PageScanner scanner(child.pid(), GetParam());
    EXPECT_EQ(memory.found_by(scanner), Pages{4});
    child.end();
    EXPECT_EQ(error_of([&] { static_cast<void>(memory.found_by(scanner)); }), ESRCH);
}

TEST_P(PageScanTest, ScannerFromBeforeAForkScansTheParentAndAChildsOwnTheChild) {
    const AnonymousPages memory(32);
    memory.write({1});
    const PageScanner parents(GetParam());
    EXPECT_EQ(tests::in_child([&] {
                  memory.write({1, 7});
                  if (memory.found_by(parents) != Pages{1}) return 1;
                  return memory.found_by(PageScanner(GetParam())) == Pages{1, 7} ? 0 : 2;
              }),
              tests::kChildExitedWell);
}

TEST(PageScanNamesTest, NamesAreThoseOfReports) {
    EXPECT_STREQ(sys::name_of(PageScanMethod::pagemap_scan), "PAGEMAP_SCAN");
    EXPECT_STREQ(sys::name_of(PageScanMethod::pagemap_bits), "pagemap");
}

TEST(PageScanPropertyTest, BestMethodIsTheIoctlWhereItWorks) {
    EXPECT_EQ(sys::best_page_scan() == PageScanMethod::pagemap_scan, sys::page_scan_error() == 0);
}

RC_GTEST_PROP(PageScanPropertyTest, BothMethodsFindExactlyThePagesWritten, ()) {
    const auto pages = *rc::gen::element<std::size_t>(1, 2, 511, 512, 513, 1030, 2100);
    const auto huge = *rc::gen::arbitrary<bool>();
    const auto written = *rc::gen::container<Pages>(rc::gen::inRange<std::uint64_t>(0, pages));
    View view = view_of(pages, huge ? PagePolicy::automatic : PagePolicy::small);
    write_pages(view, written);
    RC_ASSERT(pages_in(view.copied_runs(PageScanMethod::pagemap_bits)) == written);
    if (sys::page_scan_error() == 0) {
        RC_ASSERT(view.copied_runs(PageScanMethod::pagemap_scan) == view.copied_runs(PageScanMethod::pagemap_bits));
    }
}

}  // namespace
