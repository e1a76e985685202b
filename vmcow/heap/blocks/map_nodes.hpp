#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "vmcow/heap/blocks/block_memory.hpp"

namespace vmcow::heap {

/// The element of a `block_map`.
template <class K, class V>
struct MapEntry {
    K key;
    V value;
};

namespace detail {

/// The access of deduplication to a map.
struct MapAccess;

/// Where a walk over a map's leaves goes on: all smaller hashes have been passed.
struct MapPosition {
    std::uint64_t hash = 0;
    bool at_end = false;
};

/// Spreads the bits in which two hashes differ over all bits: the exclusive or of the two halves of a product.
[[nodiscard]] inline std::uint64_t spread_hash(std::uint64_t hash) noexcept {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(hash ^ 0x9e3779b97f4a7c15U) * 0xd6e8feb86659fd93U;
    return static_cast<std::uint64_t>(product >> 64U) ^ static_cast<std::uint64_t>(product);
}

/// The nodes of a `block_map`: a tree over the bits of hashes, the highest first.
///
///     leaf   | header | tags | entries |     entries whose hashes have the same first `bits` bits, in no order
///     inner  | header | 2^bits slots | widths |     the next `bits` bits of a hash choose the slot
///
/// The width of a slot is the `bits` of the inner node that it leads to, or 0 for a leaf and for an empty slot. So a
/// reader knows from the parent what to read of a node, and need not wait for the node's header.
///
/// An inner node that is not as wide as possible has only leaves below it. A leaf stands in a run of neighbouring slots
/// of its parent: all slots whose hashes begin with the leaf's `bits` bits. The run has one handle of the leaf. A slot
/// may be empty.
template <class K, class V, Options kOptions, class Allocator>
class MapNodes {
public:
    using Entry = MapEntry<K, V>;
    static constexpr bool kPlain = std::is_trivially_copyable_v<Entry> && std::is_trivially_destructible_v<Entry>;
    static constexpr unsigned kHashBits = 64;

    struct Node {
        HandleCount<kOptions.sharing> count;
        std::uint32_t used = 0;      ///< the entries of a leaf
        std::uint32_t capacity = 0;  ///< how many entries a leaf can hold; 0 for inner nodes
        std::uint16_t bits = 0;      ///< that the hashes of a leaf have in common; that choose a slot of an inner node
        std::uint16_t place = 0;     ///< see NodePlace

        [[nodiscard]] bool is_leaf() const noexcept { return capacity != 0; }
    };
    /// A leaf whose entries have destructors: `EndingBlocks` links such leaves.
    struct EndedLeaf : Node {
        EndedLeaf* next = nullptr;
    };
    using Leaf = std::conditional_t<std::is_trivially_destructible_v<Entry>, Node, EndedLeaf>;
    static constexpr std::size_t kAlignment = std::max(alignof(Entry), alignof(void*));
    using Memory = BlockMemory<Allocator, kAlignment, kOptions>;
    using Slot = typename Memory::template Pointer<Node>;

    MapNodes(const BlockShape& checked, const Memory& memory) noexcept
        : memory_(memory),
          leaf_bytes_shift_(static_cast<std::uint8_t>(std::countr_zero(checked.leaf_bytes))),
          most_bits_(static_cast<std::uint8_t>(std::countr_zero(checked.fan_out))) {}

    [[nodiscard]] std::uint32_t leaf_capacity() const noexcept {
        return static_cast<std::uint32_t>((std::size_t{1} << leaf_bytes_shift_) / sizeof(Entry));
    }
    [[nodiscard]] BlockShape shape() const noexcept {
        return {std::size_t{1} << leaf_bytes_shift_, std::size_t{1} << most_bits_};
    }
    /// How many bits an inner node may have if the nodes above it have used `above` bits of the hash.
    [[nodiscard]] unsigned most_bits(unsigned above) const noexcept {
        return std::min<unsigned>(most_bits_, kHashBits - above);
    }
    [[nodiscard]] unsigned full_bits() const noexcept { return most_bits_; }
    [[nodiscard]] Memory& memory() noexcept { return memory_; }
    [[nodiscard]] const Memory& memory() const noexcept { return memory_; }

