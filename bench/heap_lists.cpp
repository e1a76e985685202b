#include "bench/heap_lists.hpp"

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#include "vmcow/heap/list.hpp"

namespace bench {
namespace {

using List = vmcow::heap::list<std::uint64_t>;

/// Hands out again what was given back last: else it depends on what ran before whether a copy pays for fresh pages.
template <class T>
class KeepingAllocator {
public:
    using value_type = T;  // NOLINT(readability-identifier-naming): the name that containers look for

    KeepingAllocator() = default;
    template <class U>
    KeepingAllocator(const KeepingAllocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor): converts
    [[nodiscard]] T* allocate(std::size_t count) {
        if (kept && kept_count == count) return kept.release();
        return static_cast<T*>(::operator new(count * sizeof(T)));
    }
    void deallocate(T* memory, std::size_t count) noexcept {
        kept.reset(memory);
        kept_count = count;
    }
    template <class U>
    bool operator==(const KeepingAllocator<U>&) const noexcept {
        return true;
    }

private:
    struct Delete {
        void operator()(T* memory) const noexcept { ::operator delete(memory); }
    };
    static inline std::unique_ptr<T, Delete> kept;
    static inline std::size_t kept_count = 0;
};
using KeepingList = vmcow::heap::list<std::uint64_t, vmcow::heap::Options{}, KeepingAllocator<std::uint64_t>>;

using Vector = std::vector<std::uint64_t>;

/// A million elements of 8 bytes; small values have fewer.
std::size_t element_count(const BenchSizes& sizes) {
    return std::min<std::size_t>(1'000'000, sizes.value_bytes / sizeof(std::uint64_t));
}

/// Places all over, in no order, the same in every run.
std::vector<std::uint32_t> places(std::size_t count) {
    constexpr std::uint64_t kSeed = 20240601;
    vmcow::measure::Engine engine(kSeed);
    std::vector<std::uint32_t> made(count);
    for (auto& place : made) place = static_cast<std::uint32_t>(vmcow::measure::bounded(engine, count));
    return made;
}

void expect(bool condition, const char* what) {
    if (!condition) throw std::runtime_error(what);
}

/// Writes to all places of `structure` in turn, and looks whether that was done.
template <class Structure, class Write>
void measure_writes(benchmark::State& state, bool& warm, std::size_t count, const Write& write) {
    const std::vector<std::uint32_t> at = places(count);
    const Vector zeros(count);
    Structure structure(zeros.begin(), zeros.end());
    std::uint64_t last = 0;
    measure(state, warm, [&] {
        const double seconds = seconds_of([&] {
            for (const std::uint32_t place : at) write(structure, place, ++last);
        });
        return seconds / static_cast<double>(count);
    });
    expect(structure[at.back()] == last, "not written");
}

template <class Structure, class Push>
void measure_pushes(benchmark::State& state, bool& warm, std::size_t count, const Push& push) {
    measure(state, warm, [&] {
        Structure structure;
        const double seconds = seconds_of([&] {
            for (std::uint64_t i = 0; i < count; ++i) push(structure, i);
        });
        expect(structure.size() == count && structure[count - 1] == count - 1, "not pushed");
        return seconds / static_cast<double>(count);
    });
}

void first_write(benchmark::State& state, bool& warm, std::size_t count) {
    const Vector zeros(count);
    const KeepingList base(zeros.begin(), zeros.end());
    measure(state, warm, [&] {
        KeepingList copy = base;
        const double seconds = seconds_of([&] { copy = std::move(copy).set(7, 1); });
        expect(base[7] == 0 && copy[7] == 1, "not a copy");
        return seconds;
    });
}

void raw_memcpy(benchmark::State& state, bool& warm, std::size_t count) {
    const Vector base(count);
    Vector copy(count, 1);
    measure(state, warm, [&] {
        const double seconds = seconds_of([&] {
            std::memcpy(copy.data(), base.data(), count * sizeof(std::uint64_t));
            benchmark::ClobberMemory();
        });
        expect(copy[7] == 0, "not a copy");
        return seconds;
    });
}

}  // namespace

void register_list_rows(const BenchSizes& sizes) {
    constexpr int kRepetitions = 15;
    const std::size_t count = element_count(sizes);
    add_row("list/set_unique", sizes, kRepetitions, [count](benchmark::State& state, bool& warm) {
        measure_writes<List>(state, warm, count, [](List& list, std::uint32_t at, std::uint64_t value) {
            list = std::move(list).set(at, value);
        });
    });
    add_row("list/push", sizes, kRepetitions, [count](benchmark::State& state, bool& warm) {
        measure_pushes<List>(state, warm, count,
                             [](List& list, std::uint64_t value) { list = std::move(list).push(value); });
    });
    add_row("list/first_write_shared", sizes, kRepetitions,
            [count](benchmark::State& state, bool& warm) { first_write(state, warm, count); });
    add_row("raw/memcpy", sizes, kRepetitions,
            [count](benchmark::State& state, bool& warm) { raw_memcpy(state, warm, count); });
}

}  // namespace bench
