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

#include "vmcow/heap/blocks/array_iterator.hpp"
#include "vmcow/heap/blocks/array_nodes.hpp"
#include "vmcow/heap/sharing.hpp"

namespace vmcow::heap {

namespace detail {

/// The access of deduplication to an array.
struct BlockAccess;

}  // namespace detail

// NOLINTBEGIN(readability-identifier-naming): named as the containers of the standard library are.

/// A sequence in blocks that copies share. A copy is O(1); a change of an array copies one leaf and the inner nodes
/// above it, where others share them, and changes blocks in place that nobody shares.
///
///     auto a = block_array<int>({.leaf_bytes = 64});
///     a.push_back_in_place(1);
///     const auto b = a;                          // O(1)
///     a = std::move(a).set(0, 2);                // copies one path; b[0] is 1
///     const auto c = a.set(0, 3);                // a stays as it is
///
/// Every change has three forms: on an lvalue it returns a new version; on an rvalue it may change that version in
/// place; and `..._in_place` changes the object itself. An array that was moved from, by any function that takes an
/// rvalue, is empty, keeps its shape and can be used again.
///
/// Shape:      leaves of as many elements as fit, rounded down to a power of two; the last leaf is beside the tree. An
///             array of one element takes a whole leaf.
/// Elements:   any type that can be copied. Trivially copyable elements are copied as bytes, without
///             `Allocator::construct`.
/// Throws:     std::out_of_range for an index that is not there; what the allocator and copying a T throw. The array
///             holds then what it held before, if moving a T does not throw.
/// References: what `operator[]`, `leaf_from` and `for_each_span` give is good until this array is changed, assigned or
///             destroyed; changing a copy does not matter. To go on reading while changing, read a copy.
/// Iterators:  are indices into the array; they may be used after a change, and must not outlive the array.
/// Threads:    each array one at a time; with Sharing::threads, arrays that share blocks from any threads.
/// Allocators: copies with an equal allocator share blocks. A copy with another allocator copies all elements and
///             touches no count of the original, so an array in a `vmcow::Value` can be read in read-only pages.
template <class T, Options kOptions = Options{}, class Allocator = std::allocator<T>>
class block_array {
    static_assert(std::is_object_v<T> && !std::is_const_v<T> && std::is_copy_constructible_v<T>);
    using Nodes = detail::BlockNodes<T, kOptions, Allocator>;
    using Node = typename Nodes::Node;
    using Child = typename Nodes::Child;
    using Memory = typename Nodes::Memory;
    friend struct detail::BlockAccess;
    friend class detail::TreeCheck;
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

    /// Cost: O(1); O(n) where the copy takes its memory from another allocator.
    block_array(const block_array& other) : block_array(other, other.nodes_.memory().for_copy()) {}
    block_array(const block_array& other, const Allocator& allocator) : block_array(other, Memory(allocator)) {}
    /// Leaves `other` empty.
    // NOLINTNEXTLINE(performance-move-constructor-init): a shape and an allocator, which `other` keeps
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
        detail::swap_by_moves(a, b, Memory::kMovesAllocator || a.nodes_.memory() == b.nodes_.memory());
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] BlockShape shape() const noexcept { return nodes_.shape(); }
    [[nodiscard]] Allocator get_allocator() const noexcept { return nodes_.memory().allocator(); }
    /// How many inner nodes lie above each leaf.
    [[nodiscard]] unsigned levels() const noexcept { return levels_; }
    /// Whether no other array has any block of this one; true for an empty array. Cost: O(blocks).
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
    [[nodiscard, gnu::always_inline]] const T& operator[](std::size_t index) const& {
        check(index);
        return Nodes::elements(leaf_of(index))[nodes_.in_leaf(index)];
    }
    [[nodiscard]] const T& at(std::size_t index) const& { return (*this)[index]; }
    [[nodiscard]] const T& get(std::size_t index) const& { return (*this)[index]; }
    [[nodiscard]] const T& front() const& { return (*this)[0]; }
    [[nodiscard]] const T& back() const& { return (*this)[size_ - 1]; }
    // Of a temporary, these return copies of elements: the array is gone when the result is used.
    [[nodiscard]] T operator[](std::size_t index) const&& { return (*this)[index]; }
    [[nodiscard]] T at(std::size_t index) const&& { return (*this)[index]; }
    [[nodiscard]] T get(std::size_t index) const&& { return (*this)[index]; }
    [[nodiscard]] T front() const&& { return (*this)[0]; }
    [[nodiscard]] T back() const&& { return (*this)[size_ - 1]; }

