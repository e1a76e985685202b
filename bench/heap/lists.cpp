#include "bench/heap/lists.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmcow/heap/list.hpp"

namespace bench {
namespace {

using List = vmcow::heap::list<std::uint64_t>;

/// Hands out again the memory that was released last. Otherwise whether a copy pays for fresh pages would depend on
/// what ran before.
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

/// Gets fresh pages from the kernel for each allocation, and returns them to the kernel.
template <class T>
class FreshAllocator {
public:
    using value_type = T;  // NOLINT(readability-identifier-naming): the name that containers look for

    FreshAllocator() = default;
    template <class U>
    FreshAllocator(const FreshAllocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor): converts
    [[nodiscard]] T* allocate(std::size_t count) {
        void* const memory =
            ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, std::size_t count) noexcept { ::munmap(memory, count * sizeof(T)); }
    template <class U>
    bool operator==(const FreshAllocator<U>&) const noexcept {
        return true;
    }
};
using FreshList = vmcow::heap::list<std::uint64_t, vmcow::heap::Options{}, FreshAllocator<std::uint64_t>>;

using Vector = std::vector<std::uint64_t>;

/// A million elements of 8 bytes, or fewer for a small value.
std::size_t element_count(const BenchSizes& sizes) {
    return std::min<std::size_t>(1'000'000, sizes.value_bytes / sizeof(std::uint64_t));
}

/// Random places below `count`, the same in every run.
std::vector<std::uint32_t> places(std::size_t count) {
    constexpr std::uint64_t kSeed = 20240601;
    vmcow::meter::RandomEngine engine(kSeed);
    std::vector<std::uint32_t> made(count);
    for (auto& place : made) place = static_cast<std::uint32_t>(vmcow::meter::bounded(engine, count));
    return made;
}

/// Writes to random places of a list that nobody shares, and checks the last write.
RoundsInTurn::Round set_unique(std::size_t count) {
    const Vector zeros(count);
    const auto list = std::make_shared<List>(std::span<const std::uint64_t>(zeros));
    return [list, at = places(count)] {
        List all = std::move(*list);
        std::uint64_t last = 0;
        const double seconds = processor_seconds_of([&] {
            for (const std::uint32_t place : at) all = std::move(all).set(place, ++last);
        });
        expect(all[at.back()] == last, "not written");
        *list = std::move(all);
        return seconds / static_cast<double>(at.size());
    };
}

RoundsInTurn::Round push(std::size_t count) {
    return [count] {
        List list;
        const double seconds = processor_seconds_of([&] {
            for (std::uint64_t i = 0; i < count; ++i) list = std::move(list).push(i);
        });
        expect(list.size() == count && list[count - 1] == count - 1, "not pushed");
        return seconds / static_cast<double>(count);
    };
}

/// Measures a way to push, on at most 64 KiB of elements: one of the two ways copies them all at each push.
template <class Push>
RoundsInTurn::Round push_few(std::size_t count, const Push& push) {
    return [count = std::min<std::size_t>(count, 8192), push] {
        List list;
        const double seconds = processor_seconds_of([&] {
            for (std::uint64_t i = 0; i < count; ++i) push(list, i);
        });
        expect(list.size() == count && list[count - 1] == count - 1, "not pushed");
        return seconds / static_cast<double>(count);
    };
}

template <class SharedList>
RoundsInTurn::Round first_write(std::size_t count) {
    const Vector zeros(count);
    return [base = SharedList(zeros.begin(), zeros.end())] {
        SharedList copy = base;
        const auto write = [&] { copy = std::move(copy).set(7, 1); };
        // The row that is compared with PHP uses the clock that PHP has.
        const double seconds = std::is_same_v<SharedList, FreshList> ? seconds_of(write) : processor_seconds_of(write);
        expect(base[7] == 0 && copy[7] == 1, "not a copy");
        return seconds;
    };
}

RoundsInTurn::Round raw_memcpy(std::size_t count) {
    return [count, base = Vector(count), copy = Vector(count, 1)]() mutable {
        const double seconds = processor_seconds_of([&] {
            std::memcpy(copy.data(), base.data(), count * sizeof(std::uint64_t));
            benchmark::ClobberMemory();
        });
        expect(copy[7] == 0, "not a copy");
        return seconds;
    };
}

}  // namespace

void add_list_rows(const BenchSizes& sizes, HeapRounds& rounds) {
    const std::size_t count = element_count(sizes);
    rounds.set.add("list/set_unique", [=] { return set_unique(count); });
    rounds.build.add("list/push", [=] { return push(count); });
    rounds.build.add("list/push_in_place",
                     [=] { return push_few(count, [](List& list, std::uint64_t i) { list.push_in_place(i); }); });
    rounds.build.add("list/push_lvalue_assigned",
                     [=] { return push_few(count, [](List& list, std::uint64_t i) { list = list.push(i); }); });
    rounds.copy.add("list/first_write_shared", [=] { return first_write<KeepingList>(count); });
    rounds.copy.add("list/first_write_fresh", [=] { return first_write<FreshList>(count); });
    rounds.copy.add("raw/memcpy", [=] { return raw_memcpy(count); });
}

}  // namespace bench
