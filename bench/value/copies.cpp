#include "bench/value/copies.hpp"

#include "vmcow/containers.hpp"
#include "vmcow/value_merge.hpp"

namespace bench {
namespace {

constexpr std::byte kChanged{7};
constexpr std::size_t kPagesEach = 256;
constexpr std::size_t kNumbers = 16;

void touch(Bytes& value) {
    value.edit([](std::span<std::byte> bytes) { bytes[kTouched] = kChanged; });
}

/// Which part of a first copy is timed.
enum class Counted { all, copy, edit };

void copy_first(benchmark::State& state, bool& warm, std::size_t bytes, Counted counted) {
    measure(state, warm, [&] {
        const Bytes original = filled_value(bytes);
        std::optional<Bytes> copy;
        const double copying = seconds_of([&] { copy = original; });
        const double editing = seconds_of([&] { touch(*copy); });
        expect(original[kTouched] == std::byte{kFilled} && (*copy)[kTouched] == kChanged, "not independent");
        expect((*copy)[bytes - 1] == std::byte{kFilled}, "not a copy");
        if (counted == Counted::all) return copying + editing;
        return counted == Counted::copy ? copying : editing;
    });
}

void copy_further(benchmark::State& state, bool& warm, const Bytes& base, bool edited) {
    Bytes first = base;
    touch(first);  // from here on the base is frozen
    measure(state, warm, [&] {
        return seconds_of_each(edited ? 200 : 100'000, [&] {
            Bytes copy = base;
            if (edited) touch(copy);
            benchmark::DoNotOptimize(copy);
        });
    });
    expect(base[kTouched] == std::byte{kFilled} && first[kTouched] == kChanged, "not independent");
}

void raw_memcpy(benchmark::State& state, bool& warm, std::size_t bytes) {
    const std::vector<std::byte> from = filled_heap(bytes);
    std::vector<std::byte> to(bytes);
    measure(state, warm, [&] {
        return seconds_of([&] {
            std::memcpy(to.data(), from.data(), bytes);
            benchmark::ClobberMemory();
        });
    });
    expect(to[kTouched] == std::byte{kFilled} && to[bytes - 1] == std::byte{kFilled}, "not a copy");
}

// ---- differences

/// Two copies of the base, each changed on other pages.
struct Relatives {
    explicit Relatives(const Bytes& base) : a(base), b(base) {
        const std::vector<std::size_t> all = scattered_offsets(base.size(), 2 * kPagesEach);
        const std::span<const std::size_t> offsets(all);
        pages = offsets.size();
        a.edit([&](std::span<std::byte> bytes) { write_words(bytes.data(), offsets.first(pages / 2), 1); });
        b.edit([&](std::span<std::byte> bytes) { write_words(bytes.data(), offsets.subspan(pages / 2), 2); });
        // A diff begins with snapshots. Taking them now keeps the page scans out of the time.
        static_cast<void>(a.snapshot());
        static_cast<void>(b.snapshot());
    }

