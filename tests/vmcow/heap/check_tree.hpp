#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>

#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_map.hpp"

namespace vmcow::heap::detail {

/// Walks the trees of arrays and maps. It is a friend of the classes that it reads.
class TreeCheck {
public:
    template <class T, Options kOptions, class Allocator>
    void add(const block_array<T, kOptions, Allocator>& array) {
        ArrayCheck<block_array<T, kOptions, Allocator>>{*this, array}.run();
    }
    template <class K, class V, Options kOptions, class Hash, class Equal, class Allocator>
    void add(const block_map<K, V, kOptions, Hash, Equal, Allocator>& map) {
        using Map = block_map<K, V, kOptions, Hash, Equal, Allocator>;
        MapCheck<typename Map::Tree, Equal>{*this, map.tree_}.run();
    }

    /// What was found wrong first; empty if nothing was.
    [[nodiscard]] std::string problem() const {
        if (!problem_.empty()) return problem_;
        for (const auto& [node, handles] : handles_) {
            if (handles.counted == handles.found) continue;
            return "a node counts " + std::to_string(handles.counted) + " handles and has " +
                   std::to_string(handles.found);
        }
        return {};
    }

private:
    struct Handles {
        std::uint64_t counted = 0;  ///< what the node says
        std::uint64_t found = 0;    ///< what leads to the node
        bool entered = false;       ///< the handles that the node has of its children were found
    };

    void expect(bool condition, const char* otherwise) {
        if (!condition && problem_.empty()) problem_ = otherwise;
    }
    /// Counts a handle of a node. `alone` says that the tree claims to share no block.
    template <class Node>
    void find_handle(const Node* node, bool alone) {
        Handles& handles = handles_[node];
        handles.counted = node->count.count_;
        ++handles.found;
        expect(handles.counted > 0, "a node without a handle");
        expect(!alone || handles.counted == 1, "a shared node in a tree that has its blocks alone");
    }
    /// True the first time that the node is entered: a node that several trees share has one handle of each child.
    template <class Node>
    [[nodiscard]] bool enter(const Node* node) {
        return !std::exchange(handles_[node].entered, true);
    }

    template <class Array>
    struct ArrayCheck {
        using Nodes = typename Array::Nodes;
        using Node = typename Array::Node;

        void run() {
            const Node* const root = Nodes::at(array.root_);
            const Node* const tail = Nodes::at(array.tail_);
            const bool alone = array.alone_.get();
            check.expect((tail == nullptr) == (array.size_ == 0),
                         "a tail without elements, or elements without a tail");
            check.expect((root == nullptr) == (array.levels_ == 0), "a tree without levels, or levels without a tree");
            if (tail != nullptr) {
                check.find_handle(tail, alone);
                const std::size_t in_tail = array.size_ - array.tail_begin();
                check.expect(tail->used >= in_tail, "a tail with fewer elements than the array has in it");
                check.expect(tail->used <= array.nodes_.leaf_capacity(), "a tail with more elements than fit");
            }
            std::size_t leaves = 0;
            if (root != nullptr) {
                check.find_handle(root, alone);
                check.expect(array.levels_ == 1 || root->used > 1, "a root with a single inner node below it");
                leaves = leaves_below(root, array.levels_, true);
            }
            const std::size_t in_tree = leaves << array.nodes_.leaf_shift();
            check.expect(in_tree == array.tail_begin(), "an array that does not have as many leaves as its size says");
        }
        /// Checks a node and returns its leaves. `is_last`: the last node of its level, which need not be full.
        std::size_t leaves_below(const Node* node, unsigned level, bool is_last) {
            if (level == 0) {
                check.expect(node->used == array.nodes_.leaf_capacity(), "a leaf in the tree that is not full");
                return 1;
            }
            const bool first_time = check.enter(node);
            check.expect(node->used > 0, "an inner node without children");
            check.expect(node->used <= array.nodes_.fan_out(), "an inner node with more children than fit");
            std::size_t leaves = 0;
            for (std::size_t i = 0; i < node->used; ++i) {
                const Node* const child = Nodes::at(Nodes::children(node)[i]);
                check.expect(child != nullptr, "an inner node with an empty child");
                if (child == nullptr) continue;
                if (first_time) check.find_handle(child, array.alone_.get());
                leaves += leaves_below(child, level - 1, is_last && i + 1 == node->used);
            }
            const std::size_t full = std::size_t{1} << (level * array.nodes_.fan_shift());
            check.expect(is_last || leaves == full, "an inner node that is neither the last one nor full");
            return leaves;
        }

        TreeCheck& check;
        const Array& array;
    };

    template <class Tree, class Equal>
    struct MapCheck {
        using Nodes = typename Tree::Nodes;
        using Node = typename Tree::Node;
        static constexpr unsigned kHashBits = Nodes::kHashBits;

