#include "bench/heap_blocks.hpp"

#include <malloc.h>

#include <boost/unordered_map.hpp>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <stdexcept>

#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_map.hpp"

namespace bench {
namespace {

using Numbers = vmcow::heap::block_array<std::uint64_t>;
using NumberMap = vmcow::heap::block_map<std::uint64_t, std::uint64_t>;
using CountedNumbers = vmcow::heap::block_array<std::uint64_t, vmcow::heap::Options{.counted = true}>;
using Vector = std::vector<std::uint64_t>;
using vmcow::heap::BlockShape;

std::size_t element_count(const BenchSizes& sizes) {
    return std::min<std::size_t>(1'000'000, sizes.value_bytes / sizeof(std::uint64_t));
}
void check(bool condition, const char* what) {
    if (!condition) throw std::runtime_error(what);
}
/// Indices all over, in no order, the same in every run.
std::vector<std::uint32_t> scattered(std::size_t count) {
    vmcow::measure::Engine engine(20240601);
    std::vector<std::uint32_t> indices(count);
    for (auto& index : indices) index = static_cast<std::uint32_t>(vmcow::measure::bounded(engine, count));
    return indices;
}
Numbers counted_up(std::size_t count, std::size_t leaf_bytes) {
    Numbers::builder all({.leaf_bytes = leaf_bytes});
    for (std::uint64_t i = 0; i < count; ++i) all.push_back(i);
    return std::move(all).build();
}
Vector counted_up_vector(std::size_t count) {
    Vector all(count);
    std::iota(all.begin(), all.end(), std::uint64_t{0});
    return all;
}

/// A round is `work()` over all elements, and what it returns tells whether it was done.
template <class Work>
void measure_each(benchmark::State& state, bool& warm, std::size_t count, std::uint64_t expected, Work&& work) {
    measure(state, warm, [&] {
        std::uint64_t found = 0;
        const double seconds = seconds_of([&] { found = work(); });
        check(found == expected, "another result");
        return seconds / static_cast<double>(count);
    });
}

template <class Array>
void get(benchmark::State& state, bool& warm, const Array& array) {
    const auto indices = scattered(array.size());
    const auto expected = std::accumulate(indices.begin(), indices.end(), std::uint64_t{0});
    measure_each(state, warm, array.size(), expected, [&] {
        std::uint64_t sum = 0;
        for (const std::uint32_t index : indices) sum += array[index];
        return sum;
    });
}

void iterate(benchmark::State& state, bool& warm, const Numbers& array) {
    measure_each(state, warm, array.size(), array.size() * (array.size() - 1) / 2, [&] {
        std::uint64_t sum = 0;
        array.for_each_span([&](std::span<const std::uint64_t> leaf) {
            for (const std::uint64_t element : leaf) sum += element;
        });
        return sum;
    });
}
void iterate_vector(benchmark::State& state, bool& warm, const Vector& vector) {
    measure_each(state, warm, vector.size(), vector.size() * (vector.size() - 1) / 2, [&] {
        std::uint64_t sum = 0;
        for (const std::uint64_t element : vector) sum += element;
        return sum;
    });
}

void set_unique(benchmark::State& state, bool& warm, std::size_t count, std::size_t leaf_bytes) {
    Numbers array = counted_up(count, leaf_bytes);
    const auto indices = scattered(count);
    std::uint64_t last = 0;
    measure(state, warm, [&] {
        const double seconds = seconds_of([&] {
            for (const std::uint32_t index : indices) array = std::move(array).set(index, ++last);
        });
        return seconds / static_cast<double>(count);
    });
    check(array[indices.back()] == last && array.is_unique(), "not written");
}

void set_vector(benchmark::State& state, bool& warm, std::size_t count) {
    Vector vector = counted_up_vector(count);
    const auto indices = scattered(count);
    std::uint64_t last = 0;
    measure(state, warm, [&] {
        const double seconds = seconds_of([&] {
            for (const std::uint32_t index : indices) vector[index] = ++last;
        });
        return seconds / static_cast<double>(count);
    });
    check(vector[indices.back()] == last, "not written");
}

void build(benchmark::State& state, bool& warm, std::size_t count, std::size_t leaf_bytes) {
    measure_each(state, warm, count, count - 1, [&] { return counted_up(count, leaf_bytes).back(); });
}
void push_back(benchmark::State& state, bool& warm, std::size_t count) {
    measure_each(state, warm, count, count - 1, [&] {
        Vector vector;
        for (std::uint64_t i = 0; i < count; ++i) vector.push_back(i);
        return vector.back();
    });
}

/// What malloc has given out, its own headers among it.
std::size_t allocated_bytes() {
    const struct mallinfo2 now = ::mallinfo2();
    return now.uordblks + now.hblkhd;
}

void set_shared(benchmark::State& state, bool& warm, std::size_t count) {
    constexpr std::size_t kVersions = 2'000;
    constexpr double kMost = 900;
    const Numbers first = counted_up(count, 256);
    // A leaf, and an inner node per level, each with its count.
    const double model = static_cast<double>(256 + 8 + first.levels() * (first.shape().fan_out * sizeof(void*) + 8));
    const auto indices = scattered(count);
    double each = 0;
    measure(state, warm, [&] {
        std::vector<Numbers> versions;
        versions.reserve(kVersions);
        const std::size_t before = allocated_bytes();
        const double seconds = seconds_of([&] {
            for (std::size_t i = 0; i < kVersions; ++i) versions.push_back(first.set(indices[i % count], i));
        });
        each = static_cast<double>(allocated_bytes() - before) / kVersions;
        return seconds / kVersions;
    });
    char label[80];
    static_cast<void>(
        std::snprintf(label, sizeof label, "%.0f bytes a version, %.3f of the model", each, each / model));
    state.SetLabel(label);
    check(each < kMost && each <= 1.1 * model, label);
}

void overhead(benchmark::State& state, bool& warm, std::size_t count, std::size_t leaf_bytes, double most) {
    double more = 0;
    measure(state, warm, [&] {
        vmcow::heap::counters() = {};
        const double seconds = seconds_of([&] {
            CountedNumbers::builder all({.leaf_bytes = leaf_bytes});
            for (std::uint64_t i = 0; i < count; ++i) all.push_back(i);
            benchmark::DoNotOptimize(std::move(all).build());
        });
        const auto data = static_cast<double>(count * sizeof(std::uint64_t));
        more = static_cast<double>(vmcow::heap::counters().allocated_bytes) / data - 1;
        return seconds / static_cast<double>(count);
    });
    char label[80];
    static_cast<void>(std::snprintf(label, sizeof label, "%.1f %% beyond the data asked of malloc", more * 100));
    state.SetLabel(label);
    check(more <= most, label);
}

/// Keys in no order, and these again in another one.
struct Keys {
    explicit Keys(std::size_t count) {
        vmcow::measure::Engine engine(20240602);
        for (std::size_t i = 0; i < count; ++i) inserted.push_back(engine());
        sought = inserted;
        for (std::size_t i = count; i > 1; --i) std::swap(sought[i - 1], sought[vmcow::measure::bounded(engine, i)]);
    }
    std::vector<std::uint64_t> inserted;
    std::vector<std::uint64_t> sought;
};

void insert(boost::unordered_map<std::uint64_t, std::uint64_t>& map, std::uint64_t key) { map.emplace(key, key); }
void insert(NumberMap& map, std::uint64_t key) { map.insert_in_place(key, key); }
std::uint64_t value_of(const boost::unordered_map<std::uint64_t, std::uint64_t>& map, std::uint64_t key) {
    return map.find(key)->second;
}
std::uint64_t value_of(const NumberMap& map, std::uint64_t key) { return *map.find(key); }

template <class Map>
void insert_keys(benchmark::State& state, bool& warm, std::size_t count) {
    const Keys keys(count);
    measure(state, warm, [&] {
        Map map;
        const double seconds = seconds_of([&] {
            for (const std::uint64_t key : keys.inserted) insert(map, key);
        });
        check(map.size() == count, "another size");
        return seconds / static_cast<double>(count);
    });
}
template <class Map>
void find_keys(benchmark::State& state, bool& warm, std::size_t count) {
    const Keys keys(count);
    Map map;
    for (const std::uint64_t key : keys.inserted) insert(map, key);
    const auto expected = std::accumulate(keys.sought.begin(), keys.sought.end(), std::uint64_t{0});
    measure_each(state, warm, count, expected, [&] {
        std::uint64_t sum = 0;
        for (const std::uint64_t key : keys.sought) sum += value_of(map, key);
        return sum;
    });
}

}  // namespace

void register_block_rows(const BenchSizes& sizes) {
    constexpr int kRepetitions = 15;
    const std::size_t count = element_count(sizes);
    const auto add = [&](const std::string& name, auto run) { add_row(name, sizes, kRepetitions, run); };
    add("vector/get", [=](auto& state, bool& warm) { get(state, warm, counted_up_vector(count)); });
    add("vector/set", [=](auto& state, bool& warm) { set_vector(state, warm, count); });
    add("vector/iterate", [=](auto& state, bool& warm) { iterate_vector(state, warm, counted_up_vector(count)); });
    add("vector/push_back", [=](auto& state, bool& warm) { push_back(state, warm, count); });
    for (const std::size_t leaf_bytes : {64U, 256U, 4096U}) {
        const std::string leaf = "/" + std::to_string(leaf_bytes);
        add("block_array/get" + leaf,
            [=](auto& state, bool& warm) { get(state, warm, counted_up(count, leaf_bytes)); });
        add("block_array/set_unique" + leaf,
            [=](auto& state, bool& warm) { set_unique(state, warm, count, leaf_bytes); });
        add("block_array/iterate" + leaf,
            [=](auto& state, bool& warm) { iterate(state, warm, counted_up(count, leaf_bytes)); });
        add("block_array/build" + leaf, [=](auto& state, bool& warm) { build(state, warm, count, leaf_bytes); });
    }
    add("block_array/set_shared/256", [=](auto& state, bool& warm) { set_shared(state, warm, count); });
    add("block_array/overhead/64", [=](auto& state, bool& warm) { overhead(state, warm, count, 64, 0.30); });
    add("block_array/overhead/256", [=](auto& state, bool& warm) { overhead(state, warm, count, 256, 0.10); });
    using BoostMap = boost::unordered_map<std::uint64_t, std::uint64_t>;
    add("boost_unordered_map/insert", [=](auto& state, bool& warm) { insert_keys<BoostMap>(state, warm, count); });
    add("boost_unordered_map/find", [=](auto& state, bool& warm) { find_keys<BoostMap>(state, warm, count); });
    add("block_map/insert_unique", [=](auto& state, bool& warm) { insert_keys<NumberMap>(state, warm, count); });
    add("block_map/find", [=](auto& state, bool& warm) { find_keys<NumberMap>(state, warm, count); });
}

}  // namespace bench
