#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmcow/heap/block_iterator.hpp"
#include "vmcow/heap/block_nodes.hpp"

namespace vmcow::heap {

namespace detail {

/// What deduplication sees of an array.
struct BlockAccess;

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): named as the containers of the standard library are.

/// A sequence in blocks that copies share: copied in O(1), and then changed at the price of one leaf and the inner
/// nodes above it. What nobody shares is changed in place.
///
///     auto a = block_array<int>({.leaf_bytes = 64});
///     a = std::move(a).push_back(1);             // in place
///     const auto b = a;                          // O(1)
///     a = std::move(a).set(0, 2);                // copies one path; b[0] is 1
///     const auto c = a.set(0, 3);                // a stays as it is
///
/// Every change has three forms: on an lvalue it returns a new version; on an rvalue it may change that one in place;
/// and `..._in_place` changes the object itself, which only then copies what others share.
///
/// Shape:      leaves of as many elements as fit, rounded down to a power of two; the last leaf beside the tree. An
///             array of one element takes a whole leaf.
/// Elements:   any that can be copied. Trivially copyable ones are copied as bytes; `Allocator::construct` is not
/// asked. Throws:     std::out_of_range for an index that is not there; what the allocator and copying a T throw. The
/// array
///             holds then what it held before, if moving a T does not throw.
/// References: what `operator[]`, `leaf_from` and `for_each_span` give is good until this array is changed, assigned or
///             destroyed; changing a copy does not matter. To go on reading while changing, read a copy.
/// Iterators:  are indices into the array; they may be used after a change, and must not outlive the array.
/// Threads:    each array one at a time; with Sharing::threads, arrays that share blocks from any threads.
/// Allocators: copies share what the same memory holds. Between memories that are not equal a copy is one of all
///             elements, and touches no count of the original, so that an array in a `vmcow::Value` can be read while
///             its pages are read-only.
template <class T, Options kOptions = Options{}, class Allocator = std::allocator<T>>
class block_array {
    static_assert(std::is_object_v<T> && !std::is_const_v<T> && std::is_copy_constructible_v<T>);
    using Nodes = detail::BlockNodes<T, kOptions, Allocator>;
    using Node = typename Nodes::Node;
    using Child = typename Nodes::Child;
    using Memory = typename Nodes::Memory;
    friend struct detail::BlockAccess;
    friend class detail::BlockIterator<block_array>;

public:
    using value_type = T;
    using allocator_type = Allocator;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = const T&;
    using const_reference = const T&;
    using iterator = detail::BlockIterator<block_array>;
    using const_iterator = iterator;
    class builder;

    /// Leaves of 256 bytes, or larger ones where an element needs it.
    [[nodiscard]] static constexpr BlockShape default_shape() noexcept {
        return {std::max(BlockShape{}.leaf_bytes, std::bit_ceil(sizeof(T))), 0};
    }

    /// Empty; allocates nothing. Throws: std::invalid_argument -- see `BlockShape::checked`.
    block_array() : block_array(default_shape()) {}
    explicit block_array(const Allocator& allocator) : block_array(default_shape(), allocator) {}
    explicit block_array(const BlockShape& shape, const Allocator& allocator = Allocator())
        : nodes_(shape.checked(sizeof(T)), Memory(allocator)) {}
    explicit block_array(std::span<const T> elements, const BlockShape& shape = default_shape(),
                         const Allocator& allocator = Allocator())
        : block_array(shape, allocator) {
        builder all(std::move(*this));
        all.append(elements);
        take(std::move(all).build());
    }
    block_array(std::initializer_list<T> elements, const BlockShape& shape = default_shape(),
                const Allocator& allocator = Allocator())
        : block_array(std::span<const T>(elements.begin(), elements.size()), shape, allocator) {}

