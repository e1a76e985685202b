// Engines of block trees with several leaf sizes, with and without deduplication.
#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/equivalence/interpreter.hpp"
#include "tests/equivalence/plain_structures.hpp"
#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_map.hpp"
#include "vmcow/heap/block_map_table.hpp"
#include "vmcow/heap/block_table.hpp"

namespace equivalence {
namespace {

using vmcow::heap::block_array;
using vmcow::heap::block_map;
using vmcow::heap::block_map_table;
using vmcow::heap::block_table;
using vmcow::heap::BlockShape;

/// Operations that block arrays have are called in the form that is asked for; any other operation builds a new array.
template <class Self, class T, std::size_t kLeaf>
class BlockElements {
public:
    using Array = block_array<T>;
    static constexpr BlockShape kShape{.leaf_bytes = kLeaf};

    BlockElements() = default;
    explicit BlockElements(Array array) : array_(std::move(array)) {}

    [[nodiscard]] std::size_t size() const { return array_.size(); }
    [[nodiscard]] auto begin() const { return array_.begin(); }
    [[nodiscard]] auto end() const { return array_.end(); }
    [[nodiscard]] const T& at(std::size_t index) const { return array_[index]; }
    [[nodiscard]] Self set(std::size_t index, T value) const& { return Self(array_.set(index, value)); }
    [[nodiscard]] Self set(std::size_t index, T value) && { return Self(std::move(array_).set(index, value)); }
    [[nodiscard]] Self push(T value) const& { return Self(array_.push_back(value)); }
    [[nodiscard]] Self push(T value) && { return Self(std::move(array_).push_back(value)); }
    [[nodiscard]] Self pop() const& { return Self(array_.pop_back()); }
    [[nodiscard]] Self pop() && { return Self(std::move(array_).pop_back()); }
    template <class Change>
    [[nodiscard]] Self update(std::size_t index, const Change& change) const& {
        return Self(array_.update(index, change));
    }
    template <class Change>
    [[nodiscard]] Self update(std::size_t index, const Change& change) && {
        return Self(std::move(array_).update(index, change));
    }
    void set_in_place(std::size_t index, T value) { array_.set_in_place(index, value); }
    void push_in_place(T value) { array_.push_back_in_place(value); }
    void pop_in_place() { array_.pop_back_in_place(); }
    template <class Change>
    void update_in_place(std::size_t index, const Change& change) {
        array_.update_in_place(index, change);
    }
    [[nodiscard]] Self insert(std::size_t index, T value) const {
        require(index <= size());
        return rebuilt([&](auto& all) { all.insert(place(all, index), value); });
    }
    [[nodiscard]] Self remove(std::size_t index) const {
        require(index < size());
        return rebuilt([&](auto& all) { all.erase(place(all, index)); });
    }
    [[nodiscard]] Self take(std::size_t count) const& { return Self(array_).take(count); }
    [[nodiscard]] Self take(std::size_t count) && {
        while (array_.size() > count) array_ = std::move(array_).pop_back();
        return Self(std::move(array_));
    }
    /// `more` may lie in this array, or be this array.
    template <class More>
    [[nodiscard]] Self with(const More& more) const& {
        return Self(array_).with(more);
    }
    template <class More>
    [[nodiscard]] Self with(const More& more) && {
        const std::vector<T> added(more.begin(), more.end());
        for (const T& each : added) array_ = std::move(array_).push_back(each);
        return Self(std::move(array_));
    }
    [[nodiscard]] Self drop(std::size_t count) const {
        return rebuilt([&](std::vector<T>& all) { all.erase(all.begin(), place(all, std::min(count, all.size()))); });
    }
    [[nodiscard]] Self reverse() const {
        return rebuilt([](std::vector<T>& all) { std::reverse(all.begin(), all.end()); });
    }
    [[nodiscard]] Self sort() const {
        return rebuilt([](std::vector<T>& all) { std::sort(all.begin(), all.end()); });
    }
    template <class Change>
    [[nodiscard]] Self rebuilt(const Change& change) const {
        std::vector<T> all = elements();
        change(all);
        return Self(Array(std::span<const T>(all), kShape));
    }
    [[nodiscard]] std::vector<T> elements() const {
        std::vector<T> all;
        array_.for_each_span([&](std::span<const T> leaf) { all.insert(all.end(), leaf.begin(), leaf.end()); });
        return all;
    }
    [[nodiscard]] const Array& array() const { return array_; }
    void deduplicate(block_table<T>& table) { table.deduplicate(array_); }

private:
    Array array_{kShape};
};

template <std::size_t kLeaf>
struct BlockSlice;

template <std::size_t kLeaf>
struct BlockList : BlockElements<BlockList<kLeaf>, long, kLeaf> {
    using BlockElements<BlockList<kLeaf>, long, kLeaf>::BlockElements;

