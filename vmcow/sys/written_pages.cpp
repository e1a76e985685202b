#include "vmcow/sys/written_pages.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/faults.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/sys/pagemap_scan.hpp"

namespace vmcow::sys {
namespace {

// Headers of Debian 12 are older. Source: include/uapi/linux/userfaultfd.h, Linux 6.7.
constexpr std::uint64_t kFeatureWpAsync = 1u << 15;

/// A descriptor whose mappings the kernel protects by itself; an empty one where it refuses, with the errno in `error`.
UniqueFd open_protection(int& error) noexcept {
    // Only faults of this process's own code count, which every user may ask for.
    UniqueFd protection(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
    uffdio_api api{.api = UFFD_API, .features = kFeatureWpAsync, .ioctls = 0};
    error = !protection || ::ioctl(protection.get(), UFFDIO_API, &api) != 0 ? errno : 0;
    return error == 0 ? std::move(protection) : UniqueFd();
}

std::uint64_t faults_so_far() {
    const FaultCounts counts = fault_counts();
    return counts.minor + counts.major;
}

}  // namespace

WrittenPages::WrittenPages(UniqueFd protection, UniqueFd pagemap, std::uintptr_t address, std::size_t bytes) noexcept
    : protection_(std::move(protection)), pagemap_(std::move(pagemap)), address_(address), bytes_(bytes) {}

int WrittenPages::error() noexcept {
    if (const int no_scan = page_scan_error(); no_scan != 0) return no_scan;
    int error = 0;
    static_cast<void>(open_protection(error));
    return error;
}

std::unique_ptr<WrittenPages> WrittenPages::watch(std::uintptr_t address, std::size_t bytes) {
    int error = 0;
    UniqueFd protection = open_protection(error);
    if (error != 0) return nullptr;
    UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    uffdio_register wanted{.range = {.start = address, .len = bytes}, .mode = UFFDIO_REGISTER_MODE_WP, .ioctls = 0};
    if (!pagemap || ::ioctl(protection.get(), UFFDIO_REGISTER, &wanted) != 0) return nullptr;
    return std::unique_ptr<WrittenPages>(new WrittenPages(std::move(protection), std::move(pagemap), address, bytes));
}

void WrittenPages::take(std::vector<PageRun>& runs) {
    const std::uint64_t before = std::exchange(faults_, faults_so_far());
    std::uint64_t most = std::exchange(was_asked_, false) ? faults_ - before : UINT64_MAX;
    std::vector<PageRun> behind;
    scan(last_found_, bytes_, pagemap::kProtectMatching, most, behind);
    scan(0, last_found_, pagemap::kProtectMatching, most, runs);
    if (!behind.empty()) {
        last_found_ = behind.front().first.byte_offset();
    } else if (!runs.empty()) {
        last_found_ = runs.front().first.byte_offset();
    }
    for (const PageRun& run : behind) pagemap::append(runs, 0, run.first, run.count);
    was_asked_ = true;
}

void WrittenPages::look(std::vector<PageRun>& runs) const {
    std::uint64_t most = UINT64_MAX;
    scan(0, bytes_, 0, most, runs);
}

/// Finds at most `most` pages, and takes them off.
void WrittenPages::scan(std::size_t from, std::size_t to, std::uint64_t flags, std::uint64_t& most,
                        std::vector<PageRun>& runs) const {
    const std::size_t first_new = runs.size();
    pagemap::ScanArguments arguments = pagemap::arguments_for(address_ + from, address_ + to);
    arguments.flags = flags;
    arguments.category_mask |= pagemap::kCategoryWritten;
    const auto take = [&](const pagemap::ScanRegion& region) {
        pagemap::append(runs, first_new, page_at(region.start - address_), pages_of(region.end - region.start));
    };
    pagemap::walk(pagemap_.get(), arguments, take, most);
    if (most == UINT64_MAX) return;
    for (std::size_t i = first_new; i < runs.size(); ++i) most -= std::min(most, runs[i].count.value);
}

}  // namespace vmcow::sys
