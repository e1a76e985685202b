// Dataflow: the last reader of a value gets it moved, earlier readers share it, and the plan shows which is which.
#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <numeric>
#include <system_error>
#include <utility>

#include "procrun/graph.hpp"
#include "procrun/pool.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

namespace {

using Numbers = vmcow::vector<long>;

long sum(const Numbers& numbers) { return std::accumulate(numbers.begin(), numbers.end(), 0L); }
void add(Numbers& numbers, std::size_t at, long amount) { numbers[at] += amount; }
void log_first(const Numbers& numbers) {
    fmt::print("first: {}\n", numbers[0]);
    if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "standard output");
}

int run() {
    procrun::Pool pool;  // before the first thread
    procrun::Graph graph;
    auto a = graph.input("a", vmcow::Value<Numbers>(Numbers(1'000'000, 1L)));
    auto before = graph.call("before", sum, a);
    auto b = graph.apply("add", add, a, std::size_t{0}, before);   // the last reader of a: in place
    auto c = graph.apply("add more", add, b, std::size_t{1}, 5L);  // not the last one of b: a delta
    graph.effect("log", log_first, b);
    auto after = graph.call("after", sum, c);
    graph.output(before);
    graph.output(after);
    graph.output(c);
    fmt::print("{}", graph.plan().text());
    if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "standard output");

    procrun::GraphRun done = graph.run(pool);
    if (!done.ok()) {
        fmt::print(stderr, "{}\n", done.failure());
        return 1;
    }
    fmt::print("sums: {} and {}, pages copied: {} by add, {} by add more\n", done.get(before), done.get(after),
               done.cost("add").copied.value().value, done.cost("add more").copied.value().value);
    const vmcow::Value<Numbers> result = done.take(c);
    fmt::print("result: {} {} {}\n", (*result)[0], (*result)[1], (*result)[2]);
    return 0;
}

}  // namespace

int main() {
    try {
        const int status = run();
        if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "standard output");
        return status;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "graph_program: %s\n", error.what()));
        return 1;
    }
}
