#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "vmcow/heap/blocks/block_memory.hpp"

namespace vmcow::heap::detail {

/// The nodes of a `block_array`: leaves of `leaf_capacity()` elements, and inner nodes of `fan_out()` children, of
/// which the first `used` are there. A node has one handle of each of its children.
///
///     leaf   | count | used | place | elements |          level 0
///     inner  | count | used | place | children |          level 1 …
template <class T, Options kOptions, class Allocator>
class BlockNodes {
public:
    static constexpr bool kPlain = std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>;

    struct Node {
        HandleCount<kOptions.sharing> count;
        std::uint16_t used = 0;
        std::uint16_t place = 0;  ///< see NodePlace
    };
    /// A leaf whose elements have destructors: `EndingBlocks` links such leaves.
    struct EndedLeaf : Node {
        EndedLeaf* next = nullptr;
        std::size_t bytes = 0;
    };
    using Leaf = std::conditional_t<std::is_trivially_destructible_v<T>, Node, EndedLeaf>;
    static constexpr std::size_t kAlignment = std::max(alignof(T), alignof(void*));
    using Memory = BlockMemory<Allocator, kAlignment, kOptions>;
    using Child = typename Memory::template Pointer<Node>;

    BlockNodes(const BlockShape& checked, const Memory& memory) noexcept
        : memory_(memory),
          leaf_bytes_shift_(static_cast<std::uint8_t>(std::countr_zero(checked.leaf_bytes))),
          leaf_shift_(static_cast<std::uint8_t>(std::bit_width(checked.leaf_bytes / sizeof(T)) - 1)),
          fan_shift_(static_cast<std::uint8_t>(std::countr_zero(checked.fan_out))),
          leaf_mask_(static_cast<std::uint16_t>(leaf_capacity() - 1)) {}

    [[nodiscard]] std::size_t leaf_capacity() const noexcept { return std::size_t{1} << leaf_shift_; }
    [[nodiscard]] std::size_t fan_out() const noexcept { return std::size_t{1} << fan_shift_; }
    [[nodiscard]] unsigned leaf_shift() const noexcept { return leaf_shift_; }
    [[nodiscard]] unsigned fan_shift() const noexcept { return fan_shift_; }
    [[nodiscard]] BlockShape shape() const noexcept { return {std::size_t{1} << leaf_bytes_shift_, fan_out()}; }
    [[nodiscard]] Memory& memory() noexcept { return memory_; }
    [[nodiscard]] const Memory& memory() const noexcept { return memory_; }
    /// The index of an element within its leaf.
    [[nodiscard]] std::size_t in_leaf(std::size_t index) const noexcept { return index & leaf_mask_; }
    /// The leaf with the number `leaf` below a node that is `levels` above the leaves.
    [[nodiscard, gnu::always_inline]] Node* leaf_below(Node* node, unsigned levels, std::size_t leaf) const noexcept {
        // Known shifts take half as many instructions, so that twice as many reads are under way at a time.
        return fan_shift_ == kUsualFanShift && levels <= 6 ? usual_leaf_below(node, levels, leaf)
                                                           : any_leaf_below(node, levels, leaf);
    }
    /// Which child of a node on `level` leads to the leaf with the number `leaf`. Pre: `level` > 0.
    [[nodiscard]] std::size_t child_of(std::size_t leaf, unsigned level) const noexcept {
        return (leaf >> ((level - 1) * fan_shift_)) & (fan_out() - 1);
    }

    [[nodiscard]] static T* elements(Node* leaf) noexcept {
        return std::launder(reinterpret_cast<T*>(reinterpret_cast<std::byte*>(leaf) + kElements));
    }
    [[nodiscard]] static const T* elements(const Node* leaf) noexcept {
        return std::launder(reinterpret_cast<const T*>(reinterpret_cast<const std::byte*>(leaf) + kElements));
    }
    [[nodiscard]] static Child* children(Node* inner) noexcept {
        return std::launder(reinterpret_cast<Child*>(reinterpret_cast<std::byte*>(inner) + kChildren));
    }
    [[nodiscard]] static const Child* children(const Node* inner) noexcept {
        return std::launder(reinterpret_cast<const Child*>(reinterpret_cast<const std::byte*>(inner) + kChildren));
    }
    [[nodiscard]] static Node* at(const Child& child) noexcept { return std::to_address(child); }

