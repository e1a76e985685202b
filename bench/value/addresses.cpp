#include "bench/value/addresses.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "vmcow/image/slot.hpp"
#include "vmcow/sys/mmap.hpp"

namespace bench {
namespace {

using vmcow::Slot;

constexpr std::size_t kRoom = std::size_t{16} << 30;
constexpr int kRounds = 2000;
constexpr std::uint64_t kSeed = 20240501;

void churn(benchmark::State& state, bool& warm, std::size_t count) {
    std::vector<Slot> live(count);
    for (Slot& slot : live) slot = Slot::reserve(1, kRoom);
    vmcow::meter::RandomEngine engine(kSeed);
    std::uniform_int_distribution<std::size_t> any(0, count - 1);
    measure(state, warm, [&] {
        return seconds_of_each(kRounds, [&] {
            Slot& slot = live[any(engine)];
            slot = Slot();
            slot = Slot::reserve(1, kRoom);
        });
    });
}

void raw_reserve(benchmark::State& state, bool& warm) {
    measure(state, warm, [&] {
        return seconds_of_each(kRounds, [&] {
            std::byte* const at = vmcow::sys::reserve(vmcow::kHugeBytes);
            if (at == nullptr || vmcow::sys::unmap(at, vmcow::kHugeBytes) != 0) die("reserve");
        });
    });
}

}  // namespace

void register_address_rows(const BenchSizes& sizes) {
    using benchmark::State;
    for (const std::size_t count : {10U, 1000U, 100'000U}) {
        const std::size_t taken = std::min(count, sizes.value_bytes >> 10);
        add_row("addresses/churn/" + std::to_string(count), sizes, 5,
                [=](State& state, bool& warm) { churn(state, warm, taken); });
    }
    add_row("raw/reserve", sizes, 5, raw_reserve);
}

}  // namespace bench