    [[nodiscard]] static Node* at(const Slot& slot) noexcept { return std::to_address(slot); }
    [[nodiscard]] static Slot* slots(Node* inner) noexcept {
        return std::launder(reinterpret_cast<Slot*>(reinterpret_cast<std::byte*>(inner) + kSlots));
    }
    [[nodiscard]] static const Slot* slots(const Node* inner) noexcept {
        return std::launder(reinterpret_cast<const Slot*>(reinterpret_cast<const std::byte*>(inner) + kSlots));
    }
    [[nodiscard]] static std::size_t slot_count(const Node* inner) noexcept { return std::size_t{1} << inner->bits; }
    [[nodiscard]] static Entry* entries(Node* leaf) noexcept {
        return std::launder(reinterpret_cast<Entry*>(reinterpret_cast<std::byte*>(leaf) + entries_at(leaf->capacity)));
    }
    [[nodiscard]] static const Entry* entries(const Node* leaf) noexcept {
        return std::launder(
            reinterpret_cast<const Entry*>(reinterpret_cast<const std::byte*>(leaf) + entries_at(leaf->capacity)));
    }

    /// The widths of the slots of an inner node, which has `bits` bits.
    [[nodiscard]] static const std::uint8_t* widths(const Node* inner, unsigned bits) noexcept {
        return reinterpret_cast<const std::uint8_t*>(inner) + kSlots + (sizeof(Slot) << bits);
    }
    /// Puts `child`, which may be nullptr, into `count` slots. Counts no handles.
    static void set_slots(Node* inner, std::size_t first, std::size_t count, Node* child) noexcept {
        std::fill_n(slots(inner) + first, count, Slot(child));
        std::memset(const_cast<std::uint8_t*>(widths(inner, inner->bits)) + first,
                    static_cast<int>(child == nullptr || child->is_leaf() ? 0 : child->bits), count);
    }

    /// The entry of a leaf for which `is_it(entry)`, or nullptr. Looks only at entries with the hash's tag.
    template <class IsIt>
    [[nodiscard]] static const Entry* find(const Node* leaf, std::uint64_t hash, IsIt&& is_it) {
        const std::uint8_t* const all = tags(leaf);
        const std::uint8_t wanted = tag_of(hash);
        for (std::uint32_t first = 0; first < leaf->used; first += kTagsAtOnce) {
            // Finding the tag must not be a branch: it cannot be predicted, and the processor would wait for the cache.
            for (std::uint32_t same = equal_bytes(all + first, wanted); same != 0; same &= same - 1) {
                const Entry* const entry = entries(leaf) + first + std::countr_zero(same);
                if (is_it(*entry)) return entry;
            }
        }
        return nullptr;
    }

    /// Calls `visit(child)` once for each child in the slots from `first` to `last`, until `visit` returns false.
    template <class F>
    static bool for_each_child(const Node* inner, std::size_t first, std::size_t last, F&& visit) {
        const Node* before = nullptr;
        for (std::size_t i = first; i < last; ++i) {
            const Node* const child = at(slots(inner)[i]);
            if (child != nullptr && child != before && !visit(child)) return false;
            before = child;
        }
        return true;
    }
    /// Calls `visit(entry)` for all entries below a node, which may be nullptr, until `visit` returns false.
    template <class F>
    static bool for_each_entry(const Node* node, F& visit) {
        if (node == nullptr) return true;
        if (node->is_leaf()) return std::all_of(entries(node), entries(node) + node->used, std::ref(visit));
        return for_each_child(node, 0, slot_count(node),
                              [&](const Node* child) { return for_each_entry(child, visit); });
    }

    /// Fetches the entries of a leaf into the cache, so that an entry is there as soon as the tag that finds it.
    static void prefetch(const Node* leaf) noexcept {
        constexpr std::size_t kLine = 64;
        for (std::size_t line = 1; line <= 3; ++line) {
            __builtin_prefetch(reinterpret_cast<const std::byte*>(leaf) + line * kLine);
        }
    }

    [[nodiscard]] std::size_t node_bytes(const Node* node) const noexcept {
        return node->is_leaf() ? leaf_node_bytes(node->capacity) : inner_node_bytes(node->bits);
    }
    [[nodiscard]] std::size_t allocated_bytes(const Node* node) const noexcept {
        return Memory::allocated_bytes(node_bytes(node));
    }