    /// Cost: O(1); O(n) where the copy has its memory elsewhere.
    block_array(const block_array& other) : block_array(other, other.nodes_.memory().for_copy()) {}
    block_array(const block_array& other, const Allocator& allocator) : block_array(other, Memory(allocator)) {}
    /// Leaves the other one empty.
    // NOLINTNEXTLINE(performance-move-constructor-init): a shape and an allocator, which the other one keeps
    [[gnu::always_inline]] block_array(block_array&& other) noexcept : nodes_(other.nodes_) { take(other); }
    block_array(block_array&& other, const Allocator& allocator) : nodes_(other.nodes_.shape(), Memory(allocator)) {
        move_from(other);
    }
    block_array& operator=(const block_array& other) {
        if (this == &other) return *this;
        const Memory& own = nodes_.memory();
        const Memory& theirs = other.nodes_.memory();
        block_array copy(other, Memory::kCopiesAllocator || own == theirs ? theirs : own);
        clear_in_place();
        take(copy);
        return *this;
    }
    block_array& operator=(block_array&& other) noexcept(Memory::kAlwaysEqual || Memory::kMovesAllocator) {
        if (this == &other) return *this;
        if constexpr (Memory::kMovesAllocator) {
            clear_in_place();
            take(other);
        } else {
            move_from(other);
        }
        return *this;
    }
    ~block_array() { clear_in_place(); }

    friend void swap(block_array& a, block_array& b) noexcept(std::is_nothrow_move_assignable_v<block_array>) {
        block_array other = std::move(a);
        a = std::move(b);
        b = std::move(other);
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] BlockShape shape() const noexcept { return nodes_.shape(); }
    [[nodiscard]] Allocator get_allocator() const noexcept { return nodes_.memory().allocator(); }
    /// Inner nodes above each leaf.
    [[nodiscard]] unsigned levels() const noexcept { return levels_; }
    /// No other array has any of this one's blocks, or the array is empty. Cost: O(blocks).
    [[nodiscard]] bool is_unique() const noexcept { return usage().shared_blocks == 0; }
    /// Cost: O(blocks).
    [[nodiscard]] BlockUsage usage() const noexcept {
        BlockUsage usage;
        if (tail_ != nullptr) count_blocks(Nodes::at(tail_), 0, false, usage);
        if (root_ != nullptr) count_blocks(Nodes::at(root_), levels_, false, usage);
        return usage;
    }

    // ---- reading

    /// Throws: std::out_of_range. Cost: a load per level.
    [[nodiscard, gnu::always_inline]] const T& operator[](std::size_t index) const {
        check(index);
        return Nodes::elements(leaf_of(index))[nodes_.in_leaf(index)];
    }
    [[nodiscard]] const T& at(std::size_t index) const { return (*this)[index]; }
    [[nodiscard]] const T& get(std::size_t index) const { return (*this)[index]; }
    [[nodiscard]] const T& front() const { return (*this)[0]; }
    [[nodiscard]] const T& back() const { return (*this)[size_ - 1]; }

    [[nodiscard]] iterator begin() const noexcept { return {*this, 0}; }
    [[nodiscard]] iterator end() const noexcept { return {*this, size_}; }

    /// The elements from `index` to the end of its leaf. Throws: std::out_of_range.
    [[nodiscard]] std::span<const T> leaf_from(std::size_t index) const {
        const T* const first = &(*this)[index];
        const std::size_t in_leaf = nodes_.in_leaf(index);
        return {first, std::min(nodes_.leaf_capacity() - in_leaf, size_ - index)};
    }
    /// Calls `visit(std::span<const T>)` for leaf after leaf: bulk reading at the speed of memory. `visit` may change
    /// this array: what follows is then read from what it has become.
    template <class F>
    requires std::invocable<F&, std::span<const T>>
    void for_each_span(F&& visit) const {
        for (std::size_t index = 0; index < size_;) {
            const std::uint64_t unchanged = changes_;
            if (index >= tail_begin()) {
                const std::span<const T> leaf = leaf_from(index);
                index += leaf.size();
                visit(leaf);
                continue;
            }
            const Node* const parent = parent_of(index);
            const std::size_t capacity = nodes_.leaf_capacity();
            std::size_t child = nodes_.child_of(index >> nodes_.leaf_shift(), 1);
            for (const std::size_t used = parent->used; child < used && changes_ == unchanged; ++child) {
                const T* const elements = Nodes::elements(Nodes::at(Nodes::children(parent)[child]));
                index += capacity;
                visit(std::span<const T>(elements, capacity));
                if (changes_ != unchanged) break;
            }
        }
    }

