#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/counting_allocator.hpp"
#include "vmcow/heap/whole/release.hpp"

namespace vmcow::heap::detail {

/// The unit in which a buffer is allocated.
struct alignas(16) BufferUnit {
    std::byte bytes[16];
};

/// The header of a buffer; the elements follow.
template <Sharing kSharing>
struct BufferHeader {
    HandleCount<kSharing> handles;
    std::size_t size = 0;
    std::size_t capacity = 0;
};
/// The header of a buffer whose elements have destructors that do something: `release` ends such a buffer.
template <Sharing kSharing, class Allocator>
struct DeepBufferHeader : Released, BufferHeader<kSharing> {
    [[no_unique_address]] Allocator allocator;
};

/// An element whose copy constructor takes the allocator of the buffer in which the copy will lie.
template <class T>
concept TakesBufferAllocator = requires {
    typename T::TakesBufferAllocator;
};

/// A handle of elements in a row, in one block of memory that handles share: what list, slice and string are made of.
///
/// Shape:  one pointer, nullptr when there is nothing; the block is | header | elements | room |.
/// Throws: what the allocator and copying an element throw; then everything is as before. Moving an element must not
///         throw: if it does, the old elements are there in no particular order.
template <class T, Options kOptions, class Allocator>
class Buffer {
    using UnitAllocator = typename AllocatorFor<BufferUnit, kOptions, Allocator>::Type;
    using ElementAllocator = typename AllocatorFor<T, kOptions, Allocator>::Type;
    using Traits = std::allocator_traits<UnitAllocator>;
    using Pointer = typename Traits::pointer;
    template <class U>
    using HeaderOf = std::conditional_t<std::is_trivially_destructible_v<U>, BufferHeader<kOptions.sharing>,
                                        DeepBufferHeader<kOptions.sharing, UnitAllocator>>;

public:
    Buffer() = default;
    explicit Buffer(const Allocator& allocator) noexcept : allocator_(UnitAllocator(allocator)) {}
    Buffer(const Buffer& other) : allocator_(Traits::select_on_container_copy_construction(other.allocator_)) {
        share_or_copy(other);
    }
    Buffer(const Buffer& other, const Allocator& allocator) : allocator_(UnitAllocator(allocator)) {
        share_or_copy(other);
    }
    /// A handle for `count` elements of another buffer, from `first` on. Where the memory can be shared, all of it is;
    /// else only these elements are copied, and `first` is set to 0, where they begin then.
    Buffer(const Buffer& other, std::size_t& first, std::size_t count)
        : allocator_(Traits::select_on_container_copy_construction(other.allocator_)) {
        share_or_copy(other, first, count);
    }
    Buffer(const Buffer& other, std::size_t& first, std::size_t count, const Allocator& allocator)
        : allocator_(UnitAllocator(allocator)) {
        share_or_copy(other, first, count);
    }
    Buffer(Buffer&& other) noexcept
        : allocator_(std::move(other.allocator_)), node_(std::exchange(other.node_, nullptr)) {}
    Buffer(Buffer&& other, const Allocator& allocator) : allocator_(UnitAllocator(allocator)) { take_or_copy(other); }
    Buffer& operator=(const Buffer& other) {
        if (this == &other || (node_ != nullptr && node_ == other.node_)) return *this;
        if constexpr (Traits::propagate_on_container_copy_assignment::value) {
            Buffer copy(other, other.get_allocator());
            drop();
            allocator_ = copy.allocator_;
            node_ = std::exchange(copy.node_, nullptr);
        } else {
            Buffer copy(other, get_allocator());
            take(copy);
        }
        return *this;
    }
    // NOLINTNEXTLINE(bugprone-exception-escape): where this could throw, it is not noexcept.
    Buffer& operator=(Buffer&& other) noexcept(Traits::propagate_on_container_move_assignment::value ||
                                               Traits::is_always_equal::value) {
        if (this == &other) return *this;
        if constexpr (Traits::propagate_on_container_move_assignment::value) {
            const Buffer old(std::move(*this));
            allocator_ = std::move(other.allocator_);
            node_ = std::exchange(other.node_, nullptr);
        } else {
            Buffer taken(std::move(other), get_allocator());
            take(taken);
        }
        return *this;
    }
    ~Buffer() { drop(); }