    [[nodiscard]] long first() const { return this->at(0); }
    [[nodiscard]] long last() const { return this->at(this->size() - 1); }
    [[nodiscard]] bool contains(long value) const {
        const auto all = this->elements();
        return std::ranges::find(all, value) != all.end();
    }
    template <class Other>
    [[nodiscard]] BlockList concat(const Other& other) const& {
        return this->with(other);
    }
    template <class Other>
    [[nodiscard]] BlockList concat(const Other& other) && {
        return std::move(*this).with(other);
    }
    [[nodiscard]] BlockSlice<kLeaf> slice(std::size_t first, std::size_t count) const {
        require(first <= this->size());
        return BlockSlice<kLeaf>(this->array()).drop(first).take(count);
    }
};
template <std::size_t kLeaf>
struct BlockSlice : BlockElements<BlockSlice<kLeaf>, long, kLeaf> {
    using BlockElements<BlockSlice<kLeaf>, long, kLeaf>::BlockElements;
    [[nodiscard]] BlockList<kLeaf> to_list() const { return BlockList<kLeaf>(this->array()); }
    template <class Other>
    [[nodiscard]] BlockSlice concat(const Other& other) const& {
        return this->with(other);
    }
    template <class Other>
    [[nodiscard]] BlockSlice concat(const Other& other) && {
        return std::move(*this).with(other);
    }
};

template <std::size_t kLeaf>
struct BlockText : BlockElements<BlockText<kLeaf>, char, kLeaf> {
    using BlockElements<BlockText<kLeaf>, char, kLeaf>::BlockElements;
    using Plain = PlainText<std::string>;

    /// Returns no view, because the characters lie in several blocks.
    [[nodiscard]] std::string view() const { return plain().text; }
    [[nodiscard]] Plain plain() const {
        const auto all = this->elements();
        return {std::string(all.begin(), all.end())};
    }
    [[nodiscard]] BlockText of(const Plain& text) const {
        return this->rebuilt([&](auto& all) { all.assign(text.text.begin(), text.text.end()); });
    }
    [[nodiscard]] BlockText concat(std::string_view more) const& { return this->with(more); }
    [[nodiscard]] BlockText concat(std::string_view more) && { return std::move(*this).with(more); }
    [[nodiscard]] BlockText substring(std::size_t first, std::size_t count) const {
        return of(plain().substring(first, count));
    }
    [[nodiscard]] BlockText trim() const { return of(plain().trim()); }
    [[nodiscard]] std::optional<std::size_t> find(std::string_view what, std::size_t from) const {
        return plain().find(what, from);
    }
};

/// Leaves that hold at least one entry.
template <std::size_t kLeaf>
constexpr BlockShape kMapShape{.leaf_bytes = std::max<std::size_t>(kLeaf, 32)};

template <std::size_t kLeaf>
struct BlockMap {
    block_map<long, long> map{kMapShape<kLeaf>};

    [[nodiscard]] std::size_t size() const { return map.size(); }
    [[nodiscard]] auto begin() const { return map.begin(); }
    [[nodiscard]] auto end() const { return map.end(); }
    [[nodiscard]] const long* find(long key) const { return map.find(key); }
    [[nodiscard]] long at(long key) const { return map.at(key); }
    [[nodiscard]] BlockMap set(long key, long value) const& { return {map.set(key, value)}; }
    [[nodiscard]] BlockMap set(long key, long value) && { return {std::move(map).set(key, value)}; }
    [[nodiscard]] BlockMap remove(long key) const& { return {map.erase(key)}; }
    [[nodiscard]] BlockMap remove(long key) && { return {std::move(map).erase(key)}; }
    template <class Change>
    [[nodiscard]] BlockMap update(long key, const Change& change) const& {
        return {map.update(key, change)};
    }
    template <class Change>
    [[nodiscard]] BlockMap update(long key, const Change& change) && {
        return {std::move(map).update(key, change)};
    }
    void set_in_place(long key, long value) { map.set_in_place(key, value); }
    void remove_in_place(long key) { map.erase_in_place(key); }
    template <class Change>
    void update_in_place(long key, const Change& change) {
        map.update_in_place(key, change);
    }
};

/// Keeps with each value the number that tells when its key came.
template <std::size_t kLeaf>
struct BlockOrdered {
    struct Numbered {
        long value;
        long number;
    };
    block_map<long, Numbered> map{kMapShape<kLeaf>};
    long next = 0;

    [[nodiscard]] std::size_t size() const { return map.size(); }
    [[nodiscard]] auto sorted() const {
        std::vector<std::pair<long, std::pair<long, long>>> all;
        for (const auto& [key, value] : map) all.push_back({value.number, {key, value.value}});
        std::ranges::sort(all);
        std::vector<std::pair<long, long>> entries;
        for (const auto& each : all) entries.push_back(each.second);
        return entries;
    }
    [[nodiscard]] BlockOrdered set(long key, long value) const& { return BlockOrdered(*this).set(key, value); }
    [[nodiscard]] BlockOrdered set(long key, long value) && {
        const Numbered* const found = map.find(key);
        map = std::move(map).set(key, Numbered{value, found == nullptr ? next++ : found->number});
        return std::move(*this);
    }
    [[nodiscard]] BlockOrdered remove(long key) const& { return {map.erase(key), next}; }
    [[nodiscard]] BlockOrdered remove(long key) && { return {std::move(map).erase(key), next}; }
    template <class Change>
    [[nodiscard]] BlockOrdered update(long key, const Change& change) const {
        return {map.update(key, [&](Numbered& each) { change(each.value); }), next};
    }
};

template <std::size_t kLeaf>
struct BlockSet {
    block_map<long, char> map{kMapShape<kLeaf>};

