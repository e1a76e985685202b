#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

#include "procrun/graph.hpp"
#include "procrun/pool.hpp"
#include "tests/support/number_values.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

// Shared by the tests of graphs.

namespace tests {

inline long largest(const Numbers& numbers) { return *std::max_element(numbers.begin(), numbers.end()); }
inline void scale(Numbers& numbers, long factor) {
    for (long& number : numbers) number *= factor;
}
inline void set(Numbers& numbers, std::size_t at, long number) { numbers[at] = number; }
inline long sum_of_scaled(Numbers& numbers, long factor) {
    scale(numbers, factor);
    return sum_of(numbers);
}
inline long pop(Numbers& numbers) {
    const long last = numbers.back();
    numbers.pop_back();
    return last;
}
inline void append(Numbers& numbers, const Numbers& more) { numbers.insert(numbers.end(), more.begin(), more.end()); }
inline void die(Numbers&) { ::raise(SIGKILL); }

/// Memory that functions in other processes share with the test: the count of calls that have begun, and what was
/// printed.
struct Board {
    std::atomic<int> here{0};
    std::atomic<bool> open{false};
    std::array<std::atomic<long>, 8> printed{};
};

class GraphFixture : public testing::Test {
protected:
    /// The page copies that the kernel made in one call.
    static vmcow::PageCount copied(const procrun::GraphRun& run, std::string_view node) {
        return run.cost(node).copied.value();
    }
    static procrun::CallPath path(const procrun::GraphRun& run, std::string_view node, std::size_t image = 0) {
        return run.cost(node).images()[image].path;
    }
    static procrun::GraphDecision decision(const procrun::GraphRun& run, const std::string& value,
                                           const std::string& to) {
        const auto* const edge = run.plan().find(value, to);
        return edge == nullptr ? throw std::out_of_range(value + " to " + to) : edge->decision;
    }

    Shared<Board> board_;
    procrun::Pool pool_{workers(2)};
};

}  // namespace tests
