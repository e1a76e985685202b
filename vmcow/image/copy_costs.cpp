#include "vmcow/image/copy_costs.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <exception>

#include "vmcow/image/slot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/units.hpp"

namespace vmcow {
namespace {

constexpr PageCount kPages{64};
constexpr int kRounds = 5;

template <class Work>
double ns_of(Work&& work) {
    const auto started = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - started).count();
}

template <class Work>
void for_each_page(Work&& work) {
    for (std::size_t at = 0; at < kPages.bytes(); at += kPageBytes) work(at);
}

/// Maps the image into the window again.
/// Throws: std::system_error -- the errno of mmap(2). The window is as it was then, and must not be written to.
void map_anew(std::byte* window, int fd) {
    const int error = sys::map_file_at(window, kPages.bytes(), sys::MapMode::private_write, fd, 0);
    if (error != 0) sys::throw_error(error, "map the image that costs are measured with");
}

/// Measures each step once, over all pages. The smallest figure of several rounds counts, because a disturbance only
/// ever adds time.
CopyCosts one_round(std::byte* window, const std::byte* base, int fd) {
    constexpr auto kEach = static_cast<double>(kPages.value);
    CopyCosts costs;
    map_anew(window, fd);
    costs.fault_ns = ns_of([&] { for_each_page([&](std::size_t at) { window[at] = std::byte{1}; }); }) / kEach;
    costs.refresh_ns =
        ns_of([&] { for_each_page([&](std::size_t at) { std::memcpy(window + at, base + at, kPageBytes); }); }) / kEach;
    volatile int differing = 0;
    costs.compare_ns = ns_of([&] {
                           for_each_page([&](std::size_t at) {
                               if (std::memcmp(window + at, base + at, kPageBytes) != 0) differing = differing + 1;
                           });
                       }) /
                       kEach;
    const auto map = [&] { map_anew(window, fd); };
    const double with_pages = ns_of(map);
    costs.remap_ns = ns_of(map);
    costs.drop_ns = std::max(0.0, with_pages - costs.remap_ns) / kEach;
    return costs;
}

}  // namespace

CopyCosts CopyCosts::measure() noexcept {
    try {
        const sys::UniqueFd file = sys::create_memfd("costs");
        sys::resize_memfd(file.get(), kPages.bytes(), "costs");
        const Slot base = Slot::reserve(kPages.bytes());
        const Slot window = Slot::reserve(kPages.bytes());
        if (sys::map_file_at(base.address(), kPages.bytes(), sys::MapMode::shared_write, file.get(), 0) != 0) return {};
        std::memset(base.address(), 1, kPages.bytes());
        CopyCosts least = one_round(window.address(), base.address(), file.get());
        for (int i = 1; i < kRounds; ++i) {
            const CopyCosts costs = one_round(window.address(), base.address(), file.get());
            least.fault_ns = std::min(least.fault_ns, costs.fault_ns);
            least.refresh_ns = std::min(least.refresh_ns, costs.refresh_ns);
            least.compare_ns = std::min(least.compare_ns, costs.compare_ns);
            least.drop_ns = std::min(least.drop_ns, costs.drop_ns);
            least.remap_ns = std::min(least.remap_ns, costs.remap_ns);
        }
        return least;
    } catch (const std::exception&) {
        return {};
    }
}

}  // namespace vmcow