    /// An empty leaf with one handle. Throws: what the allocator throws.
    [[nodiscard]] Node* make_leaf(unsigned bits, std::uint32_t capacity) {
        Leaf* const leaf = make<Leaf>(leaf_node_bytes(capacity), bits);
        leaf->capacity = capacity;
        std::memset(reinterpret_cast<std::byte*>(leaf) + kTags, 0, tag_bytes(capacity));
        return leaf;
    }
    /// An inner node with empty slots and one handle. Throws: what the allocator throws.
    [[nodiscard]] Node* make_inner(unsigned bits) {
        Node* const inner = make<Node>(inner_node_bytes(bits), bits);
        Slot* const all = reinterpret_cast<Slot*>(reinterpret_cast<std::byte*>(inner) + kSlots);
        std::uninitialized_fill_n(all, slot_count(inner), Slot(nullptr));
        set_slots(inner, 0, slot_count(inner), nullptr);
        return inner;
    }

    /// Adds an entry. Pre: there is room. Throws: what K and V throw; nothing is added.
    template <class... E>
    void append(Node* leaf, std::uint8_t tag, E&&... entry) {
        Entry* const place = entries(leaf) + leaf->used;
        if constexpr (kPlain) {
            new (static_cast<void*>(place)) Entry{std::forward<E>(entry)...};
        } else {
            construct(place, std::forward<E>(entry)...);
        }
        tags(leaf)[leaf->used++] = tag;
    }
    /// Destroys an entry; the last entry takes its place.
    void remove(Node* leaf, const Entry* entry) noexcept(std::is_nothrow_move_assignable_v<Entry>) {
        const auto index = static_cast<std::uint32_t>(entry - entries(leaf));
        const std::uint32_t last = leaf->used - 1;
        if (index != last) {
            entries(leaf)[index] = std::move(entries(leaf)[last]);
            tags(leaf)[index] = tags(leaf)[last];
        }
        std::destroy_at(entries(leaf) + last);
        tags(leaf)[last] = 0;
        leaf->used = last;
    }
    /// A leaf of `capacity` with copies of the entries for whose index `chosen(index)` is true.
    /// Throws: what the allocator, K and V throw.
    template <class Chosen>
    [[nodiscard]] Node* copy_leaf(const Node* leaf, unsigned bits, std::uint32_t capacity, Chosen&& chosen) {
        Node* const copy = make_leaf(bits, capacity);
        try {
            for (std::uint32_t i = 0; i < leaf->used; ++i) {
                if (chosen(i)) append(copy, tags(leaf)[i], entries(leaf)[i].key, entries(leaf)[i].value);
            }
        } catch (...) {
            drop(copy);
            throw;
        }
        return copy;
    }
    /// A leaf with copies of all entries of another one. Throws: what the allocator, K and V throw.
    [[nodiscard]] Node* copy_leaf(const Node* leaf) {
        Node* copy = nullptr;
        if constexpr (kPlain) {
            copy = make_leaf(leaf->bits, leaf->capacity);
            std::memcpy(tags(copy), tags(leaf), leaf->used);
            std::memcpy(static_cast<void*>(entries(copy)), entries(leaf), leaf->used * sizeof(Entry));
            copy->used = leaf->used;
        } else {
            copy = copy_leaf(leaf, leaf->bits, leaf->capacity, [](std::uint32_t) { return true; });
        }
        count_copy<kOptions>(leaf->used * sizeof(Entry));
        return copy;
    }
    /// An inner node of `bits` bits that shares the children of another one. Where `bits` is larger than the bits of
    /// that one, each slot becomes several. Pre: `bits` is not smaller. Throws: what the allocator throws.
    [[nodiscard]] Node* copy_inner(const Node* inner, unsigned bits) {
        Node* const copy = make_inner(bits);
        const Node* before = nullptr;
        for (std::size_t i = 0; i < slot_count(copy); ++i) {
            Node* const child = at(slots(inner)[i >> (bits - inner->bits)]);
            if (child != nullptr && child != before) child->count.add();
            set_slots(copy, i, 1, child);
            before = child;
        }
        return copy;
    }