    [[nodiscard]] iterator begin() const& noexcept { return {*this, 0}; }
    [[nodiscard]] iterator end() const& noexcept { return {*this, size_}; }
    template <class U = T>
    [[nodiscard]] iterator begin() const&& noexcept {
        return detail::refuse_view_of_temporary<U>(), iterator();
    }
    template <class U = T>
    [[nodiscard]] iterator end() const&& noexcept {
        return detail::refuse_view_of_temporary<U>(), iterator();
    }

    /// The elements from `index` to the end of its leaf. Throws: std::out_of_range.
    template <class U = T>
    [[nodiscard]] std::span<const T> leaf_from(std::size_t) const&& {
        return detail::refuse_view_of_temporary<U>(), std::span<const T>();
    }
    [[nodiscard]] std::span<const T> leaf_from(std::size_t index) const& {
        const T* const first = &(*this)[index];
        const std::size_t in_leaf = nodes_.in_leaf(index);
        return {first, std::min(nodes_.leaf_capacity() - in_leaf, size_ - index)};
    }
    /// Calls `visit(std::span<const T>)` for each leaf: bulk reading at the speed of memory. `visit` may change this
    /// array: the elements that follow are then read from the changed array.
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

    /// Calls `visit(index, mine, theirs)` for elements from `index` on that may differ, in spans of equal length, up to
    /// the end of the shorter array, until `visit` returns false.
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

    [[VMCOW_RETURNS_CHANGED_COPY(set)]] block_array set(std::size_t index, T element) const& {
        return changed([&](block_array& copy) { copy.set_in_place(index, std::move(element)); });
    }
    // Inlined, with the functions it calls: so a step of `a = std::move(a).set(i, x)` moves nothing through memory.
    [[VMCOW_RETURNS_ITSELF(set), gnu::always_inline]] block_array set(std::size_t index, T element) && {
        set_in_place(index, std::move(element));
        return std::move(*this);
    }
    [[gnu::always_inline]] void set_in_place(std::size_t index, T element) { own_element(index) = std::move(element); }

    /// Calls `change(element)`, which may write to the element, and must neither change nor copy this array.
    /// Throws: std::logic_error -- `change` has changed or copied the array.
    template <class F>
    requires std::invocable<F&&, T&>
    [[VMCOW_RETURNS_CHANGED_COPY(update)]] block_array update(std::size_t index, F&& change) const& {
        return changed([&](block_array& copy) { copy.update_in_place(index, std::forward<F>(change)); });
    }
    template <class F>
    requires std::invocable<F&&, T&>
    [[VMCOW_RETURNS_ITSELF(update), gnu::always_inline]] block_array update(std::size_t index, F&& change) && {
        update_in_place(index, std::forward<F>(change));
        return std::move(*this);
    }
    template <class F>
    requires std::invocable<F&&, T&>
    [[gnu::always_inline]] void update_in_place(std::size_t index, F&& change) {
        T& element = own_element(index);
        const std::uint64_t changes = changes_;
        std::forward<F>(change)(element);
        // A copy that `change` has made shares the tail and the root.
        const auto is_own = [&] { return Nodes::at(index >= tail_begin() ? tail_ : root_)->count.unique(); };
        detail::check_only_element_changed(changes_ == changes && is_own());
    }

