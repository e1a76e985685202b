#include "vmcow/copy_costs.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <exception>

#include "vmcow/slot.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/memory.hpp"
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

/// One round: what each step took for all pages. The smallest of several rounds counts, because a disturbance only ever
/// adds.
CopyCosts one_round(std::byte* window, const std::byte* base, int fd) {
    constexpr auto kEach = static_cast<double>(kPages.value);
    CopyCosts costs;
    static_cast<void>(sys::map_file_at(window, kPages.bytes(), sys::MapMode::private_write, fd, 0));
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
    const auto map = [&] {
        static_cast<void>(sys::map_file_at(window, kPages.bytes(), sys::MapMode::private_write, fd, 0));
    };
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