    /// Where the allocators are not equal and are not swapped, the elements are copied.
    void swap(Buffer& other) {
        if constexpr (Traits::propagate_on_container_swap::value) {
            std::swap(allocator_, other.allocator_);
            std::swap(node_, other.node_);
        } else if (allocator_ == other.allocator_) {
            Buffer mine(std::move(*this), other.get_allocator());
            take(other);
            other.take(mine);
        } else {
            // Both copies come first: if the second one fails, neither handle has lost its elements.
            Buffer mine(std::as_const(*this), other.get_allocator());
            Buffer others(std::as_const(other), get_allocator());
            take(others);
            other.take(mine);
        }
    }

    [[nodiscard]] Allocator get_allocator() const noexcept { return Allocator(allocator_); }
    [[nodiscard]] std::size_t size() const noexcept { return node_ == nullptr ? 0 : header()->size; }
    [[nodiscard]] std::size_t capacity() const noexcept { return node_ == nullptr ? 0 : header()->capacity; }
    [[nodiscard]] bool has_memory() const noexcept { return node_ != nullptr; }
    /// Whether no other handle shares the memory.
    [[nodiscard]] bool is_unique() const noexcept { return node_ == nullptr || header()->handles.unique(); }
    [[nodiscard]] bool shares_with(const Buffer& other) const noexcept {
        return node_ != nullptr && node_ == other.node_;
    }
    /// The first element; nullptr if the buffer has no memory.
    [[nodiscard]] const T* data() const noexcept { return node_ == nullptr ? nullptr : elements(header()); }
    /// The first element, for writing; nullptr if the buffer has no memory. Pre: unique.
    [[nodiscard]] T* writable() noexcept { return node_ == nullptr ? nullptr : elements(header()); }

    /// Constructs an element at `at + made`, through the allocator, and counts it in `made`.
    template <class... A>
    void construct(T* at, std::size_t& made, A&&... arguments) {
        ElementAllocator allocator(allocator_);
        std::allocator_traits<ElementAllocator>::construct(allocator, at + made, std::forward<A>(arguments)...);
        ++made;
    }
    /// Constructs copies of `count` elements at `at + made`, and counts them in `made`.
    void construct_copies(T* at, std::size_t& made, const T* from, std::size_t count) {
        if constexpr (std::is_trivially_copyable_v<T>) {
            if (count != 0) std::memcpy(static_cast<void*>(at + made), from, count * sizeof(T));
            made += count;
        } else if constexpr (TakesBufferAllocator<T>) {
            for (; count != 0; --count, ++from) construct(at, made, *from, get_allocator());
        } else {
            for (; count != 0; --count, ++from) construct(at, made, *from);
        }
    }