    Bytes a;
    Bytes b;
    std::size_t pages = 0;
};

void value_diff(benchmark::State& state, bool& warm, const Bytes& base) {
    const Relatives relatives(base);
    measure(state, warm, [&] {
        return seconds_of_each(20, [&] {
            const vmcow::Diff found = vmcow::diff(relatives.a, relatives.b);
            expect(found.related && found.pages_changed.value == relatives.pages, "other differences");
        });
    });
}

void value_merge(benchmark::State& state, bool& warm, const Bytes& base) {
    const Relatives relatives(base);
    const std::vector<Bytes> sides{relatives.a, relatives.b};
    measure(state, warm, [&] {
        return seconds_of_each(20, [&] {
            const auto merged = vmcow::merge(base, sides);
            expect(merged.ok() && merged.counts().pages_taken.value == relatives.pages, "another merge");
        });
    });
}

void raw_memcmp(benchmark::State& state, bool& warm, std::size_t bytes) {
    const std::vector<std::size_t> offsets = scattered_offsets(bytes, 2 * kPagesEach);
    const std::vector<std::byte> a = filled_heap(bytes);
    std::vector<std::byte> b = filled_heap(bytes);
    write_words(b.data(), offsets, 1);
    measure(state, warm, [&] {
        return seconds_of([&] {
            std::size_t changed = 0;
            for (std::size_t at = 0; at < bytes; at += vmcow::kPageBytes) {
                const std::size_t count = std::min(bytes - at, vmcow::kPageBytes);
                changed += std::memcmp(a.data() + at, b.data() + at, count) != 0 ? 1U : 0U;
            }
            expect(changed == offsets.size(), "other differences");
        });
    });
}

// ---- small ones

template <class Make>
void make_small(benchmark::State& state, bool& warm, Make make) {
    measure(state, warm, [&] {
        return seconds_of_each(1000, [&] {
            auto made = make();
            benchmark::DoNotOptimize(made);
        });
    });
}

/// Each round begins with an empty vector, so that the mean includes what growing costs.
template <class Vector, class Push>
void push_many(benchmark::State& state, bool& warm, Push push) {
    constexpr int kPushes = 100'000;
    measure(state, warm, [&] {
        Vector vector{};
        int next = 0;
        const double seconds = seconds_of_each(kPushes, [&] { push(vector, next++); });
        benchmark::DoNotOptimize(vector);
        return seconds;
    });
}

using Numbers = vmcow::vector<int>;
using NumbersValue = vmcow::Value<Numbers>;

void add_small_rows(const BenchSizes& sizes) {
    using benchmark::State;
    add_row("value/make_small", sizes, 11, [](State& state, bool& warm) {
        make_small(state, warm, [] { return NumbersValue(std::in_place, kNumbers, 1); });
    });
    add_row("raw/make_vector", sizes, 11,
            [](State& state, bool& warm) { make_small(state, warm, [] { return std::vector<int>(kNumbers, 1); }); });
    add_row("value/push", sizes, 11, [](State& state, bool& warm) {
        push_many<NumbersValue>(state, warm, [](NumbersValue& value, int number) {
            value.edit([number](Numbers& numbers) { numbers.push_back(number); });
        });
    });
    add_row("raw/push", sizes, 11, [](State& state, bool& warm) {
        push_many<std::vector<int>>(state, warm, [](std::vector<int>& numbers, int number) {
            numbers.push_back(number);
            benchmark::ClobberMemory();
        });
    });
}

}  // namespace

void register_copy_rows(const BenchSizes& sizes, const BaseValue& base) {
    using benchmark::State;
    const std::size_t bytes = sizes.value_bytes;
    const auto add_first = [&](const char* name, Counted counted) {
        add_row(name, sizes, 9, [=](State& state, bool& warm) { copy_first(state, warm, bytes, counted); });
    };
    add_first("value/copy_first/1GiB", Counted::all);
    add_first("value/copy_handle/1GiB", Counted::copy);
    add_first("value/edit_shared/1GiB", Counted::edit);
    add_row("value/copy/1GiB", sizes, 11, [=](State& state, bool& warm) { copy_further(state, warm, base(), false); });
    add_row("value/copy_and_edit/1GiB", sizes, 11,
            [=](State& state, bool& warm) { copy_further(state, warm, base(), true); });
    add_row("raw/memcpy/1GiB", sizes, 5, [=](State& state, bool& warm) { raw_memcpy(state, warm, bytes); });
    add_row("value/diff/1GiB", sizes, 11, [=](State& state, bool& warm) { value_diff(state, warm, base()); });
    add_row("value/merge/1GiB", sizes, 11, [=](State& state, bool& warm) { value_merge(state, warm, base()); });
    add_row("raw/memcmp/1GiB", sizes, 5, [=](State& state, bool& warm) { raw_memcmp(state, warm, bytes); });
    add_small_rows(sizes);
}

}  // namespace bench
