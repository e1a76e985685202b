#include "bench/call/pool_calls.hpp"

#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "procrun/pool.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace bench {
namespace {

using procrun::Pool;
using vmcow::Arena;
using vmcow::Snapshot;

constexpr std::uint64_t kWritten = 7;
constexpr std::size_t kMiB = std::size_t{1} << 20;

std::unique_ptr<Pool> pool;
// The offsets are made before the pool, so that the workers inherit them and a call carries only numbers.
std::vector<std::size_t> offsets_of_16;
std::vector<std::size_t> offsets_of_256;
std::vector<std::size_t> offsets_of_4096;

const std::vector<std::size_t>& offsets(std::size_t count) {
    if (count == 16) return offsets_of_16;
    return count == 256 ? offsets_of_256 : offsets_of_4096;
}

// ---- what the function processes run

std::uint64_t nothing() { return kWritten; }

std::uint64_t first_byte(std::span<std::byte> value) { return static_cast<std::uint64_t>(value[0]); }

void write_all(std::span<std::byte> value, const std::vector<std::size_t>& at) {
    for (const std::size_t offset : at) std::memcpy(value.data() + offset, &kWritten, sizeof(kWritten));
}

std::uint64_t write_pages(std::span<std::byte> value, std::size_t count) {
    write_all(value, offsets(count));
    return static_cast<std::uint64_t>(value[offsets(count)[0]]);
}

void change_pages(std::span<std::byte> value, std::size_t count) { write_all(value, offsets(count)); }

// ---- rows

Arena filled_arena(std::size_t bytes) {
    Arena arena({.name = "bench"});
    std::memset(arena.allocate(bytes), kFilled, bytes);
    return arena;
}

template <class Result>
void expect_ok(const Result& result) {
    if (!result.ok()) throw std::runtime_error(result.outcome().describe());
}

void call_null(benchmark::State& state, bool& warm) {
    measure(state, warm, [] { return seconds_of_each(5000, [] { expect_ok(pool->call(nothing)); }); });
}

void call_by_value(benchmark::State& state, bool& warm, const std::optional<Snapshot>& value) {
    measure(state, warm, [&] { return seconds_of_each(5000, [&] { expect_ok(pool->call(first_byte, *value)); }); });
    expect(pool->call(first_byte, *value).cost().copied == vmcow::PageCount{}, "a page was copied");
}

void call_by_value_write(benchmark::State& state, bool& warm, const Snapshot& value, std::size_t count) {
    const int rounds = count > 1000 ? 5 : 400;
    for (int i = 0; !warm && i < 20; ++i) expect_ok(pool->call(write_pages, value, count));
    measure(state, warm,
            [&] { return seconds_of_each(rounds, [&] { expect_ok(pool->call(write_pages, value, count)); }); });
    const auto last = pool->call(write_pages, value, count);
    expect(last.cost().changed == vmcow::PageCount{offsets(count).size()}, "not every page was changed");
    state.SetLabel(std::string(name_of(last.cost().images()[0].path)));
    expect(value.bytes()[offsets(count)[0]] == std::byte{kFilled}, "by value");
}

void call_apply_write(benchmark::State& state, bool& warm, const Snapshot& value, std::size_t count) {
    const int rounds = count > 1000 ? 5 : 400;
    for (int i = 0; !warm && i < 20; ++i) expect_ok(pool->apply(change_pages, value, count));
    measure(state, warm,
            [&] { return seconds_of_each(rounds, [&] { expect_ok(pool->apply(change_pages, value, count)); }); });
    const Snapshot changed = pool->apply(change_pages, value, count).value();
    expect(changed.delta_pages() == vmcow::PageCount{offsets(count).size()}, "not every page came back");
}

void call_moved_write(benchmark::State& state, bool& warm, Arena& value) {
    const auto move_there_and_back = [&] {
        auto result = pool->apply(change_pages, std::move(value), std::size_t{256});
        expect_ok(result);
        value = std::move(result).value();
    };
    for (int i = 0; !warm && i < 100; ++i) move_there_and_back();
    measure(state, warm, [&] { return seconds_of_each(5000, move_there_and_back); });
    expect(value.bytes()[offsets(256)[0]] == std::byte{kWritten}, "not changed in place");
}

// ---- all of them

template <class Value>
void add_sizes(const BenchSizes& sizes, const Value& whole) {
    const auto add = [&](const std::string& name, std::size_t bytes, bool sparse) {
        add_row("call/by_value/" + name, sizes, 21, [=](benchmark::State& state, bool& warm) {
            const std::size_t most = whole().extent_bytes();
            std::optional<Snapshot> value;
            if (sparse && most == std::size_t{1} << 30) {
                Arena arena({.name = "sparse"});
                arena.allocate_sparse(bytes);
                value = std::move(arena).freeze();
            } else {
                value = bytes < most ? filled_arena(bytes).freeze() : whole();
            }
            call_by_value(state, warm, value);
        });
    };
    add("1MiB", kMiB, false);
    add("64MiB", 64 * kMiB, false);
    add("1GiB", std::size_t{1} << 30, false);
    add("16GiB", std::size_t{16} << 30, true);
}

}  // namespace

void register_pool_rows(const BenchSizes& sizes) {
    offsets_of_16 = scattered_offsets(sizes.value_bytes, 16);
    offsets_of_256 = scattered_offsets(sizes.value_bytes, 256);
    offsets_of_4096 = scattered_offsets(sizes.value_bytes, 4096);
    pool = std::make_unique<Pool>(procrun::PoolOptions{.idle_time = std::chrono::minutes(10)});
    const auto whole = std::make_shared<std::optional<Snapshot>>();
    const auto value = [whole, bytes = sizes.value_bytes]() -> const Snapshot& {
        if (!*whole) *whole = filled_arena(bytes).freeze();
        return **whole;
    };
    add_row("call/null", sizes, 51, call_null);
    add_sizes(sizes, value);
    for (const std::size_t count : {16U, 256U, 4096U}) {
        add_row("call/by_value_write/" + std::to_string(count), sizes, 11,
                [value, count](auto& state, bool& warm) { call_by_value_write(state, warm, value(), count); });
        add_row("call/apply_write/" + std::to_string(count), sizes, 11,
                [value, count](auto& state, bool& warm) { call_apply_write(state, warm, value(), count); });
    }
    add_row("call/moved_write/256", sizes, 21,
            [moved = std::make_shared<std::optional<Arena>>(), bytes = sizes.value_bytes](auto& state, bool& warm) {
                if (!*moved) *moved = filled_arena(bytes);
                call_moved_write(state, warm, **moved);
            });
}

void end_pool() { pool.reset(); }

}  // namespace bench