    /// Calls `visit(index, mine, theirs)` for elements from `index` on that may differ, in spans of the same length, as
    /// far as both arrays go; until it returns false.
    /// Cost: blocks that both share are not looked at; O(n) if the shapes differ.
    template <class F>
    requires std::predicate<F&, std::size_t, std::span<const T>, std::span<const T>>
    bool for_each_difference(const block_array& other, F&& visit) const {
        const std::size_t common = std::min(size_, other.size_);
        std::size_t index = 0;
        if (shape() == other.shape()) {
            const std::size_t leaves = std::min(tail_begin(), other.tail_begin()) >> nodes_.leaf_shift();
            const auto visit_leaves = [&](std::size_t leaf, const Node* a, const Node* b) {
                return visit(leaf << nodes_.leaf_shift(), std::span(Nodes::elements(a), nodes_.leaf_capacity()),
                             std::span(Nodes::elements(b), nodes_.leaf_capacity()));
            };
            if (leaves > 0 && !different_leaves(other, leaves, visit_leaves)) return false;
            index = leaves << nodes_.leaf_shift();
        }
        while (index < common) {
            const std::span<const T> mine = leaf_from(index);
            const std::span<const T> theirs = other.leaf_from(index);
            const std::size_t count = std::min(mine.size(), theirs.size());
            if (mine.data() != theirs.data() && !visit(index, mine.first(count), theirs.first(count))) return false;
            index += count;
        }
        return true;
    }

    /// The same elements in the same order. Cost: as `for_each_difference`.
    [[nodiscard]] bool operator==(const block_array& other) const requires std::equality_comparable<T> {
        const auto same = [](std::size_t, std::span<const T> a, std::span<const T> b) {
            return std::equal(a.begin(), a.end(), b.begin());
        };
        return size_ == other.size_ && for_each_difference(other, same);
    }

    // ---- changing

    [[nodiscard]] block_array set(std::size_t index, T element) const& {
        return changed([&](block_array& copy) { copy.set_in_place(index, std::move(element)); });
    }
    // Inlined, as what they call: a step of `a = std::move(a).set(i, x)` then moves nothing through memory.
    [[nodiscard, gnu::always_inline]] block_array set(std::size_t index, T element) && {
        set_in_place(index, std::move(element));
        return std::move(*this);
    }
    [[gnu::always_inline]] void set_in_place(std::size_t index, T element) {
        update_in_place(index, [&](T& place) { place = std::move(element); });
    }

    /// `change(element)` may write to the element, and to nothing else of this array.
    template <class F>
    requires std::invocable<F&&, T&>
    [[nodiscard]] block_array update(std::size_t index, F&& change) const& {
        return changed([&](block_array& copy) { copy.update_in_place(index, std::forward<F>(change)); });
    }
    template <class F>
    requires std::invocable<F&&, T&>
    [[nodiscard, gnu::always_inline]] block_array update(std::size_t index, F&& change) && {
        update_in_place(index, std::forward<F>(change));
        return std::move(*this);
    }
    template <class F>
    requires std::invocable<F&&, T&>
    [[gnu::always_inline]] void update_in_place(std::size_t index, F&& change) {
        check(index);
        ++changes_;
        Node* const leaf = alone_.get() ? leaf_of(index) : own_leaf(index);
        std::forward<F>(change)(Nodes::elements(leaf)[nodes_.in_leaf(index)]);
    }

