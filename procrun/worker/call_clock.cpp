#include "procrun/worker/call_clock.hpp"

#include <time.h>

#include <atomic>
#include <fstream>
#include <string>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace procrun::detail {
namespace {

/// How long the counter is watched for its rate: an error of 100 ns in reading either clock is then 1/20 000.
constexpr long kWatchNs = 2'000'000;

struct CounterClock {
    std::uint64_t counter = 0;  // the counter's value at `ns`
    std::int64_t ns = 0;
    double ns_each = 0;  // nanoseconds per tick; 0 where the counter is not used
};

CounterClock counter_clock;
std::atomic<bool> prepared{false};

std::int64_t kernel_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

#if defined(__x86_64__)
std::uint64_t counter() noexcept { return __rdtsc(); }

/// The kernel watches the counter, and takes another clock source when the counter does not run evenly on all
/// processors.
bool kernel_trusts_counter() {
    std::ifstream file("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    std::string name;
    return static_cast<bool>(file >> name) && name == "tsc";
}
#else
std::uint64_t counter() noexcept { return 0; }
bool kernel_trusts_counter() { return false; }
#endif

}  // namespace

void prepare_clock() noexcept {
    if (prepared.exchange(true)) return;
    try {
        if (!kernel_trusts_counter()) return;
    } catch (...) {
        return;  // out of memory or descriptors: the kernel's clock does as well
    }
    const CounterClock first{counter(), kernel_ns(), 0};
    const timespec pause{0, kWatchNs};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    CounterClock last{counter(), kernel_ns(), 0};
    if (last.counter <= first.counter || last.ns - first.ns < kWatchNs / 2) return;
    last.ns_each = static_cast<double>(last.ns - first.ns) / static_cast<double>(last.counter - first.counter);
    counter_clock = last;
}

std::int64_t now_ns() noexcept {
    if (counter_clock.ns_each == 0) return kernel_ns();
    const auto ticks = static_cast<std::int64_t>(counter() - counter_clock.counter);
    return counter_clock.ns + static_cast<std::int64_t>(static_cast<double>(ticks) * counter_clock.ns_each);
}

}  // namespace procrun::detail
