#include "vmcow/sys/page_scan.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <string>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/pagemap_scan.hpp"

namespace vmcow::sys {
namespace {

using pagemap::append;
using pagemap::arguments_for;
using pagemap::kCategoryFile;
using pagemap::kCategoryHuge;
using pagemap::kCategoryPresent;
using pagemap::kCategorySwapped;
using pagemap::kCategoryZero;
using pagemap::kScan;
using pagemap::ScanArguments;
using pagemap::ScanRegion;
using pagemap::walk;

/// The scanned process waits when it maps memory during a walk. A walk of 4096 pages takes 50 to 300 µs.
constexpr std::uint64_t kMostPagesAtOnce = 4096;

UniqueFd open_pagemap(const std::string& process) { return open_file("/proc/" + process + "/pagemap", O_RDONLY); }

void append(std::vector<PageKindRun>& runs, std::size_t first_new, const PageKindRun& next) {
    if (runs.size() > first_new) {
        PageKindRun& last = runs.back();
        const bool alike = last.file == next.file && last.swapped == next.swapped && last.huge == next.huge;
        if (alike && last.pages.end() == next.pages.first) {
            last.pages.count += next.pages.count;
            return;
        }
    }
    runs.push_back(next);
}

[[noreturn]] void throw_ended() { throw_error(ESRCH, "scan pages: the process has ended"); }

/// Throws if the process has ended. The ioctl only finds nothing then and says no more; a read returns 0 bytes.
void check_alive(int pagemap, std::uintptr_t address) {
    std::uint64_t entry = 0;
    const auto offset = static_cast<off_t>(address / kPageBytes * sizeof(entry));
    if (retry_interrupted([&] { return ::pread(pagemap, &entry, sizeof(entry), offset); }) == 0) throw_ended();
}

int probe() noexcept {
    const int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    const UniqueFd pagemap(fd);
    ScanArguments arguments = arguments_for(0, 0);
    return ::ioctl(pagemap.get(), kScan, &arguments) < 0 ? errno : 0;
}

}  // namespace

const char* name_of(PageScanMethod method) noexcept {
    return method == PageScanMethod::pagemap_scan ? "PAGEMAP_SCAN" : "pagemap";
}

int page_scan_error() noexcept { return probe(); }

PageScanMethod best_page_scan() {
    // Only an answer of the kernel is kept. Out of descriptors, for example, is neither a yes nor a no.
    enum class Answer { unknown, works, lacking };
    static std::atomic<Answer> known{Answer::unknown};
    if (known == Answer::unknown) {
        const int error = probe();
        if (error == 0) known = Answer::works;
        if (error == ENOTTY || error == EINVAL) known = Answer::lacking;
    }
    return known == Answer::lacking ? PageScanMethod::pagemap_bits : PageScanMethod::pagemap_scan;
}

PageScanner::PageScanner(PageScanMethod method) : pagemap_(open_pagemap("self")), method_(method) {}

PageScanner::PageScanner(pid_t pid, PageScanMethod method)
    : pagemap_(open_pagemap(std::to_string(pid))), method_(method) {}

void PageScanner::private_pages(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const {
    VMCOW_ASSERT(address % kPageBytes == 0 && bytes % kPageBytes == 0);
    const std::size_t first_new = runs.size();
    if (method_ == PageScanMethod::pagemap_scan) {
        scan(address, bytes, runs);
    } else {
        read_bits(address, bytes, runs);
    }
    const bool within = runs.size() == first_new || runs.back().end().byte_offset() <= bytes;
    VMCOW_ASSERT(within && "I5: a page outside of the range is counted");
}

void PageScanner::existing_pages(std::uintptr_t address, std::size_t bytes, bool ask_file,
                                 std::vector<PageKindRun>& runs) const {
    VMCOW_ASSERT(address % kPageBytes == 0 && bytes % kPageBytes == 0);
    if (method_ == PageScanMethod::pagemap_scan) {
        scan_kinds(address, bytes, ask_file, runs);
    } else {
        read_kinds(address, bytes, ask_file, runs);
    }
}

void PageScanner::scan(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const {
    const std::size_t first_new = runs.size();
    walk(pagemap_.get(), arguments_for(address, address + bytes), [&](const ScanRegion& region) {
        append(runs, first_new, page_at(region.start - address), pages_of(region.end - region.start));
    });
    check_alive(pagemap_.get(), address);
}

void PageScanner::scan_kinds(std::uintptr_t address, std::size_t bytes, bool ask_file,
                             std::vector<PageKindRun>& runs) const {
    const std::size_t first_new = runs.size();
    ScanArguments arguments = arguments_for(address, address + bytes);
    arguments.category_inverted = kCategoryZero;
    arguments.category_mask = kCategoryZero;
    arguments.return_mask = kCategoryPresent | kCategorySwapped | kCategoryHuge | (ask_file ? kCategoryFile : 0);
    arguments.max_pages = kMostPagesAtOnce;
    walk(pagemap_.get(), arguments, [&](const ScanRegion& region) {
        append(runs, first_new,
               {.pages = {page_at(region.start - address), pages_of(region.end - region.start)},
                .file = (region.categories & kCategoryFile) != 0,
                .swapped = (region.categories & kCategoryPresent) == 0,
                .huge = (region.categories & kCategoryHuge) != 0});
    });
    check_alive(pagemap_.get(), address);
}

void PageScanner::read_bits(std::uintptr_t address, std::size_t bytes, std::vector<PageRun>& runs) const {
    const std::size_t first_new = runs.size();
    std::array<PagemapEntry, 4096> entries;
    const std::uint64_t pages = bytes / kPageBytes;
    for (std::uint64_t page = 0; page < pages; page += entries.size()) {
        const std::span<PagemapEntry> piece = std::span(entries).first(std::min(entries.size(), pages - page));
        read_entries(address + page * kPageBytes, piece);
        for (std::size_t i = 0; i < piece.size(); ++i) {
            const bool exists = piece[i].present() || piece[i].swapped();
            if (exists && !piece[i].file()) append(runs, first_new, {page + i}, {1});
        }
    }
}

void PageScanner::read_kinds(std::uintptr_t address, std::size_t bytes, bool ask_file,
                             std::vector<PageKindRun>& runs) const {
    const std::size_t first_new = runs.size();
    std::array<PagemapEntry, 4096> entries;
    const std::uint64_t pages = bytes / kPageBytes;
    for (std::uint64_t page = 0; page < pages; page += entries.size()) {
        const std::span<PagemapEntry> piece = std::span(entries).first(std::min(entries.size(), pages - page));
        read_entries(address + page * kPageBytes, piece);
        for (std::size_t i = 0; i < piece.size(); ++i) {
            if (!piece[i].present() && !piece[i].swapped()) continue;
            append(runs, first_new,
                   {.pages = {{page + i}, {1}},
                    .file = ask_file && piece[i].file(),
                    .swapped = !piece[i].present(),
                    .huge = false});
        }
    }
}

void PageScanner::read_entries(std::uintptr_t address, std::span<PagemapEntry> entries) const {
    static_assert(sizeof(PagemapEntry) == sizeof(std::uint64_t));
    auto offset = static_cast<off_t>(address / kPageBytes * sizeof(PagemapEntry));
    while (!entries.empty()) {
        const ssize_t got =
            retry_interrupted([&] { return ::pread(pagemap_.get(), entries.data(), entries.size_bytes(), offset); });
        if (got < 0) throw_errno("read pagemap");
        const std::size_t count = static_cast<std::size_t>(got) / sizeof(PagemapEntry);
        if (count == 0) throw_ended();
        entries = entries.subspan(count);
        offset += got;
    }
}

PageCount total_pages(const std::vector<PageRun>& runs) noexcept {
    PageCount total;
    for (const PageRun& run : runs) total += run.count;
    return total;
}

}  // namespace vmcow::sys