    [[nodiscard]] block_array push_back(T element) const& {
        return changed([&](block_array& copy) { copy.push_back_in_place(std::move(element)); });
    }
    [[nodiscard]] block_array push_back(T element) && {
        push_back_in_place(std::move(element));
        return std::move(*this);
    }
    void push_back_in_place(T element) {
        ++changes_;
        const std::size_t in_tail = size_ - tail_begin();
        if (in_tail == nodes_.leaf_capacity() || tail_ == nullptr) {
            Node* const leaf = nodes_.make_leaf();
            try {
                nodes_.append_element(leaf, std::move(element));
            } catch (...) {
                nodes_.drop(leaf, 0);
                throw;
            }
            add_tail(leaf);
        } else {
            Node* const tail = nodes_.own(tail_, 0, in_tail);
            nodes_.truncate(tail, in_tail);  // what a copy has had that is gone now
            nodes_.append_element(tail, std::move(element));
        }
        ++size_;
    }

    /// Throws: std::out_of_range -- it is empty.
    [[nodiscard]] block_array pop_back() const& {
        return changed([](block_array& copy) { copy.pop_back_in_place(); });
    }
    [[nodiscard]] block_array pop_back() && {
        pop_back_in_place();
        return std::move(*this);
    }
    void pop_back_in_place() {
        if (size_ == 0) throw std::out_of_range("pop of an empty block_array");
        ++changes_;
        const std::size_t left = size_ - tail_begin() - 1;
        Node* const tail = Nodes::at(tail_);
        if (left > 0) {
            if (tail->count.unique()) nodes_.truncate(tail, left);
        } else {
            tail_ = Child(root_ == nullptr ? nullptr : take_last_leaf());
            nodes_.drop(tail, 0);
        }
        --size_;
    }

    /// Keeps the shape.
    [[gnu::always_inline]] void clear_in_place() noexcept {
        ++changes_;
        size_ = 0;
        if (Node* const tail = Nodes::at(std::exchange(tail_, Child(nullptr)))) nodes_.drop(tail, 0);
        if (Node* const root = Nodes::at(std::exchange(root_, Child(nullptr)))) nodes_.drop(root, levels_);
        levels_ = 0;
        alone_.set(true);
    }

private:
    block_array(const block_array& other, const Memory& memory) : nodes_(other.nodes_.shape(), memory) {
        if (memory == other.nodes_.memory()) {
            nodes_ = other.nodes_;  // which knows where its memory is
            share(other);
        } else {
            builder all(std::move(*this));
            other.for_each_span([&](std::span<const T> leaf) { all.append(leaf); });
            take(std::move(all).build());
        }
    }

    void share(const block_array& other) noexcept {
        other.alone_.set(false);
        alone_.set(false);
        root_ = other.root_;
        tail_ = other.tail_;
        size_ = other.size_;
        levels_ = other.levels_;
        if (root_ != nullptr) Nodes::at(root_)->count.add();
        if (tail_ != nullptr) Nodes::at(tail_)->count.add();
    }
    /// With the memory, which knows more once it has been asked for some. Pre: this one is empty.
    [[gnu::always_inline]] void take(block_array& other) noexcept {
        nodes_ = other.nodes_;
        ++changes_;
        ++other.changes_;
        root_ = std::exchange(other.root_, Child(nullptr));
        tail_ = std::exchange(other.tail_, Child(nullptr));
        size_ = std::exchange(other.size_, 0);
        levels_ = std::exchange(other.levels_, 0);
        alone_.set(other.alone_.get());
        other.alone_.set(true);
    }
    void take(block_array&& other) noexcept { take(other); }
    void move_from(block_array& other) {
        if (Memory::kAlwaysEqual || nodes_.memory() == other.nodes_.memory()) {
            clear_in_place();
            take(other);
        } else {
            block_array copy(other, nodes_.memory());
            clear_in_place();
            take(copy);
            other.clear_in_place();
        }
    }
    template <class F>
    [[nodiscard]] block_array changed(F&& change) const {
        block_array copy(*this);
        change(copy);
        return copy;
    }

