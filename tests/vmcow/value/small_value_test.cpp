// Tests small values, which are ordinary memory without a descriptor or a mapping and differ from others only in cost.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/process_counts.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/value.hpp"
#include "vmcow/value/edit_room.hpp"
#include "vmcow/value_merge.hpp"

namespace {

using tests::descriptors;
using tests::kHeapMappings;
using tests::mappings;
using vmcow::PageCount;
using vmcow::Snapshot;
using vmcow::Value;
using vmcow::ValueBlock;
using Numbers = vmcow::vector<long>;

struct Three {
    double x = 1;
    double y = 2;
    double z = 3;
};

struct alignas(64) Line {
    std::uint64_t word = 7;
};

bool is_in_block(const auto& value) { return value.handle()->block_bytes().has_value(); }

// ---- costs of small values

TEST(SmallValueTest, ThousandsTakeNoDescriptorAndNoMapping) {
    constexpr int kMany = 20'000;
    std::vector<Value<Three>> structs;
    std::vector<Value<long[]>> arrays;
    std::vector<Value<Numbers>> containers;
    // Makes the rooms and the first chunk of the store before counting.
    for (int i = 0; i < 100; ++i) containers.emplace_back(Numbers{1, 2, 3});
    arrays.emplace_back(std::size_t{1000});
    const std::size_t files = descriptors();
    const std::size_t mapped = mappings();
    for (int i = 0; i < kMany; ++i) {
        structs.emplace_back(Three{.x = double(i)});
        arrays.emplace_back(Value<long[]>{i, i + 1});
        containers.emplace_back(Numbers{i, i + 1, i + 2});
    }
    EXPECT_EQ(descriptors(), files);
    EXPECT_LE(mappings(), mapped + kHeapMappings) << "the heap of the process may have grown";
    for (int i = 0; i < kMany; ++i) {
        const auto at = static_cast<std::size_t>(i);
        ASSERT_EQ(structs[at]->x, i);
        ASSERT_EQ(arrays[at + 1][1], i + 1);
        ASSERT_EQ(containers[at + 100]->back(), i + 2);
    }
}

TEST(SmallValueTest, MiddleSizedOnesShareAFewDescriptorsFrozenOrNot) {
    constexpr std::size_t kMany = 2000;
    constexpr std::size_t kNumbers = 8192;
    const std::size_t files = descriptors();
    const std::size_t mapped = mappings();
    std::vector<Value<long[]>> values;
    std::vector<Snapshot> frozen;
    for (std::size_t i = 0; i < kMany; ++i) {
        values.emplace_back(kNumbers);
        values.back().edit([&](std::span<long> numbers) { numbers[i % kNumbers] = static_cast<long>(i); });
        if (i % 2 == 0) frozen.push_back(values.back().snapshot());
    }
    EXPECT_LE(descriptors(), files + 24) << "of 125 MiB";
    EXPECT_LE(mappings(), mapped + 40 + kHeapMappings);
    for (std::size_t i = 0; i < kMany; ++i) ASSERT_EQ(values[i][i % kNumbers], static_cast<long>(i));
    for (std::size_t i = 0; i < frozen.size(); ++i) {
        const auto* const numbers = reinterpret_cast<const long*>(frozen[i].bytes().data());
        ASSERT_EQ(numbers[(2 * i) % kNumbers], static_cast<long>(2 * i));
    }
}

TEST(SmallValueTest, AllOfItGoesBack) {
    const std::uint64_t before = vmcow::PageStore::used_bytes();
    {
        std::vector<Value<long[]>> values;
        for (int i = 0; i < 500; ++i) values.emplace_back(std::size_t{1000});
        const Snapshot one = values[7].snapshot();
        EXPECT_GE(vmcow::PageStore::used_bytes() - before, 500U * 8000U);
    }
    EXPECT_EQ(vmcow::PageStore::used_bytes(), before);
}

// ---- sharing and changing

TEST(SmallValueTest, ASharedOneIsCopiedAsAWholeWhenItIsEdited) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{100}, std::size_t{600}, std::size_t{20'000}}) {
        Value<long[]> a(count);
        a.edit([](std::span<long> all) { std::iota(all.begin(), all.end(), 0); });
        EXPECT_EQ(a.changes().copied, PageCount{});
        const Value<long[]> b = a;
        EXPECT_EQ(a.read().data(), b.read().data());
        a.edit([](std::span<long> all) { all.back() = -1; });
        EXPECT_NE(a.read().data(), b.read().data());
        EXPECT_EQ(a.changes().copied, vmcow::pages_of(count * sizeof(long)));
        EXPECT_EQ(b.changes().copied, PageCount{});
        EXPECT_EQ(a[count - 1], -1);
        EXPECT_EQ(b[count - 1], static_cast<long>(count) - 1);
        const long* const place = a.read().data();
        a.edit([](std::span<long> all) { all.front() = -2; });
        EXPECT_EQ(a.read().data(), place) << "nobody shares it any more";
    }
}