    /// Replaces the `removed` elements from `at` on by `count` new ones, in place if the memory is unique and there is
    /// room. `fill(to, made)` constructs the new elements at `to` and counts them in `made`. The old elements are still
    /// as they were while it runs, so it may copy from them.
    /// Pre: the removed elements are there.
    template <class Fill>
    void replace(std::size_t at, std::size_t removed, std::size_t count, const Fill& fill) {
        static_cast<void>(replace_within(0, size(), at, removed, count, fill));
    }
    /// As `replace`, for the `size` elements from `first` on: no other element stays, and `at` counts from `first`.
    /// Returns the index at which these elements begin afterwards.
    template <class Fill>
    std::size_t replace_within(std::size_t first, std::size_t size, std::size_t at, std::size_t removed,
                               std::size_t count, const Fill& fill) {
        if (count > kMost || size - removed > kMost - count) throw std::length_error("more elements than fit");
        if (is_unique() && first + size + count <= capacity()) {
            cut(first + size);
            replace_in_place(first + at, removed, count, fill);
            return first;
        }
        const std::size_t needed = size - removed + count;
        rebuild(first, size, at, removed, count, count > removed ? grown_capacity(size, needed) : needed, fill);
        return 0;
    }
    /// Keeps only the `size` elements from `first` on, in memory that has room for no more.
    void keep_only(std::size_t first, std::size_t size) {
        rebuild(first, size, 0, 0, 0, size, [](T*, std::size_t&) {});
    }
    /// Removes the `removed` elements from `at` on.
    void erase(std::size_t at, std::size_t removed) {
        if (removed != 0) replace(at, removed, 0, [](T*, std::size_t&) {});
    }
    /// Adds an element at the end. `value` may lie in this buffer.
    template <class U>
    void push(U&& value) {
        const auto fill = [&](T* to, std::size_t& made) { construct(to, made, std::forward<U>(value)); };
        if (node_ != nullptr && header()->handles.unique() && header()->size < header()->capacity) [[likely]] {
            fill(elements(header()), header()->size);
        } else {
            replace(size(), 0, 1, fill);
        }
    }
    void append_copies(const T* from, std::size_t count) {
        if (count == 0) return;
        replace(size(), 0, count, [&](T* to, std::size_t& made) { construct_copies(to, made, from, count); });
    }
    /// Copies the elements if other handles share them.
    void make_unique() {
        if (!is_unique()) replace(0, 0, 0, [](T*, std::size_t&) {});
    }
    /// Makes room for `capacity` elements. Pre: unique.
    void reserve(std::size_t capacity) {
        if (capacity <= this->capacity()) return;
        Filling filling(*this, allocate(capacity), size(), 0);
        filling.move_around(writable(), size(), 0, size());
        Pointer filled = filling.finish(size());
        drop();
        node_ = filled;
    }

    /// Gives the memory up: this handle holds nothing afterwards.
    void drop() noexcept {
        if (node_ == nullptr) return;
        using Header = HeaderOf<T>;
        Header* const mine = header();
        const Pointer node = std::exchange(node_, nullptr);
        if (!mine->handles.drop()) return;
        if constexpr (std::is_trivially_destructible_v<T>) {
            const std::size_t units = units_of(mine->capacity);
            std::destroy_at(mine);
            Traits::deallocate(allocator_, node, units);
        } else {
            release(mine, &end);
        }
    }

private:
    static constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max() / 4;

    /// A block that is being filled: | elements before the new ones | new ones | elements behind them |. The destructor
    /// gives the block back unless `finish` was called.
    struct Filling {
        Filling(Buffer& buffer, Pointer block, std::size_t first, std::size_t new_count)
            : owner(buffer), node(block), at(first), count(new_count) {}
        Filling(const Filling&) = delete;
        Filling& operator=(const Filling&) = delete;
        ~Filling() {
            if (node == nullptr) return;
            T* const first = elements(header_of(node));
            std::destroy_n(first, front);
            std::destroy_n(first + at, middle);
            std::destroy_n(first + at + count, back);
            const std::size_t units = units_of(header_of(node)->capacity);
            std::destroy_at(header_of(node));
            Traits::deallocate(owner.allocator_, node, units);
        }
        [[nodiscard]] T* new_elements() noexcept { return elements(header_of(node)) + at; }
        void copy_around(const T* from, std::size_t split, std::size_t removed, std::size_t size) {
            T* const first = elements(header_of(node));
            owner.construct_copies(first, front, from, split);
            owner.construct_copies(first + at + count, back, from + split + removed, size - split - removed);
        }
        void move_around(T* from, std::size_t split, std::size_t removed, std::size_t size) {
            if constexpr (std::is_trivially_copyable_v<T>) {
                if (from != nullptr) copy_around(from, split, removed, size);
            } else {
                T* const first = elements(header_of(node));
                while (front < split) owner.construct(first, front, std::move_if_noexcept(from[front]));
                T* const behind = from + split + removed;
                while (back < size - split - removed) {
                    owner.construct(first + at + count, back, std::move_if_noexcept(behind[back]));
                }
            }
        }
        [[nodiscard]] Pointer finish(std::size_t size) noexcept {
            header_of(node)->size = size;
            return std::exchange(node, nullptr);
        }