    [[nodiscard]] std::size_t size() const { return map.size(); }
    [[nodiscard]] bool contains(long value) const { return map.contains(value); }
    [[nodiscard]] BlockSet insert(long value) const& { return {map.insert(value, 1)}; }
    [[nodiscard]] BlockSet insert(long value) && { return {std::move(map).insert(value, 1)}; }
    [[nodiscard]] BlockSet remove(long value) const& { return {map.erase(value)}; }
    [[nodiscard]] BlockSet remove(long value) && { return {std::move(map).erase(value)}; }
    void insert_in_place(long value) { map.insert_in_place(value, 1); }
    void remove_in_place(long value) { map.erase_in_place(value); }
    [[nodiscard]] BlockSet unite(const BlockSet& other) const& { return BlockSet(*this).unite(other); }
    [[nodiscard]] BlockSet unite(const BlockSet& other) && {
        for (const long each : other.values()) map = std::move(map).insert(each, 1);
        return std::move(*this);
    }
    template <class Stays>
    [[nodiscard]] BlockSet only(const Stays& stays) const {
        BlockSet copy(*this);
        for (const long each : values()) {
            if (!stays(each)) copy.map = std::move(copy.map).erase(each);
        }
        return copy;
    }
    [[nodiscard]] BlockSet intersect(const BlockSet& other) const {
        return only([&](long each) { return other.contains(each); });
    }
    [[nodiscard]] BlockSet subtract(const BlockSet& other) const {
        return only([&](long each) { return !other.contains(each); });
    }
    [[nodiscard]] std::vector<long> values() const {
        std::vector<long> all;
        for (const auto& entry : map) all.push_back(entry.key);
        return all;
    }
};

template <std::size_t kLeaf>
struct BlockTrees {
    using List = BlockList<kLeaf>;
    using Slice = BlockSlice<kLeaf>;
    using Text = BlockText<kLeaf>;
    using Map = BlockMap<kLeaf>;
    using Ordered = BlockOrdered<kLeaf>;
    using Set = BlockSet<kLeaf>;
};

/// After each call, equal blocks of the changed document become one block.
template <std::size_t kLeaf>
class DeduplicatingMachine : public PlainMachine<BlockTrees<kLeaf>> {
    using Plain = PlainMachine<BlockTrees<kLeaf>>;

public:
    using typename Plain::Pending;
    using typename Plain::Variable;

    [[nodiscard]] Trace change_in_place(Variable& variable, const Ops& ops) {
        Trace seen = Plain::change_in_place(variable, ops);
        deduplicate(variable);
        return seen;
    }
    [[nodiscard]] std::pair<Variable, Trace> apply(Variable by_value, const Ops& ops) {
        Trace seen = change_in_place(by_value, ops);
        return {std::move(by_value), std::move(seen)};
    }
    [[nodiscard]] std::pair<Variable, Trace> apply_last_use(Variable&& variable, const Ops& ops) {
        return apply(std::move(variable), ops);
    }
    [[nodiscard]] Trace collect(Pending pending, Variable& to) {
        Trace seen = Plain::collect(std::move(pending), to);
        deduplicate(to);
        return seen;
    }

private:
    void deduplicate(Variable& variable) {
        for (auto& list : variable.lists) list.deduplicate(numbers_);
        variable.slice.deduplicate(numbers_);
        for (auto& text : variable.texts) text.deduplicate(letters_);
        for (auto& each : variable.maps) entries_.deduplicate(each.map);
        ordered_.deduplicate(variable.ordered.map);
        for (auto& set : variable.sets) members_.deduplicate(set.map);
    }

    block_table<long> numbers_{BlockShape{.leaf_bytes = kLeaf}};
    block_table<char> letters_{BlockShape{.leaf_bytes = kLeaf}};
    block_map_table<long, long> entries_{kMapShape<kLeaf>};
    block_map_table<long, typename BlockOrdered<kLeaf>::Numbered> ordered_{kMapShape<kLeaf>};
    block_map_table<long, char> members_{kMapShape<kLeaf>};
};

template <std::size_t kLeaf>
void add(Engines& engines) {
    engines.push_back(std::make_unique<MachineEngine<PlainMachine<BlockTrees<kLeaf>>>>(fmt::format("block-{}", kLeaf)));
    engines.push_back(std::make_unique<MachineEngine<DeduplicatingMachine<kLeaf>>>(fmt::format("dedup-{}", kLeaf)));
}

}  // namespace

void add_block_engines(Engines& engines) {
    add<8>(engines);
    add<64>(engines);
    add<256>(engines);
    add<4096>(engines);
}

}  // namespace equivalence