TEST(SmallValueTest, ASnapshotOfStoredPagesIsNoCopyAndStaysAsItWas) {
    Value<long[]> value(4096);
    value.edit([](std::span<long> all) { all[9] = 9; });
    const long* const place = value.read().data();
    const std::uint64_t used = vmcow::PageStore::used_bytes();
    const Snapshot before = value.snapshot();
    EXPECT_EQ(vmcow::PageStore::used_bytes(), used);
    EXPECT_EQ(static_cast<const void*>(before.bytes().data()), place);
    EXPECT_EQ(value.snapshot().layers(), before.layers()) << "it is the same until something changes";
    value.edit([](std::span<long> all) { all[9] = 10; });
    EXPECT_EQ(reinterpret_cast<const long*>(before.bytes().data())[9], 9);
    EXPECT_EQ(value[9], 10);
    EXPECT_NE(value.snapshot().layers(), before.layers());
}

TEST(SmallValueTest, SeveralThreadsMayTakeTheFirstSnapshot) {
    for (int round = 0; round < 50; ++round) {
        const Value<long[]> value(round % 2 == 0 ? 10 : 1000);
        std::array<std::shared_ptr<const vmcow::Layers>, 4> layers;
        std::vector<std::thread> threads;
        for (auto& each : layers) {
            threads.emplace_back([&] {
                EXPECT_EQ(value.read().back(), 0);
                each = value.snapshot().layers();
                EXPECT_EQ(value.extent_bytes(), value.size() * sizeof(long));
            });
        }
        for (std::thread& thread : threads) thread.join();
        for (const auto& each : layers) EXPECT_EQ(each, layers.front());
    }
}

TEST(SmallValueTest, CopiesMayBeEditedInSeveralThreadsWhileOneIsFrozen) {
    const Value<Numbers> first(Numbers(100, 1));
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([mine = first, i]() mutable {
            for (int round = 0; round < 100; ++round) {
                mine.edit([&](Numbers& numbers) { numbers.push_back(i); });
                if (round % 10 == 0) {
                    EXPECT_GT(mine.snapshot().extent_bytes(), 800U);
                }
            }
            EXPECT_EQ(mine->size(), 200U);
            EXPECT_EQ(mine->back(), i);
        });
    }
    for (int i = 0; i < 20; ++i) EXPECT_GT(first.snapshot().extent_bytes(), 800U);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(first->size(), 100U);
}

// ---- growing

TEST(SmallValueTest, AContainerGrowsOutOfItsRoomWithoutMoving) {
    Value<Numbers> value{1, 2, 3};
    ASSERT_TRUE(is_in_block(value));
    value.edit([](Numbers& numbers) {
        const Numbers* const place = &numbers;
        for (long i = 4; i <= 200'000; ++i) numbers.push_back(i);
        EXPECT_EQ(&numbers, place);
        EXPECT_EQ(numbers.size(), 200'000U);
    });
    EXPECT_FALSE(is_in_block(value)) << "it has a file now";
    EXPECT_EQ(value->front(), 1);
    EXPECT_EQ(value->back(), 200'000);
    Value<Numbers> other = value;
    other.edit([](Numbers& numbers) { numbers.front() = 0; });
    EXPECT_EQ(value->front(), 1);
    EXPECT_LE(other.changes().copied, PageCount{2}) << "from then on page by page";
}

TEST(SmallValueTest, AnArrayGrowsPieceByPieceThroughAllItsForms) {
    Value<long[]> value;
    std::vector<long> expected;
    const Value<long[]> empty = value;
    for (long i = 0; expected.size() < 600'000; ++i) {
        const std::vector<long> more(1 + expected.size() / 3, i);
        value.append(more);
        expected.insert(expected.end(), more.begin(), more.end());
        ASSERT_EQ(value.size(), expected.size());
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), value.read().begin())) << expected.size();
        ASSERT_EQ(is_in_block(value), expected.size() * sizeof(long) <= ValueBlock::kLargest);
    }
    EXPECT_EQ(empty.size(), 0U);
}