    [[nodiscard]] std::size_t leaf_node_bytes() const noexcept { return kElements + leaf_capacity() * sizeof(T); }
    [[nodiscard]] std::size_t inner_node_bytes() const noexcept { return kChildren + fan_out() * sizeof(Child); }
    [[nodiscard]] std::size_t allocated_bytes(unsigned level) const noexcept {
        return Memory::allocated_bytes(level == 0 ? leaf_node_bytes() : inner_node_bytes());
    }

    /// An empty leaf with one handle. Throws: what the allocator throws.
    [[nodiscard]] Node* make_leaf() {
        Leaf* const leaf = make<Leaf>(leaf_node_bytes());
        if constexpr (!std::is_trivially_destructible_v<T>) leaf->bytes = leaf_node_bytes();
        return leaf;
    }
    /// An inner node without children, with one handle. Throws: what the allocator throws.
    [[nodiscard]] Node* make_inner() { return make<Node>(inner_node_bytes()); }

    /// Adds a child, and takes over the caller's handle of it. Pre: there is room.
    static void append_child(Node* inner, Node* child) noexcept {
        new (static_cast<void*>(children(inner) + inner->used)) Child(child);
        ++inner->used;
    }
    /// Replaces a child, and takes over the caller's handle of `child`. The caller gets the handle of the old child.
    /// Pre: no other tree has the node.
    [[nodiscard]] static Node* replace_child(Node* inner, std::size_t index, Node* child) noexcept {
        Node* const before = at(children(inner)[index]);
        children(inner)[index] = Child(child);
        return before;
    }
    /// Removes the last child, whose handle the caller gets.
    [[nodiscard]] static Node* detach_last(Node* inner) noexcept {
        Child& last = children(inner)[--inner->used];
        Node* const child = at(last);
        std::destroy_at(&last);
        return child;
    }

    /// Adds a copy of `element`, or moves it in. Pre: there is room. Throws: what T throws; nothing is added.
    template <class E>
    void append_element(Node* leaf, E&& element) {
        T* const place = reinterpret_cast<T*>(reinterpret_cast<std::byte*>(leaf) + kElements) + leaf->used;
        if constexpr (kPlain) {
            new (static_cast<void*>(place)) T(std::forward<E>(element));
        } else {
            Allocator allocator = memory_.allocator();
            std::allocator_traits<Allocator>::construct(allocator, place, std::forward<E>(element));
        }
        ++leaf->used;
    }
    void append_elements(Node* leaf, const T* from, std::size_t count) {
        if (count == 0) return;
        if constexpr (kPlain) {
            std::memcpy(reinterpret_cast<std::byte*>(leaf) + kElements + leaf->used * sizeof(T), from,
                        count * sizeof(T));
            leaf->used = static_cast<std::uint16_t>(leaf->used + count);
        } else {
            for (std::size_t i = 0; i < count; ++i) append_element(leaf, from[i]);
        }
    }
    /// Destroys the elements from `keep` on.
    void truncate(Node* leaf, std::size_t keep) noexcept {
        if constexpr (!std::is_trivially_destructible_v<T>)
            std::destroy(elements(leaf) + keep, elements(leaf) + leaf->used);
        leaf->used = static_cast<std::uint16_t>(keep);
    }

    /// A leaf with copies of the first `count` elements of another leaf. Throws: what the allocator and T throw.
    [[nodiscard]] Node* copy_leaf(const Node* leaf, std::size_t count) {
        Node* const copy = make_leaf();
        try {
            append_elements(copy, elements(leaf), count);
        } catch (...) {
            drop(copy, 0);
            throw;
        }
        count_copy<kOptions>(count * sizeof(T));
        return copy;
    }
    /// An inner node that shares the children of another one. Throws: what the allocator throws.
    [[nodiscard]] Node* copy_inner(const Node* inner) {
        Node* const copy = make_inner();
        for (; copy->used < inner->used; ++copy->used) {
            const Child& child = children(inner)[copy->used];
            at(child)->count.add();
            new (static_cast<void*>(children(copy) + copy->used)) Child(child);
        }
        count_copy<kOptions>(inner->used * sizeof(Child));
        return copy;
    }
    /// The node that a slot leads to, replaced by a copy if other trees share it. For a leaf, `keep` is how many of its
    /// elements the tree has.
    /// Pre: the node above is this tree's own.
    [[nodiscard]] Node* own(Child& slot, unsigned level, std::size_t keep) {
        Node* const node = at(slot);
        if (node->count.unique()) [[likely]]
            return node;
        return own_copy(slot, level, keep);
    }