        void run() {
            const Node* const root = Nodes::at(tree.root_);
            std::size_t entries = 0;
            if (root != nullptr) {
                check.find_handle(root, tree.alone_.get());
                check.expect(!root->is_leaf() || root->bits == 0, "a leaf that is the root, but not for all hashes");
                entries = root->is_leaf() ? entries_in(root, 0) : entries_below(root, 0, 0);
            }
            check.expect(entries == tree.size_, "a map that does not have as many entries as its size says");
            check.expect(tree.shortcut_bits_ == 0 || tree.shortcuts_ != nullptr, "shortcuts that are not there");
            for (std::size_t i = 0; tree.shortcut_bits_ != 0 && i < std::size_t{1} << tree.shortcut_bits_; ++i) {
                check_shortcut(static_cast<std::uint64_t>(i) << (kHashBits - tree.shortcut_bits_));
            }
        }
        /// Checks an inner node and returns its entries. `prefix` has the `above` bits of a hash that lead to it.
        std::size_t entries_below(const Node* inner, unsigned above, std::uint64_t prefix) {
            const bool first_time = check.enter(inner);
            const bool is_widest = inner->bits == tree.nodes_.most_bits(above);
            check.expect(inner->bits > 0, "an inner node of one slot");
            check.expect(is_widest || inner->bits < tree.nodes_.most_bits(above), "an inner node that is too wide");
            const unsigned bits = above + inner->bits;
            std::size_t entries = 0;
            bool has_child = false;
            for (std::size_t i = 0; i < Nodes::slot_count(inner);) {
                const Node* const child = Nodes::at(Nodes::slots(inner)[i]);
                const bool is_inner = child != nullptr && !child->is_leaf();
                check.expect(Nodes::widths(inner, inner->bits)[i] == (is_inner ? child->bits : 0), "a wrong width");
                if (child == nullptr) {
                    ++i;
                    continue;
                }
                has_child = true;
                if (first_time) check.find_handle(child, tree.alone_.get());
                const std::uint64_t begin = prefix | static_cast<std::uint64_t>(i) << (kHashBits - bits);
                if (is_inner) {
                    check.expect(is_widest, "an inner node below one that could be wider");
                    entries += entries_below(child, bits, begin);
                    ++i;
                } else {
                    i += check_run(inner, i, child, above);
                    entries += entries_in(child, begin);
                }
            }
            check.expect(has_child, "an inner node without children");
            return entries;
        }
        /// Checks that a leaf stands in all slots that its bits say, and in no other. Returns how many these are.
        std::size_t check_run(const Node* inner, std::size_t first, const Node* leaf, unsigned above) {
            const unsigned bits = above + inner->bits;
            check.expect(above <= leaf->bits && leaf->bits <= bits, "a leaf with more or fewer bits than lead to it");
            if (leaf->bits < above || leaf->bits > bits) return 1;
            const std::size_t run = std::size_t{1} << (bits - leaf->bits);
            check.expect(first % run == 0, "a leaf that does not begin at its first slot");
            for (std::size_t i = 0; i < Nodes::slot_count(inner); ++i) {
                const bool in_run = i >= first && i - first < run;
                const bool is_there = Nodes::at(Nodes::slots(inner)[i]) == leaf;
                check.expect(is_there == in_run, "a leaf that is not in its slots, or in others");
            }
            return run;
        }
        /// Checks a leaf and returns its entries, whose hashes begin like `prefix`.
        std::size_t entries_in(const Node* leaf, std::uint64_t prefix) {
            const std::uint32_t least = tree.nodes_.leaf_capacity();
            check.expect(leaf->used > 0, "an empty leaf");
            check.expect(leaf->used <= leaf->capacity, "a leaf with more entries than fit");
            const bool is_doubled = leaf->capacity % least == 0 && std::has_single_bit(leaf->capacity / least);
            check.expect(is_doubled, "a leaf of a capacity that no leaf has");
            const auto* const entries = Nodes::entries(leaf);
            const std::uint8_t* const tags = Nodes::tags(leaf);
            for (std::uint32_t i = 0; i < leaf->used; ++i) {
                const std::uint64_t hash = tree.hash_of(entries[i].key);
                const std::uint64_t differs = leaf->bits == 0 ? 0 : (hash ^ prefix) >> (kHashBits - leaf->bits);
                check.expect(differs == 0, "an entry in a leaf for other hashes");
                check.expect(tags[i] == Nodes::tag_of(hash), "a wrong tag");
                for (std::uint32_t j = 0; j < i; ++j) {
                    check.expect(!Equal{}(entries[i].key, entries[j].key), "a key that is there twice");
                }
            }
            for (std::uint32_t i = leaf->used; i < leaf->capacity; ++i) check.expect(tags[i] == 0, "a tag of no entry");
            return leaf->used;
        }
        /// A shortcut leads to the leaf of all hashes that begin with its bits, if there is a single one.
        void check_shortcut(std::uint64_t hash) {
            const Node* node = Nodes::at(tree.root_);
            for (unsigned above = 0; node != nullptr && !node->is_leaf();) {
                const std::size_t slot = Tree::slot_of(hash, above, node);
                above += node->bits;
                node = Nodes::at(Nodes::slots(node)[slot]);
            }
            const bool is_single = node != nullptr && node->bits <= tree.shortcut_bits_;
            check.expect(tree.shortcut_to(hash) == (is_single ? node : nullptr), "a shortcut that leads elsewhere");
        }

        TreeCheck& check;
        const Tree& tree;
    };

    std::unordered_map<const void*, Handles> handles_;
    std::string problem_;
};

}  // namespace vmcow::heap::detail

namespace tests {

/// Checks the trees of all arrays and maps that share blocks with each other: the size, height and order of the nodes,
/// the hashes and tags of a map's leaves, its shortcuts, and that each node counts as many handles as lead to it.
/// Returns the first thing that is wrong; empty if nothing is.
template <class... Trees>
[[nodiscard]] std::string check_tree(const Trees&... trees) {
    vmcow::heap::detail::TreeCheck check;
    (check.add(trees), ...);
    return check.problem();
}

}  // namespace tests
