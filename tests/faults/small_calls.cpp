// small_calls NAME: small uses of the libraries, one for each NAME, on values so small that a fault can be tried at
// each call.
#include <fmt/core.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/graph.hpp"
#include "procrun/launcher.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/pool.hpp"
#include "procrun/program.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/diff.hpp"
#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/value.hpp"
#include "vmcow/value_merge.hpp"
#include "vmcow/view.hpp"

namespace {

using Numbers = vmcow::Value<long[]>;

constexpr std::size_t kCount = 300'000;  // so many lie in a file of their own

long sum(std::span<const long> values) { return std::accumulate(values.begin(), values.end(), 0L); }
long double_first(std::span<long> values) { return values[0] *= 2; }
void set_first(std::span<long> values) { values[0] = 7; }
void set(std::span<long> values, std::size_t at, long to) { values[at] = to; }

vmcow::Snapshot frozen_numbers() {
    vmcow::Arena arena({.name = "numbers"});
    const std::span<long> values = arena.allocate_array<long>(kCount);
    std::iota(values.begin(), values.end(), 1L);
    return std::move(arena).freeze();
}

Numbers numbers() {
    Numbers value(kCount);
    value.edit([](std::span<long> all) { std::iota(all.begin(), all.end(), 1L); });
    return value;
}

void fork_call() {
    const vmcow::Snapshot frozen = frozen_numbers();
    vmcow::View mine = frozen.map_private();
    const auto result = procrun::fork_call([&] {
        mine.as<long>()[7] = 700;
        return std::make_pair(mine.as<long>()[7], mine.capture());
    });
    const auto& [there, changed] = result.value();
    fmt::print("there {}, here {}, in the new value {}\n", there, mine.as<long>()[7],
               changed.map_private().as<long>()[7]);
}

void pool_call() {
    procrun::Pool pool({.workers = 1});
    const vmcow::Snapshot value = frozen_numbers();
    const long alias = pool.call(sum, value).value();
    const long first = pool.call(double_first, value).value();
    const long again = pool.call(double_first, value).value();
    fmt::print("alias {}, by value {} and {}, here {}\n", alias, first, again, value.map_private().as<long>()[0]);
}

void pool_apply() {
    procrun::Pool pool({.workers = 1});
    const vmcow::Snapshot value = frozen_numbers();
    const vmcow::Snapshot other = pool.apply(set, value, std::size_t{7}, 700L).value();
    vmcow::Arena arena({.name = "moved"});
    arena.allocate_array<long>(kCount)[1] = 1;
    arena = pool.apply(set, std::move(arena), std::size_t{7}, 70L).value();
    fmt::print("other {}, here {}, in place {}\n", other.map_private().as<long>()[7], value.map_private().as<long>()[7],
               reinterpret_cast<const long*>(arena.bytes().data())[7]);
}

void pool_async() {
    procrun::Pool pool({.workers = 2});
    const Numbers value = numbers();
    auto one = pool.async(sum, value);
    auto two = pool.async(double_first, value);
    const long total = one.get().value();
    const auto parts = pool.map_parts(set_first, value, 2).value();
    fmt::print("sum {}, first {}, parts {} {}\n", total, two.get().value(), parts[0], parts[kCount / 2]);
}

void value_edit() {
    const Numbers a = numbers();
    Numbers b = a;
    Numbers c = a;
    b.edit([](std::span<long> all) { all[7] = 70; });
    c.edit([](std::span<long> all) { all[2000] = 71; });
    const Numbers both = vmcow::merge(a, {b, c}).value();
    fmt::print("a {}, b {}, both {} {}, bytes that differ {}\n", a[7], b[7], both[7], both[2000],
               vmcow::diff(a, both).changed_bytes);
}

void save_and_load(const Numbers& a) {
    Numbers b = a;
    b.edit([](std::span<long> all) { all[7] = 70; });
    a.save("numbers");
    b.save("changes", {.relative_to = "numbers"});
    const auto whole = Numbers::load("numbers");
    const auto loaded = Numbers::load("changes");
    fmt::print("whole {}, with changes {}\n", whole[7], loaded[7]);
}

void value_file() { save_and_load(numbers()); }

void small_values() {
    Numbers value{1, 2, 3, 4, 5, 6, 7, 8};
    procrun::Pool pool({.workers = 1});
    const long total = pool.call(sum, value).value();
    value = pool.apply(set, std::move(value), std::size_t{7}, 70L).value();
    save_and_load(value);
    fmt::print("sum {}, last {}\n", total, value[7]);
}

void containers() {
    vmcow::Value<vmcow::map<vmcow::string, vmcow::vector<long>>> a;
    a.edit([](auto& all) { all["one"].assign({1, 2, 3}); });
    auto b = a;
    b.edit([](auto& all) { all["two"].assign({4, 5}); });
    fmt::print("a {}, b {}\n", a->size(), b->size());
}

void graph() {
    procrun::Pool pool({.workers = 1});
    procrun::Graph graph;
    auto a = graph.input("a", numbers());
    auto before = graph.call("before", sum, a);
    auto b = graph.apply("set", set, a, std::size_t{0}, before);
    auto after = graph.call("after", sum, b);
    graph.output(before);
    graph.output(after);
    procrun::GraphRun done = graph.run(pool);
    if (!done.ok()) throw std::runtime_error(done.failure());
    fmt::print("before {}, after {}\n", done.get(before), done.get(after));
}

void stages() {
    procrun::Pipeline pipeline;
    auto made = pipeline.program({"fault_stage", "emit", "3"});
    auto counted = pipeline.function([](procrun::StageIo& io) {
        const auto text = io.read_all();
        io.write(fmt::format("{} bytes\n", text.size()));
    });
    counted.reads(made);
    auto top = pipeline.output(pipeline.program({"fault_stage", "copy"}).reads(counted));
    procrun::PipelineResult result = pipeline.run();
    if (result.report().status != 0) throw std::runtime_error(fmt::format("status {}", result.report().status));
    const auto text = result.take<vmcow::Value<char[]>>(top).value();
    fmt::print("{}", std::string_view(text.read().data(), text.size()));
}

void program() {
    auto started = procrun::Program({"fault_stage", "emit", "2"}).start(procrun::Launcher::shared());
    if (const auto* refusal = std::get_if<procrun::Outcome>(&started)) throw std::runtime_error(refusal->describe());
    const procrun::Outcome outcome = std::get<procrun::Process>(started).wait().outcome;
    if (!outcome.ok()) throw std::runtime_error(outcome.describe());
    fmt::print("{}\n", outcome.describe());
}

void heap() {
    vmcow::heap::list<long> a;
    for (long i = 0; i < 100'000; ++i) a = std::move(a).push(i);
    const auto b = a;
    a = std::move(a).set(7, 70);
    vmcow::heap::block_array<long> c({.leaf_bytes = 256});
    for (long i = 0; i < 100'000; ++i) c = std::move(c).push_back(i);
    const auto d = c;
    c = std::move(c).set(7, 70);
    fmt::print("{} {} {} {}\n", a[7], b[7], c[7], d[7]);
}

const std::map<std::string_view, std::function<void()>>& uses() {
    static const std::map<std::string_view, std::function<void()>> all = {
        {"containers", containers},
        {"fork_call", fork_call},
        {"graph", graph},
        {"heap", heap},
        {"pool_apply", pool_apply},
        {"pool_async", pool_async},
        {"pool_call", pool_call},
        {"program", program},
        {"small_values", small_values},
        {"stages", stages},
        {"value_edit", value_edit},
        {"value_file", value_file},
    };
    return all;
}

}  // namespace

int main(int argc, char** argv) {
    const auto use = argc == 2 ? uses().find(argv[1]) : uses().end();
    if (use == uses().end()) {
        fmt::print(stderr, "usage: small_calls NAME\n");
        return 2;
    }
    try {
        use->second();
        if (std::fflush(stdout) != 0) vmcow::sys::throw_errno("standard output");
        return 0;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "small_calls: %s\n", error.what()));
        return 1;
    }
}