    void check(std::size_t index) const {
        if (index >= size_) [[unlikely]]
            refuse_index();
    }
    [[noreturn, gnu::noinline, gnu::cold]] static void refuse_index() {
        throw std::out_of_range("an index past the end of a block_array");
    }
    [[nodiscard]] std::size_t tail_begin() const noexcept {
        return size_ == 0 ? 0 : size_ - 1 - nodes_.in_leaf(size_ - 1);
    }
    [[nodiscard, gnu::always_inline]] Node* leaf_of(std::size_t index) const noexcept {
        if (index >= tail_begin()) return Nodes::at(tail_);
        return nodes_.leaf_below(Nodes::at(root_), levels_, index >> nodes_.leaf_shift());
    }
    /// The inner node right above the leaf. Pre: that is in the tree.
    [[nodiscard]] const Node* parent_of(std::size_t index) const noexcept {
        const Node* node = Nodes::at(root_);
        for (unsigned level = levels_; level > 1; --level) {
            node = Nodes::at(Nodes::children(node)[nodes_.child_of(index >> nodes_.leaf_shift(), level)]);
        }
        return node;
    }
    /// The leaf of an element, and all above it, made this array's own. Pre: the index is there.
    /// Not inlined, while what surrounds it is: an array that is changed in place step by step stays in registers.
    [[nodiscard, gnu::noinline]] Node* own_leaf(std::size_t index) {
        // What copies had is this array's alone again some day. To find that out, all blocks are looked at, but no more
        // often than there were as many writes.
        if (++alone_.writes > size_ >> nodes_.leaf_shift()) {
            alone_.writes = 0;
            alone_.set(is_unique());
        }
        const std::size_t begin = tail_begin();
        if (index >= begin) return nodes_.own(tail_, 0, size_ - begin);
        Child* slot = &root_;
        for (unsigned level = levels_; level > 0; --level) {
            Node* const node = nodes_.own(*slot, level, 0);
            slot = &Nodes::children(node)[nodes_.child_of(index >> nodes_.leaf_shift(), level)];
        }
        return nodes_.own(*slot, 0, nodes_.leaf_capacity());
    }

    /// The leaf as the only child of as many inner nodes as there are levels. Throws: the leaf is still the caller's.
    [[nodiscard]] Node* chain(Node* leaf, unsigned levels) {
        Node* top = leaf;
        try {
            for (unsigned level = 0; level < levels; ++level) {
                Node* const above = nodes_.make_inner();
                Nodes::append_child(above, top);
                top = above;
            }
        } catch (...) {
            while (top != leaf) {
                Node* const below = Nodes::detach_last(top);
                nodes_.free_inner(top);
                top = below;
            }
            throw;
        }
        return top;
    }
    /// Makes a leaf the tail, and puts the full one that is the tail so far into the tree. Throws: the leaf has ended.
    void add_tail(Node* leaf) {
        try {
            if (tail_ != nullptr) push_leaf(Nodes::at(tail_));
        } catch (...) {
            nodes_.drop(leaf, 0);
            throw;
        }
        tail_ = Child(leaf);
    }
    /// Puts a full leaf, and the caller's handle of it, behind the last one. Throws: the leaf is still the caller's.
    void push_leaf(Node* leaf) {
        const std::size_t leaves = tail_begin() >> nodes_.leaf_shift();
        if (root_ == nullptr) {
            root_ = Child(chain(leaf, 1));
            levels_ = 1;
            return;
        }
        if (leaves >> (levels_ * nodes_.fan_shift()) != 0) {
            Node* const top = nodes_.make_inner();
            try {
                Node* const side = chain(leaf, levels_);
                Nodes::append_child(top, Nodes::at(root_));
                Nodes::append_child(top, side);
            } catch (...) {
                nodes_.free_inner(top);
                throw;
            }
            root_ = Child(top);
            ++levels_;
            return;
        }
        Child* slot = &root_;
        for (unsigned level = levels_;; --level) {
            Node* const node = nodes_.own(*slot, level, 0);
            const std::size_t child = nodes_.child_of(leaves, level);
            if (child == node->used) {
                Nodes::append_child(node, chain(leaf, level - 1));
                return;
            }
            slot = &Nodes::children(node)[child];
        }
    }
    /// Takes the last leaf out of the tree. Pre: there is one. Throws: nothing has changed.
    [[nodiscard]] Node* take_last_leaf() {
        Node* path[64];
        Child* slot = &root_;
        for (unsigned level = levels_; level > 0; --level) {
            path[level] = nodes_.own(*slot, level, 0);
            slot = &Nodes::children(path[level])[path[level]->used - 1];
        }
        Node* const leaf = Nodes::detach_last(path[1]);
        unsigned level = 1;
        for (; level < levels_ && path[level]->used == 0; ++level) {
            nodes_.free_inner(Nodes::detach_last(path[level + 1]));
        }
        // The root goes that leads nowhere, or down one way only.
        if (path[levels_]->used == 0) {
            nodes_.free_inner(path[levels_]);
            root_ = Child(nullptr);
            levels_ = 0;
        }
        while (levels_ > 1 && Nodes::at(root_)->used == 1) {
            Node* const top = Nodes::at(root_);
            if (!top->count.unique()) break;
            root_ = Child(Nodes::detach_last(top));
            nodes_.free_inner(top);
            --levels_;
        }
        return leaf;
    }

