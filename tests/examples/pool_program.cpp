// By-value calls through function processes that stay alive: an alias, a private copy, a new value, and a last use.
#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <numeric>
#include <span>
#include <system_error>
#include <utility>

#include "procrun/pool.hpp"

namespace {

long sum(std::span<const long> values) { return std::accumulate(values.begin(), values.end(), 0L); }

long sum_of_squares(std::span<long> values) {  // squares its own copy
    for (long& value : values.first(1000)) value *= value;
    return std::accumulate(values.begin(), values.begin() + 1000, 0L);
}

void set(std::span<long> values, std::size_t at, long to) { values[at] = to; }

vmcow::Arena numbers(std::size_t count) {
    vmcow::Arena arena({.name = "numbers"});
    std::span<long> values = arena.allocate_array<long>(count);
    std::iota(values.begin(), values.end(), 0L);
    return arena;
}

void run() {
    procrun::Pool pool;                                                    // before the first thread
    const vmcow::Snapshot value = numbers(std::size_t{1} << 24).freeze();  // 128 MiB, sealed
    fmt::print("sum: {}\n", pool.call(sum, value).value());                // an alias: nothing copied
    auto squares = pool.call(sum_of_squares, value);                       // by value: two pages copied
    squares = pool.call(sum_of_squares, value);                            // again: refreshed, not copied
    const long total = squares.value();                                    // throws, if the call has failed
    const procrun::ImageCost& cost = squares.cost().images()[0];
    fmt::print("squares: {}, path {}, copied {}, refreshed {}: {}\n", total, name_of(cost.path), cost.copied.value,
               cost.refreshed.value, describe(cost.reason));
    const vmcow::Snapshot other = pool.apply(set, value, std::size_t{7}, 700L).value();  // a new value
    fmt::print("sums: {} and {}, pages of its own: {}\n", pool.call(sum, value).value(), pool.call(sum, other).value(),
               other.delta_pages().value);
    vmcow::Arena arena = numbers(1000);
    arena = pool.apply(set, std::move(arena), std::size_t{7}, 700L).value();  // last use: changed in place
    fmt::print("in place: {}\n", reinterpret_cast<const long*>(arena.bytes().data())[7]);
    const auto lost = pool.call([](std::span<long> values) { return values.data()[values.size()]; }, value);
    fmt::print("past the end: {}\n", lost.outcome().describe());
}

}  // namespace

int main() {
    try {
        run();
        if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "standard output");
        return 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "pool_program: %s\n", error.what()));
        return 1;
    }
}