TEST(SmallValueTest, OptionsThatOnlyAFileCanKeepMakeOne) {
    const vmcow::ValueOptions options{.reserve_bytes = vmcow::kHugeBytes};
    Value<Numbers> value(options);
    EXPECT_FALSE(is_in_block(value));
    EXPECT_THROW(value.edit([](Numbers& numbers) { numbers.resize(1'000'000); }), std::bad_alloc);
    Value<long[]> array(10, options);
    EXPECT_FALSE(is_in_block(array));
}

// ---- rooms

TEST(SmallValueTest, MoreContainersThanThereAreRoomsKeepWhatTheyHold) {
    constexpr std::size_t kMany = 3 * vmcow::EditRoom::kMostAtRest;
    std::vector<Value<Numbers>> values(kMany);
    for (long round = 0; round < 20; ++round) {
        for (std::size_t i = 0; i < kMany; ++i) {
            values[i].edit([&](Numbers& numbers) { numbers.push_back(round * 1000 + static_cast<long>(i)); });
        }
    }
    for (std::size_t i = 0; i < kMany; ++i) {
        ASSERT_EQ(values[i]->size(), 20U);
        for (long round = 0; round < 20; ++round) {
            ASSERT_EQ((*values[i])[static_cast<std::size_t>(round)], round * 1000 + static_cast<long>(i));
        }
    }
    EXPECT_LE(vmcow::EditRoom::in_use(), vmcow::EditRoom::kMostAtRest);
}

TEST(SmallValueTest, WhatIsAlignedStrictlyStaysSoOutsideOfARoom) {
    using Lines = vmcow::vector<Line>;
    std::vector<Value<Lines>> values;
    for (std::size_t i = 0; i < 2 * vmcow::EditRoom::kMostAtRest; ++i) values.emplace_back(Lines(3));
    std::vector<Value<Lines>> copies = values;
    for (auto& copy : copies) copy.edit([](Lines& lines) { lines.push_back(Line{8}); });
    for (const auto& all : {&values, &copies}) {
        for (const auto& value : *all) {
            ASSERT_EQ(reinterpret_cast<std::uintptr_t>(value->data()) % alignof(Line), 0U);
            ASSERT_EQ(value->front().word, 7U);
        }
    }
    const Value<Line> line;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&line.read()) % alignof(Line), 0U);
}

TEST(SmallValueTest, NoValueSeesWhatAnotherLeftInItsRoom) {
    const std::string secret(5000, 's');
    for (int i = 0; i < 5; ++i) {
        Value<vmcow::string> value;
        value.edit([&](vmcow::string& text) { text = secret; });
    }
    Value<vmcow::string> next;
    next.edit([](vmcow::string& text) { text.reserve(4000); });
    const Snapshot image = next.snapshot();
    const std::string_view all(reinterpret_cast<const char*>(image.bytes().data()), image.extent_bytes());
    EXPECT_EQ(all.find("ssssssss"), std::string_view::npos);
}

TEST(SmallValueTest, EditsNest) {
    std::vector<Value<Numbers>> values(200, Value<Numbers>{1});
    std::function<void(std::size_t)> edit = [&](std::size_t depth) {
        if (depth == values.size()) return;
        values[depth].edit([&](Numbers& numbers) {
            numbers.push_back(static_cast<long>(depth));
            edit(depth + 1);
            numbers.push_back(-1);
        });
    };
    edit(0);
    for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(*values[i], (Numbers{1, static_cast<long>(i), -1}));
    }
}

TEST(SmallValueTest, WhatAnExceptionLeavesIsAsTheFunctionHasLeftIt) {
    std::vector<Value<Numbers>> values(2 * vmcow::EditRoom::kMostAtRest, Value<Numbers>{1, 2});
    for (auto& value : values) {
        EXPECT_THROW(value.edit([](Numbers& numbers) {
            numbers.push_back(3);
            throw std::runtime_error("no");
        }),
                     std::runtime_error);
        ASSERT_EQ(*value, (Numbers{1, 2, 3}));
    }
}

