#include "bench/heap/blocks.hpp"

#include <malloc.h>

#include <boost/unordered_map.hpp>
#include <cstdint>
#include <cstdio>
#include <memory>
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
/// Random indices below `count`, the same in every run.
std::vector<std::uint32_t> scattered(std::size_t count) {
    vmcow::meter::RandomEngine engine(20240601);
    std::vector<std::uint32_t> indices(count);
    for (auto& index : indices) index = static_cast<std::uint32_t>(vmcow::meter::bounded(engine, count));
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

/// A round that calls `work()`, which goes over `count` elements and must return `expected`: the seconds an element.
template <class Work>
RoundsInTurn::Round each(std::size_t count, std::uint64_t expected, Work work) {
    // NOLINTNEXTLINE(bugprone-exception-escape): moving what the closure holds throws nothing
    return [=]() mutable {
        std::uint64_t found = 0;
        const double seconds = processor_seconds_of([&] { found = work(); });
        check(found == expected, "another result");
        return seconds / static_cast<double>(count);
    };
}

template <class Array>
RoundsInTurn::Round get(const Array& array) {
    const auto indices = scattered(array.size());
    const auto expected = std::accumulate(indices.begin(), indices.end(), std::uint64_t{0});
    // NOLINTNEXTLINE(bugprone-exception-escape): moving what the closure holds throws nothing
    return each(array.size(), expected, [indices, array] {
        std::uint64_t sum = 0;
        for (const std::uint32_t index : indices) sum += array[index];
        return sum;
    });
}

RoundsInTurn::Round iterate(const Numbers& array) {
    // NOLINTNEXTLINE(bugprone-exception-escape): moving what the closure holds throws nothing
    return each(array.size(), array.size() * (array.size() - 1) / 2, [array] {
        std::uint64_t sum = 0;
        array.for_each_span([&](std::span<const std::uint64_t> leaf) {
            for (const std::uint64_t element : leaf) sum += element;
        });
        return sum;
    });
}
RoundsInTurn::Round iterate_vector(const Vector& vector) {
    return each(vector.size(), vector.size() * (vector.size() - 1) / 2, [vector] {
        std::uint64_t sum = 0;
        for (const std::uint64_t element : vector) sum += element;
        return sum;
    });
}

/// The array is a local variable of the round, as is the vector in `set_vector`, so that both are stored alike.
RoundsInTurn::Round set_unique(std::size_t count, std::size_t leaf_bytes) {
    const auto array = std::make_shared<Numbers>(counted_up(count, leaf_bytes));
    return [array, indices = scattered(count)] {
        Numbers all = std::move(*array);
        std::uint64_t last = 0;
        const double seconds = processor_seconds_of([&] {
            for (const std::uint32_t index : indices) all = std::move(all).set(index, ++last);
        });
        check(all[indices.back()] == last && all.is_unique(), "not written");
        *array = std::move(all);
        return seconds / static_cast<double>(indices.size());
    };
}

RoundsInTurn::Round set_vector(std::size_t count) {
    const auto vector = std::make_shared<Vector>(counted_up_vector(count));
    return [vector, indices = scattered(count)] {
        Vector all = std::move(*vector);
        std::uint64_t last = 0;
        const double seconds = processor_seconds_of([&] {
            for (const std::uint32_t index : indices) all[index] = ++last;
        });
        check(all[indices.back()] == last, "not written");
        *vector = std::move(all);
        return seconds / static_cast<double>(indices.size());
    };
}

RoundsInTurn::Round build(std::size_t count, std::size_t leaf_bytes) {
    return each(count, count - 1, [=] { return counted_up(count, leaf_bytes).back(); });
}
RoundsInTurn::Round push_back(std::size_t count) {
    return each(count, count - 1, [=] {
        Vector vector;
        for (std::uint64_t i = 0; i < count; ++i) vector.push_back(i);
        return vector.back();
    });
}

/// The bytes that malloc has given out, including its own headers.
std::size_t allocated_bytes() {
    const struct mallinfo2 now = ::mallinfo2();
    return now.uordblks + now.hblkhd;
}

void set_shared(benchmark::State& state, bool& warm, std::size_t count) {
    constexpr std::size_t kVersions = 2'000;
    constexpr double kMost = 900;
    const Numbers first = counted_up(count, 256);
    // A leaf and an inner node for each level, each with a reference count.
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

/// Measures what an array takes beyond its data, in its nodes and from malloc. The second figure includes the headers
/// of malloc's blocks and of chunks, and what is free in the chunks. A small array is judged by its nodes alone,
/// because much of its chunks is free.
void overhead(benchmark::State& state, bool& warm, std::size_t count, std::size_t leaf_bytes, double most) {
    constexpr std::size_t kLarge = std::size_t{4} << 20;
    const std::size_t data_bytes = count * sizeof(std::uint64_t);
    const auto beyond = [&](std::uint64_t bytes) {
        return static_cast<double>(bytes) / static_cast<double>(data_bytes) - 1;
    };
    double in_nodes = 0;
    double in_malloc = 0;
    measure(state, warm, [&] {
        const std::size_t before = allocated_bytes();
        vmcow::heap::counters() = {};
        CountedNumbers array;
        const double seconds = seconds_of([&] {
            CountedNumbers::builder all({.leaf_bytes = leaf_bytes});
            for (std::uint64_t i = 0; i < count; ++i) all.push_back(i);
            array = std::move(all).build();
        });
        in_nodes = beyond(vmcow::heap::counters().allocated_bytes);
        in_malloc = beyond(allocated_bytes() - before);
        check(array.size() == count, "another size");
        return seconds / static_cast<double>(count);
    });
    char label[80];
    static_cast<void>(std::snprintf(label, sizeof label, "%.1f %% beyond the data in nodes, %.1f %% of malloc",
                                    in_nodes * 100, in_malloc * 100));
    state.SetLabel(label);
    check(in_nodes <= most && (data_bytes < kLarge || in_malloc <= most), label);
}

/// Random keys, and the same keys in another random order.
struct Keys {
    explicit Keys(std::size_t count) {
        vmcow::meter::RandomEngine engine(20240602);
        for (std::size_t i = 0; i < count; ++i) inserted.push_back(engine());
        sought = inserted;
        for (std::size_t i = count; i > 1; --i) std::swap(sought[i - 1], sought[vmcow::meter::bounded(engine, i)]);
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
RoundsInTurn::Round insert_keys(std::size_t count) {
    return [keys = Keys(count)] {
        Map map;
        const double seconds = processor_seconds_of([&] {
            for (const std::uint64_t key : keys.inserted) insert(map, key);
        });
        check(map.size() == keys.inserted.size(), "another size");
        return seconds / static_cast<double>(keys.inserted.size());
    };
}
template <class Map>
RoundsInTurn::Round find_keys(std::size_t count) {
    const Keys keys(count);
    const auto map = std::make_shared<Map>();
    for (const std::uint64_t key : keys.inserted) insert(*map, key);
    const auto expected = std::accumulate(keys.sought.begin(), keys.sought.end(), std::uint64_t{0});
    return each(count, expected, [map, sought = keys.sought] {
        std::uint64_t sum = 0;
        for (const std::uint64_t key : sought) sum += value_of(*map, key);
        return sum;
    });
}

}  // namespace

void add_block_rows(const BenchSizes& sizes, HeapRounds& rounds) {
    const std::size_t count = element_count(sizes);
    rounds.get.add("vector/get", [=] { return get(counted_up_vector(count)); });
    rounds.set.add("vector/set", [=] { return set_vector(count); });
    rounds.iterate.add("vector/iterate", [=] { return iterate_vector(counted_up_vector(count)); });
    rounds.build.add("vector/push_back", [=] { return push_back(count); });
    for (const std::size_t leaf_bytes : {64U, 256U, 4096U}) {
        const std::string leaf = "/" + std::to_string(leaf_bytes);
        rounds.get.add("block_array/get" + leaf, [=] { return get(counted_up(count, leaf_bytes)); });
        rounds.set.add("block_array/set_unique" + leaf, [=] { return set_unique(count, leaf_bytes); });
        rounds.iterate.add("block_array/iterate" + leaf, [=] { return iterate(counted_up(count, leaf_bytes)); });
        rounds.build.add("block_array/build" + leaf, [=] { return build(count, leaf_bytes); });
    }
    const auto add = [&](const std::string& name, auto run) { add_row(name, sizes, HeapRounds::kRepetitions, run); };
    add("block_array/set_shared/256", [=](auto& state, bool& warm) { set_shared(state, warm, count); });
    add("block_array/overhead/64", [=](auto& state, bool& warm) { overhead(state, warm, count, 64, 0.30); });
    add("block_array/overhead/256", [=](auto& state, bool& warm) { overhead(state, warm, count, 256, 0.10); });
    using BoostMap = boost::unordered_map<std::uint64_t, std::uint64_t>;
    rounds.insert_key.add("boost_unordered_map/insert", [=] { return insert_keys<BoostMap>(count); });
    rounds.insert_key.add("block_map/insert_unique", [=] { return insert_keys<NumberMap>(count); });
    rounds.find_key.add("boost_unordered_map/find", [=] { return find_keys<BoostMap>(count); });
    rounds.find_key.add("block_map/find", [=] { return find_keys<NumberMap>(count); });
}

}  // namespace bench