    /// Calls `visit(leaf, mine, theirs)` for the leaves below `leaves` that are not the same block. Pre: both trees
    /// have that many.
    template <class F>
    bool different_leaves(const block_array& other, std::size_t leaves, F& visit) const {
        const Node* a = Nodes::at(root_);
        const Node* b = Nodes::at(other.root_);
        const unsigned level = std::min(levels_, other.levels_);
        // The lower tree is as high as all common leaves are: they are below the first child of each higher node.
        for (unsigned above = levels_; above > level; --above) a = Nodes::at(Nodes::children(a)[0]);
        for (unsigned above = other.levels_; above > level; --above) b = Nodes::at(Nodes::children(b)[0]);
        return different_below(a, b, level, 0, leaves, visit);
    }
    template <class F>
    bool different_below(const Node* a, const Node* b, unsigned level, std::size_t first, std::size_t leaves,
                         F& visit) const {
        if (a == b) return true;
        if (level == 0) return visit(first, a, b);
        const unsigned shift = (level - 1) * nodes_.fan_shift();
        for (std::size_t child = 0; child < std::min(a->used, b->used); ++child) {
            const std::size_t begin = first + (child << shift);
            if (begin >= leaves) break;
            if (!different_below(Nodes::at(Nodes::children(a)[child]), Nodes::at(Nodes::children(b)[child]), level - 1,
                                 begin, leaves, visit)) {
                return false;
            }
        }
        return true;
    }

    void count_blocks(const Node* node, unsigned level, bool shared, BlockUsage& usage) const noexcept {
        shared = shared || !node->count.unique();
        ++(level == 0 ? usage.leaves : usage.inner_nodes);
        usage.bytes += nodes_.allocated_bytes(level);
        usage.shared_blocks += shared ? 1 : 0;
        for (std::size_t i = 0; level > 0 && i < node->used; ++i) {
            count_blocks(Nodes::at(Nodes::children(node)[i]), level - 1, shared, usage);
        }
    }

    Nodes nodes_;
    std::uint8_t levels_ = 0;  ///< 0 where there is no tree: all elements are in the tail
    Child root_ = Child(nullptr);
    Child tail_ = Child(nullptr);  ///< the last leaf; it may hold more than the array has left of it
    std::size_t size_ = 0;
    std::uint64_t changes_ = 0;
    detail::AloneFlag<kOptions.sharing> alone_;
};

// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap

#include "vmcow/heap/block_builder.hpp"