// ---- with functions that know only images

TEST(SmallValueTest, PartsFilesAndMergesTakeThemAsAnyOther) {
    Value<Numbers> value(Numbers(1000, 4));
    const auto part = value.part([](const Numbers& numbers) { return std::span(numbers.data() + 10, 20); });
    EXPECT_EQ(part.read().size(), 20U);
    EXPECT_EQ(part.read()[19], 4);
    value.edit([](Numbers& numbers) { numbers[12] = 5; });
    EXPECT_EQ(part.read()[2], 4);

    const tests::TemporaryDirectory directory;
    value.save(directory / "value");
    Value<Numbers> loaded = Value<Numbers>::load(directory / "value");
    EXPECT_EQ(*loaded, *value);
    loaded.edit([](Numbers& numbers) { numbers.push_back(6); });
    EXPECT_EQ(loaded->size(), 1001U);
    EXPECT_EQ(Value<Numbers>::load(directory / "value")->size(), 1000U);

    // A block may be longer than what it holds; its image is not.
    Value<long[]> grown(600);
    grown.append(std::vector<long>(600, 3));
    grown.save(directory / "whole");
    EXPECT_EQ(Value<long[]>::load(directory / "whole").size(), 1200U);

    const Value<std::array<int, 8>> base(std::array<int, 8>{});
    Value<std::array<int, 8>> one = base;
    Value<std::array<int, 8>> two = base;
    one.edit([](auto& all) { all[1] = 1; });
    two.edit([](auto& all) { all[2] = 2; });
    const auto merged = vmcow::merge(base, {one, two}).value();
    EXPECT_EQ(merged->at(1), 1);
    EXPECT_EQ(merged->at(2), 2);
    EXPECT_EQ(merged->at(0), 0);
}

// An edit copies all of a small value, and the copy knows nothing of the file. The pages are compared.
TEST(SmallValueTest, ChangesAreSavedRelativeToAFileOfTheSameType) {
    const tests::TemporaryDirectory directory;
    const vmcow::SaveOptions relative{.relative_to = directory / "whole"};
    for (const std::size_t count : std::array<std::size_t, 4>{3, 200, 1200, 30'000}) {
        Value<long[]> value(count);
        value.save(directory / "whole");
        Value<long[]> loaded = Value<long[]>::load(directory / "whole");
        for (Value<long[]>* const changed : {&value, &loaded}) {
            EXPECT_EQ(changed->save(directory / "changes", relative).stored, vmcow::PageCount{0});
            changed->edit([](std::span<long> all) { all[0] = 7; });
            EXPECT_EQ(changed->save(directory / "changes", relative).stored, vmcow::PageCount{1});
            changed->append(std::vector<long>(2000, 3));
            changed->save(directory / "changes", relative);
            const Value<long[]> back = Value<long[]>::load(directory / "changes");
            ASSERT_EQ(back.size(), count + 2000);
            EXPECT_TRUE(std::ranges::equal(back.read(), changed->read()));
        }
        Value<Numbers> numbers(Numbers(count, 1));
        EXPECT_EQ(tests::error_of([&] { numbers.save(directory / "changes", relative); }), EINVAL);
        value.save(directory / "long");
        const Value<long[]> shorter(count);
        EXPECT_EQ(tests::error_of([&] { shorter.save(directory / "changes", {.relative_to = directory / "long"}); }),
                  EINVAL);
    }
}

TEST(SmallValueTest, AFunctionProcessMayChangeWhatItInheritsAndTheCallerKeepsItsOwn) {
    Value<long[]> plain{1, 2, 3};
    Value<Numbers> container{1, 2, 3};
    EXPECT_EQ(tests::in_child([&] {
                  // Memory from operator new is there in any child.
                  plain.edit([](std::span<long> all) { all[0] = 9; });
                  container.edit([](Numbers& numbers) { numbers.assign(1000, 9); });
                  Value<Numbers> another{4};
                  return plain[0] == 9 && container->size() == 1000 && another->front() == 4 ? 0 : 1;
              }),
              tests::kChildExitedWell);
    EXPECT_EQ(plain[0], 1);
    EXPECT_EQ(*container, (Numbers{1, 2, 3}));
}

}  // namespace
