// Dataflow: who reads a value last gets it moved, who reads it earlier shares it, and the plan says so.
#include <fmt/core.h>

#include <cstdio>
#include <exception>
#include <numeric>
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
    std::fflush(stdout);
}

void run() {
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
    std::fflush(stdout);

    procrun::GraphRun done = graph.run(pool);
    if (!done.ok()) fmt::print("{}\n", done.failure());
    fmt::print("sums: {} and {}, pages copied: {} by add, {} by add more\n", done.get(before), done.get(after),
               done.cost("add").copied->value, done.cost("add more").copied->value);
    const vmcow::Value<Numbers> result = done.take(c);
    fmt::print("result: {} {} {}\n", (*result)[0], (*result)[1], (*result)[2]);
}

}  // namespace

int main() {
    try {
        run();
        return 0;
    } catch (const std::exception& error) {
        fmt::print(stderr, "graph_program: {}\n", error.what());
        return 1;
    }
}