    /// Gives a handle back. The last handle ends the node, which gives back the handles of its children.
    /// Cost: the stack is as deep as the tree has levels, also where elements are trees themselves.
    void drop(Node* node, unsigned level) noexcept {
        if (node->count.drop()) end(node, level);
    }
    void drop_leaf(Node* leaf) noexcept { drop(leaf, 0); }
    [[nodiscard]] std::size_t allocated_leaf_bytes(const Node*) const noexcept { return allocated_bytes(0); }
    /// Frees an inner node. Pre: it has no children.
    void free_inner(Node* inner) noexcept { memory_.deallocate_node({inner, inner->place}, inner_node_bytes()); }

private:
    static constexpr unsigned kUsualFanShift = 4;

    [[nodiscard]] Node* any_leaf_below(Node* node, unsigned levels, std::size_t leaf) const noexcept {
        for (unsigned level = levels; level > 0; --level) node = at(children(node)[child_of(leaf, level)]);
        return node;
    }
    template <unsigned kLevel>
    [[nodiscard, gnu::always_inline]] static Node* usual_child(Node* node, std::size_t leaf) noexcept {
        constexpr std::size_t kMask = (std::size_t{1} << kUsualFanShift) - 1;
        return at(children(node)[(leaf >> ((kLevel - 1) * kUsualFanShift)) & kMask]);
    }
    [[nodiscard, gnu::always_inline]] static Node* usual_leaf_below(Node* node, unsigned levels,
                                                                    std::size_t leaf) noexcept {
        switch (levels) {
            case 6:
                node = usual_child<6>(node, leaf);
                [[fallthrough]];
            case 5:
                node = usual_child<5>(node, leaf);
                [[fallthrough]];
            case 4:
                node = usual_child<4>(node, leaf);
                [[fallthrough]];
            case 3:
                node = usual_child<3>(node, leaf);
                [[fallthrough]];
            case 2:
                node = usual_child<2>(node, leaf);
                [[fallthrough]];
            default:
                node = usual_child<1>(node, leaf);
        }
        return node;
    }

    static constexpr std::size_t kElements = rounded_up(sizeof(Leaf), alignof(T));
    static constexpr std::size_t kChildren = rounded_up(sizeof(Node), alignof(Child));

    [[nodiscard, gnu::noinline]] Node* own_copy(Child& slot, unsigned level, std::size_t keep) {
        Node* const node = at(slot);
        Node* const copy = level == 0 ? copy_leaf(node, keep) : copy_inner(node);
        slot = Child(copy);
        drop(node, level);
        return copy;
    }
    template <class N>
    [[nodiscard]] N* make(std::size_t bytes) {
        const NodePlace memory = memory_.allocate_node(bytes);
        auto* const node = new (memory.at) N;
        node->place = memory.place;
        return node;
    }
    [[gnu::noinline]] void end(Node* node, unsigned level) noexcept {
        if (level == 0) {
            end_leaf(node);
            return;
        }
        while (node->used > 0) drop(detach_last(node), level - 1);
        free_inner(node);
    }
    void end_leaf(Node* leaf) noexcept {
        if constexpr (std::is_trivially_destructible_v<T>) {
            memory_.deallocate_node({leaf, leaf->place}, leaf_node_bytes());
        } else {
            // The leaves end one after the other. They come from equal memory, but perhaps from trees of another shape.
            EndingBlocks<Leaf, Memory>::end(static_cast<Leaf*>(leaf), memory_, [this](Leaf* ending) {
                truncate(ending, 0);
                memory_.deallocate_node({ending, ending->place}, ending->bytes);
            });
        }
    }

    [[no_unique_address]] Memory memory_;
    std::uint8_t leaf_bytes_shift_;
    std::uint8_t leaf_shift_;
    std::uint8_t fan_shift_;
    std::uint16_t leaf_mask_;
};

}  // namespace vmcow::heap::detail