    /// Gives a handle back; `node` may be nullptr. The last handle ends the node, which gives back the handles of its
    /// children.
    void drop(Node* node) noexcept {
        if (node == nullptr || !node->count.drop()) return;
        if (node->is_leaf()) {
            end_leaf(node);
            return;
        }
        const Node* before = nullptr;
        for (std::size_t i = 0; i < slot_count(node); ++i) {
            Node* const child = at(slots(node)[i]);
            if (child != before) drop(child);
            before = child;
        }
        free_inner(node);
    }
    void drop_leaf(Node* leaf) noexcept { drop(leaf); }
    [[nodiscard]] std::size_t allocated_leaf_bytes(const Node* leaf) const noexcept { return allocated_bytes(leaf); }
    /// Frees an inner node, without giving back the handles of its children.
    void free_inner(Node* inner) noexcept { free(inner); }

    /// The tag of an entry: the lowest byte of its hash. It is never 0, which is the tag of a place without an entry.
    [[nodiscard]] static std::uint8_t tag_of(std::uint64_t hash) noexcept {
        const auto low = static_cast<std::uint8_t>(hash);
        return low == 0 ? 1 : low;
    }
    [[nodiscard]] static std::uint8_t* tags(Node* leaf) noexcept {
        return reinterpret_cast<std::uint8_t*>(leaf) + kTags;
    }
    [[nodiscard]] static const std::uint8_t* tags(const Node* leaf) noexcept {
        return reinterpret_cast<const std::uint8_t*>(leaf) + kTags;
    }

private:
    static constexpr std::size_t kTags = sizeof(Leaf);
    static constexpr std::uint32_t kTagsAtOnce = 16;
    static constexpr std::size_t kSlots = rounded_up(sizeof(Node), alignof(Slot));

    [[nodiscard]] static constexpr std::size_t tag_bytes(std::uint32_t capacity) noexcept {
        return rounded_up<std::size_t>(capacity, kTagsAtOnce);
    }
    [[nodiscard]] static constexpr std::size_t entries_at(std::uint32_t capacity) noexcept {
        return rounded_up(kTags + tag_bytes(capacity), alignof(Entry));
    }
    [[nodiscard]] static constexpr std::size_t leaf_node_bytes(std::uint32_t capacity) noexcept {
        return entries_at(capacity) + capacity * sizeof(Entry);
    }

    [[nodiscard]] static constexpr std::size_t inner_node_bytes(unsigned bits) noexcept {
        return kSlots + ((sizeof(Slot) + 1) << bits);
    }
    /// A mask with a bit for each of sixteen bytes: set where the byte is `wanted`.
    [[nodiscard]] static std::uint32_t equal_bytes(const std::uint8_t* bytes, std::uint8_t wanted) noexcept {
#ifdef __SSE2__
        const __m128i all = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
        const __m128i same = _mm_cmpeq_epi8(all, _mm_set1_epi8(static_cast<char>(wanted)));
        return static_cast<std::uint32_t>(_mm_movemask_epi8(same));
#else
        std::uint32_t same = 0;
        for (std::uint32_t i = 0; i < kTagsAtOnce; ++i) same |= (bytes[i] == wanted ? 1U : 0U) << i;
        return same;
#endif
    }

    /// Constructs key and value apart, so that a container in either takes its memory from the map's allocator.
    template <class Key, class Value>
    void construct(Entry* place, Key&& key, Value&& value) {
        Allocator allocator = memory_.allocator();
        using Traits = std::allocator_traits<Allocator>;
        Traits::construct(allocator, &place->key, std::forward<Key>(key));
        try {
            Traits::construct(allocator, &place->value, std::forward<Value>(value));
        } catch (...) {
            std::destroy_at(&place->key);
            throw;
        }
    }
    template <class N>
    [[nodiscard]] N* make(std::size_t bytes, unsigned bits) {
        const NodePlace memory = memory_.allocate_node(bytes);
        auto* const node = new (memory.at) N;
        node->place = memory.place;
        node->bits = static_cast<std::uint16_t>(bits);
        return node;
    }
    void free(Node* node) noexcept { memory_.deallocate_node({node, node->place}, node_bytes(node)); }
    void end_leaf(Node* leaf) noexcept {
        if constexpr (std::is_trivially_destructible_v<Entry>) {
            free(leaf);
        } else {
            EndingBlocks<Leaf, Memory>::end(static_cast<Leaf*>(leaf), memory_, [this](Leaf* ending) {
                std::destroy_n(entries(ending), ending->used);
                free(ending);
            });
        }
    }

    [[no_unique_address]] Memory memory_;
    std::uint8_t leaf_bytes_shift_;
    std::uint8_t most_bits_;
};

}  // namespace detail
}  // namespace vmcow::heap