        Buffer& owner;
        Pointer node;
        std::size_t at;
        std::size_t count;
        std::size_t front = 0;
        std::size_t middle = 0;
        std::size_t back = 0;
    };

    /// Does `replace_within` in a new block, which has room for `capacity` elements.
    template <class Fill>
    void rebuild(std::size_t first, std::size_t size, std::size_t at, std::size_t removed, std::size_t count,
                 std::size_t capacity, const Fill& fill) {
        const std::size_t needed = size - removed + count;
        if (needed == 0) return drop();
        Filling filling(*this, allocate(capacity), at, count);
        fill(filling.new_elements(), filling.middle);
        if (is_unique()) {
            filling.move_around(writable() + first, at, removed, size);
        } else {
            filling.copy_around(data() + first, at, removed, size);
            if constexpr (TakesBufferAllocator<T>) {
                count_copy<kOptions>(data()->element_bytes());
            } else {
                count_copy<kOptions>((size - removed) * sizeof(T));
            }
        }
        Pointer filled = filling.finish(needed);
        drop();
        node_ = filled;
    }
    /// Destroys the elements from `size` on. Pre: unique.
    void cut(std::size_t size) noexcept {
        if (this->size() <= size) return;
        std::destroy(writable() + size, writable() + this->size());
        header()->size = size;
    }
    template <class Fill>
    void replace_in_place(std::size_t at, std::size_t removed, std::size_t count, const Fill& fill) {
        if (node_ == nullptr) return;
        T* const all = writable();
        std::size_t& size = header()->size;
        T* const old_end = all + size;
        if (count != 0) {
            // New elements are made behind the old ones first: if one cannot be made, the old ones are as they were.
            Tail tail{old_end};
            fill(old_end, tail.made);
            tail.first = nullptr;
            size += count;
            std::rotate(all + at, old_end, old_end + count);
        }
        if (removed != 0) {
            T* const end = all + size;
            std::move(all + at + count + removed, end, all + at + count);
            std::destroy(end - removed, end);
            size -= removed;
        }
    }
    /// New elements behind the last one. The destructor destroys them, unless `first` was set to nullptr.
    struct Tail {
        T* first;
        std::size_t made = 0;
        explicit Tail(T* at) : first(at) {}
        Tail(const Tail&) = delete;
        Tail& operator=(const Tail&) = delete;
        ~Tail() {
            if (first != nullptr) std::destroy_n(first, made);
        }
    };

    template <class U = T>
    [[nodiscard]] static HeaderOf<U>* header_of(const Pointer& node) noexcept {
        static_assert(alignof(U) <= alignof(BufferUnit), "elements may be aligned to 16 bytes at most");
        return std::launder(reinterpret_cast<HeaderOf<U>*>(std::to_address(node)));
    }
    template <class U = T>
    [[nodiscard]] HeaderOf<U>* header() const noexcept {
        return header_of<U>(node_);
    }
    template <class U = T>
    [[nodiscard]] static U* elements(HeaderOf<U>* header) noexcept {
        return std::launder(reinterpret_cast<U*>(reinterpret_cast<std::byte*>(header) + first_offset()));
    }
    [[nodiscard]] static constexpr std::size_t first_offset() noexcept {
        return (sizeof(HeaderOf<T>) + alignof(T) - 1) / alignof(T) * alignof(T);
    }
    [[nodiscard]] static constexpr std::size_t units_of(std::size_t capacity) noexcept {
        return (first_offset() + capacity * sizeof(T) + sizeof(BufferUnit) - 1) / sizeof(BufferUnit);
    }
    /// Half as much again, or what is needed.
    [[nodiscard]] static std::size_t grown_capacity(std::size_t size, std::size_t needed) noexcept {
        constexpr std::size_t kLeast = std::max<std::size_t>(1, 32 / sizeof(T));
        return std::max({needed, size + size / 2, kLeast});
    }