    [[VMCOW_RETURNS_CHANGED_COPY(push_back)]] block_array push_back(T element) const& {
        return changed([&](block_array& copy) { copy.push_back_in_place(std::move(element)); });
    }
    [[VMCOW_RETURNS_ITSELF(push_back)]] block_array push_back(T element) && {
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
            nodes_.truncate(tail, in_tail);  // elements behind them were those of a copy that is gone
            nodes_.append_element(tail, std::move(element));
        }
        ++size_;
    }

    /// Throws: std::out_of_range -- the array is empty.
    [[VMCOW_RETURNS_CHANGED_COPY(pop_back)]] block_array pop_back() const& {
        return changed([](block_array& copy) { copy.pop_back_in_place(); });
    }
    [[VMCOW_RETURNS_ITSELF(pop_back)]] block_array pop_back() && {
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

    /// Removes all elements and keeps the shape.
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
            nodes_ = other.nodes_;  // whose allocator is no longer undecided
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
    /// Takes over the blocks and the allocator, which is decided once it has given memory. Pre: this array is empty.
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

    /// An element, for a change. Throws: std::out_of_range; what copying shared blocks throws.
    [[nodiscard, gnu::always_inline]] T& own_element(std::size_t index) {
        check(index);
        ++changes_;
        Node* const leaf = alone_.get() ? leaf_of(index) : own_leaf(index);
        return Nodes::elements(leaf)[nodes_.in_leaf(index)];
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
    /// The inner node right above the leaf of an element. Pre: the leaf is in the tree.
    [[nodiscard]] const Node* parent_of(std::size_t index) const noexcept {
        const Node* node = Nodes::at(root_);
        for (unsigned level = levels_; level > 1; --level) {
            node = Nodes::at(Nodes::children(node)[nodes_.child_of(index >> nodes_.leaf_shift(), level)]);
        }
        return node;
    }
    /// The leaf of an element, after it and the nodes above it were made this array's own. Pre: the index is there.
    /// Not inlined, unlike its callers: so an array that is changed in place step by step stays in registers.
    [[nodiscard, gnu::noinline]] Node* own_leaf(std::size_t index) {
        // When copies have ended, this array may have its blocks alone again. Finding out means a look at all blocks,
        // so it is done only after as many writes as there are leaves.
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

    /// The leaf below `levels` inner nodes of one child each.
    /// Throws: what the allocator throws; the leaf is still the caller's.
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
    /// Puts the full tail into the tree, and makes `leaf` the tail. Throws: what the allocator throws; `leaf` is gone.
    void add_tail(Node* leaf) {
        try {
            if (tail_ != nullptr) push_leaf(Nodes::at(tail_));
        } catch (...) {
            nodes_.drop(leaf, 0);
            throw;
        }
        tail_ = Child(leaf);
    }
    /// Adds a full leaf to the tree, which takes over the caller's handle.
    /// Throws: what the allocator throws; the leaf is still the caller's.
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
    /// Takes the last leaf out of the tree. Pre: there is one.
    /// Throws: what copying shared blocks throws; no element has changed.
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
        // A root without children goes, and so does a root with a single inner node below it.
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

    /// Calls `visit(leaf, mine, theirs)` for those of the first `leaves` leaves whose blocks both trees do not share.
    /// Pre: both trees have that many leaves.
    template <class F>
    bool different_leaves(const block_array& other, std::size_t leaves, F& visit) const {
        const Node* a = Nodes::at(root_);
        const Node* b = Nodes::at(other.root_);
        const unsigned level = std::min(levels_, other.levels_);
        // All common leaves fit below the root of the lower tree, so in the higher tree they lie below first children.
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
    Child tail_ = Child(nullptr);  ///< the last leaf; it may hold elements behind `size_` that copies have or had
    std::size_t size_ = 0;
    std::uint64_t changes_ = 0;
    detail::AloneFlag<kOptions.sharing> alone_;
};

// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap

#include "vmcow/heap/block_builder.hpp"
