// Very many values and versions that come and go, of every size: what they hold does not grow, and each has what was
// written to it. VMCOW_SOAK_SECONDS=600 lets it go on for ten minutes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "tests/support/held_by.hpp"
#include "tests/support/pools.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::Pool;
using vmcow::Value;

using Small = Value<std::array<std::uint64_t, 3>>;
using Block = Value<std::uint64_t[]>;
using Container = Value<vmcow::vector<std::uint64_t>>;

constexpr std::size_t kLive = 2000;
constexpr std::size_t kVersions = 3000;

/// A value, and the number that was written to it last. The number is what it begins and ends with.
struct Marked {
    std::variant<Small, Block, Container> value = Small(std::array<std::uint64_t, 3>{});
    std::uint64_t mark = 0;
};

std::uint64_t first_and_last(std::span<const std::uint64_t> numbers) { return numbers.front() ^ (numbers.back() << 1); }
std::uint64_t read_first_and_last(std::span<const std::uint64_t> numbers) { return first_and_last(numbers); }
void write_first_and_last(std::span<std::uint64_t> numbers, std::uint64_t mark) {
    numbers.front() = numbers.back() = mark;
}

class Crowd {
public:
    Crowd() : live_(kLive), versions_(kVersions) {}

    void step(Pool& pool) {
        Marked& one = live_[random_() % kLive];
        const std::uint64_t what = random_() % 1000;
        if (what < 300) {
            make(one);
        } else if (what < 500) {
            one = live_[random_() % kLive];
        } else if (what < 700) {
            edit(one);
        } else if (what < 900) {
            versions_[next_version_++ % kVersions] = one;
            edit(one);
        } else if (what < 985) {
            check(versions_[random_() % kVersions]);
        } else if (what < 998) {
            call(one, pool);
        } else {
            fork(one);
        }
        check(one);
        ++steps_;
    }
    [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }
    [[nodiscard]] std::uint64_t made() const noexcept { return made_; }
    [[nodiscard]] std::uint64_t versions() const noexcept { return next_version_; }

private:
    void make(Marked& one) {
        ++made_;
        const std::uint64_t what = random_() % 1000;
        if (what < 500) {
            one.value = Small(std::array<std::uint64_t, 3>{});
        } else if (what < 900) {
            one.value = Block(std::size_t{1} << (random_() % 13));  // 8 bytes to 32 KiB
        } else if (what < 998) {
            one.value = Container(std::in_place, std::size_t{1} + random_() % 500, std::uint64_t{0});
        } else {
            one.value = Block((std::size_t{3} << 20) / sizeof(std::uint64_t));  // an image of its own
        }
        one.mark = 0;
        edit(one);
    }
    void edit(Marked& one) {
        const std::uint64_t mark = ++last_mark_;
        if (auto* const small = std::get_if<Small>(&one.value)) {
            small->edit([&](auto& numbers) { write_first_and_last(numbers, mark); });
        } else if (auto* const block = std::get_if<Block>(&one.value)) {
            block->edit([&](std::span<std::uint64_t> numbers) { write_first_and_last(numbers, mark); });
        } else {
            std::get<Container>(one.value).edit([&](auto& numbers) {
                if (numbers.size() > 4000) numbers.resize(10);
                numbers.push_back(mark);
                write_first_and_last({numbers.data(), numbers.size()}, mark);
            });
        }
        one.mark = mark;
    }
    static std::uint64_t read(const Marked& one) {
        if (const auto* const small = std::get_if<Small>(&one.value)) return first_and_last(small->read());
        if (const auto* const block = std::get_if<Block>(&one.value)) return first_and_last(block->read());
        const auto& numbers = std::get<Container>(one.value).read();
        return first_and_last({numbers.data(), numbers.size()});
    }
    static void expect_mark(const Marked& one, std::uint64_t seen) {
        if (seen != (one.mark ^ (one.mark << 1))) throw std::logic_error("a value is not what was written to it");
    }
    static void check(const Marked& one) { expect_mark(one, read(one)); }
    void call(Marked& one, Pool& pool) {
        auto* const block = std::get_if<Block>(&one.value);
        if (block == nullptr) return;
        expect_mark(one, pool.call(read_first_and_last, *block).value());
        const std::uint64_t mark = ++last_mark_;
        *block = pool.apply(write_first_and_last, std::move(*block), mark).value();
        one.mark = mark;
    }
    static void fork(const Marked& one) {
        expect_mark(one, procrun::fork_call([&] { return read(one); }).value());
    }

    std::vector<Marked> live_;
    std::vector<Marked> versions_;
    std::mt19937_64 random_{7};  // NOLINT(cert-msc32-c,cert-msc51-cpp): each run is the same
    std::uint64_t last_mark_ = 0;
    std::uint64_t next_version_ = 0;
    std::uint64_t made_ = 0;
    std::uint64_t steps_ = 0;
};

/// The most that was held at one time.
struct Most {
    tests::Held held;
    std::uint64_t store_bytes = 0;

    void note() {
        const tests::Held now = tests::held_by(::getpid());
        held.descriptors = std::max(held.descriptors, now.descriptors);
        held.mappings = std::max(held.mappings, now.mappings);
        held.anonymous_kib = std::max(held.anonymous_kib, now.anonymous_kib);
        held.addresses_kib = std::max(held.addresses_kib, now.addresses_kib);
        store_bytes = std::max(store_bytes, vmcow::PageStore::held_bytes());
    }
    void print(const char* when) const {
        std::cout << "[   MOST   ] " << when << ": " << held.descriptors << " descriptors, " << held.mappings
                  << " mappings, " << (held.anonymous_kib >> 10) << " MiB, " << (store_bytes >> 20)
                  << " MiB in the store, " << (held.addresses_kib >> 20) << " GiB of addresses\n";
    }
};

Most most_within(Crowd& crowd, Pool& pool, std::chrono::steady_clock::duration time) {
    const auto end = std::chrono::steady_clock::now() + time;
    Most most;
    do {
        for (int i = 0; i < 5000; ++i) crowd.step(pool);
        most.note();
    } while (std::chrono::steady_clock::now() < end);
    return most;
}

TEST(ValueSoakTest, MillionsOfValuesAndVersionsHoldNoMoreThanThousands) {
    const char* const wanted = std::getenv("VMCOW_SOAK_SECONDS");
    const std::chrono::milliseconds all = std::chrono::seconds(wanted == nullptr ? 9 : std::max(3, std::atoi(wanted)));
    Pool pool(tests::workers(1));
    Crowd crowd;
    const Most before = most_within(crowd, pool, all / 3);
    const Most after = most_within(crowd, pool, 2 * all / 3);
    before.print("the first third");
    after.print("after it");
    std::cout << "[   STEPS  ] " << crowd.steps() << ": " << crowd.made() << " values, " << crowd.versions()
              << " versions\n";
    // A quarter more, because sizes are drawn at random; a value of 3 MiB takes a descriptor and some mappings.
    EXPECT_LE(after.held.descriptors, before.held.descriptors * 5 / 4 + 20);
    EXPECT_LE(after.held.mappings, before.held.mappings * 5 / 4 + 100);
    EXPECT_LE(after.held.anonymous_kib, before.held.anonymous_kib * 5 / 4 + (32 << 10));
    EXPECT_LE(after.store_bytes, before.store_bytes * 5 / 4 + (64 << 20));
    EXPECT_LE(after.held.addresses_kib, before.held.addresses_kib * 5 / 4);
}

}  // namespace