    /// A new block with room for `capacity` elements, and none in it.
    [[nodiscard]] Pointer allocate(std::size_t capacity) {
        if (capacity > kMost / sizeof(T)) throw std::length_error("more elements than fit");
        const std::size_t units = units_of(capacity);
        const Pointer node = Traits::allocate(allocator_, units);
        capacity = (units * sizeof(BufferUnit) - first_offset()) / sizeof(T);
        if constexpr (std::is_trivially_destructible_v<T>) {
            new (std::to_address(node)) HeaderOf<T>{.handles = {}, .size = 0, .capacity = capacity};
        } else {
            auto* const made = new (std::to_address(node)) HeaderOf<T>{{}, {}, allocator_};
            made->capacity = capacity;
        }
        return node;
    }
    static void end(Released* released) noexcept {
        auto* const mine = static_cast<HeaderOf<T>*>(released);
        std::destroy_n(elements(mine), mine->size);
        UnitAllocator allocator(mine->allocator);
        const std::size_t units = units_of(mine->capacity);
        std::destroy_at(mine);
        auto* const memory = std::launder(reinterpret_cast<BufferUnit*>(mine));
        Traits::deallocate(allocator, std::pointer_traits<Pointer>::pointer_to(*memory), units);
    }

    /// Shares the memory of `other`, or copies `count` elements from `first` on and sets `first` to 0.
    /// Pre: this buffer has no memory.
    void share_or_copy(const Buffer& other, std::size_t& first, std::size_t count) {
        if (other.node_ == nullptr) return;
        if (allocator_ == other.allocator_) {
            other.header()->handles.add();
            adopt_allocator(allocator_, other.allocator_);
            node_ = other.node_;
        } else {
            append_copies(other.data() + first, count);
            first = 0;
        }
    }
    void share_or_copy(const Buffer& other) {
        std::size_t first = 0;
        share_or_copy(other, first, other.size());
    }
    /// Takes over the memory of `other`, or copies its elements. `other` is empty afterwards in both cases.
    void take_or_copy(Buffer& other) {
        if (other.node_ == nullptr) return;
        if (allocator_ == other.allocator_) {
            adopt_allocator(allocator_, other.allocator_);
            node_ = std::exchange(other.node_, nullptr);
        } else {
            append_copies(other.data(), other.size());
            other.drop();
        }
    }
    /// Takes over the memory of `other`. The old elements are destroyed last, because one of them may own `other`.
    /// Pre: the allocators are equal.
    void take(Buffer& other) noexcept {
        const Pointer taken = std::exchange(other.node_, nullptr);
        if (taken != nullptr || node_ != nullptr) {
            Buffer old(std::move(*this));
            if (taken != nullptr) adopt_allocator(allocator_, other.allocator_);
            node_ = taken;
        }
    }

    [[no_unique_address]] UnitAllocator allocator_;
    Pointer node_ = nullptr;
};

/// A copy of some elements of a shared buffer, which is about to be changed or kept alone; it is counted as a copy.
template <class T, Options kOptions, class Allocator>
[[nodiscard]] Buffer<T, kOptions, Allocator> copy_of_range(const Buffer<T, kOptions, Allocator>& buffer,
                                                           std::size_t first, std::size_t count,
                                                           const Allocator& allocator) {
    Buffer<T, kOptions, Allocator> copy(allocator);
    if (count == 0) return copy;
    copy.append_copies(buffer.data() + first, count);
    count_copy<kOptions>(count * sizeof(T));
    return copy;
}

}  // namespace vmcow::heap::detail
