#pragma once

#include <boost/iterator/iterator_facade.hpp>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "vmcow/heap/buffer.hpp"

namespace vmcow::heap {

/// An iterator of a map or set, which notices a change of what it goes over.
///
/// Throws: std::logic_error -- the object has been changed or assigned since; std::out_of_range -- it is at the end.
///         The object must outlive it. To go on while the object changes, go over a copy of it, which costs nothing.
template <class Shared>
class CheckedIterator
    : public boost::iterator_facade<CheckedIterator<Shared>, const typename Shared::Container::value_type,
                                    boost::forward_traversal_tag> {
    using Inner = typename Shared::Container::const_iterator;

public:
    CheckedIterator() = default;
    [[nodiscard]] static CheckedIterator begin_of(const Shared& owner) {
        const auto* const container = owner.get();
        return container == nullptr ? CheckedIterator(owner) : CheckedIterator(owner, container->begin());
    }
    [[nodiscard]] static CheckedIterator end_of(const Shared& owner) {
        const auto* const container = owner.get();
        return container == nullptr ? CheckedIterator(owner) : CheckedIterator(owner, container->end());
    }

private:
    friend class boost::iterator_core_access;

    explicit CheckedIterator(const Shared& owner) : owner_(&owner), version_(owner.version()) {}
    CheckedIterator(const Shared& owner, Inner at) : owner_(&owner), at_(at), version_(owner.version()) {}

    void check() const {
        if (owner_ == nullptr || owner_->version() != version_) {
            throw std::logic_error("changed since the iterator was made");
        }
        if (!at_ || *at_ == owner_->get()->end()) throw std::out_of_range("nothing at the end");
    }
    [[nodiscard]] const typename Shared::Container::value_type& dereference() const {
        check();
        return **at_;
    }
    void increment() {
        check();
        ++*at_;
    }
    [[nodiscard]] bool equal(const CheckedIterator& other) const noexcept { return at_ == other.at_; }

    const Shared* owner_ = nullptr;
    std::optional<Inner> at_;  ///< none: there is no container
    std::uint64_t version_ = 0;
};

namespace detail {

/// A container in a buffer of its own. It takes its memory from where the buffer has it.
template <class C>
struct HeldContainer {
    using TakesBufferAllocator = void;

    template <class Allocator>
    explicit HeldContainer(const Allocator& allocator) : container(typename C::allocator_type(allocator)) {}
    template <class Allocator>
    HeldContainer(const HeldContainer& other, const Allocator& allocator)
        : container(copy_of(other.container, typename C::allocator_type(allocator))) {}
    HeldContainer(HeldContainer&&) noexcept(std::is_nothrow_move_constructible_v<C>) = default;
    HeldContainer& operator=(HeldContainer&&) noexcept(std::is_nothrow_move_assignable_v<C>) = default;
    ~HeldContainer() = default;

    [[nodiscard]] std::size_t element_bytes() const noexcept {
        return container.size() * sizeof(typename C::value_type);
    }

    C container;

private:
    /// A multi_index_container that is copied has some of its memory from the allocator of the other one.
    template <class Allocator>
    [[nodiscard]] static C copy_of(const C& other, const Allocator& allocator) {
        if constexpr (requires(C & c) { c.push_back(*c.begin()); }) {
            C copy(allocator);
            for (const auto& each : other) copy.push_back(each);
            return copy;
        } else {
            return C(other, allocator);
        }
    }
};

/// A handle of a container that handles share: what maps and sets are made of.
///
/// Shape:  a pointer, nullptr when the container has never held anything, and the number of changes made through it.
/// Throws: what copying the container throws; then everything is as before.
template <class C, Options kOptions, class Allocator>
class SharedContainer {
    // What C is must not be asked here: an element may hold maps of its own type.
    using Held = HeldContainer<C>;

public:
    using Container = C;

    SharedContainer() = default;
    explicit SharedContainer(const Allocator& allocator) noexcept : buffer_(allocator) {}
    SharedContainer(const SharedContainer& other) : buffer_(other.buffer_) {}
    SharedContainer(const SharedContainer& other, const Allocator& allocator) : buffer_(other.buffer_, allocator) {}
    SharedContainer(SharedContainer&& other) noexcept : buffer_(std::move(other.buffer_)) { ++other.version_; }
    SharedContainer(SharedContainer&& other, const Allocator& allocator)
        : buffer_(std::move(other.buffer_), allocator) {
        other.clear();
    }
    SharedContainer& operator=(const SharedContainer& other) {
        buffer_ = other.buffer_;
        ++version_;
        return *this;
    }
    SharedContainer& operator=(SharedContainer&& other) noexcept(std::is_nothrow_move_assignable_v<decltype(buffer_)>) {
        if (this == &other) return *this;
        buffer_ = std::move(other.buffer_);
        ++version_;
        other.clear();
        return *this;
    }
    ~SharedContainer() = default;
    void swap(SharedContainer& other) {
        buffer_.swap(other.buffer_);
        ++version_;
        ++other.version_;
    }

    [[nodiscard]] Allocator get_allocator() const noexcept { return buffer_.get_allocator(); }
    [[nodiscard]] const C* get() const noexcept { return buffer_.size() == 0 ? nullptr : &buffer_.data()->container; }
    [[nodiscard]] std::size_t size() const noexcept { return get() == nullptr ? 0 : get()->size(); }
    [[nodiscard]] bool is_unique() const noexcept { return buffer_.is_unique(); }
    [[nodiscard]] bool shares_with(const SharedContainer& other) const noexcept {
        return buffer_.shares_with(other.buffer_);
    }
    [[nodiscard]] std::uint64_t version() const noexcept { return version_; }

    /// For a change: of this handle alone from now on.
    [[nodiscard]] C& change() {
        if (buffer_.size() == 0) {
            buffer_.replace(0, 0, 1,
                            [&](Held* to, std::size_t& made) { buffer_.construct(to, made, buffer_.get_allocator()); });
        } else {
            buffer_.make_unique();
        }
        ++version_;
        return buffer_.writable()->container;
    }

private:
    void clear() noexcept {
        buffer_.drop();
        ++version_;
    }

    Buffer<Held, kOptions, Allocator> buffer_;
    std::uint64_t version_ = 0;
};

/// What map and ordered_map have in common. `Table` says which container that is, and how it is looked into.
template <class Self, class Table, Options kOptions, class Allocator>
class MapFace {
    using Shared = SharedContainer<typename Table::Container, kOptions, Allocator>;
    using K = typename Table::Key;
    using V = typename Table::Mapped;

public:
    // NOLINTBEGIN(readability-identifier-naming): the names that algorithms look for.
    using key_type = K;
    using mapped_type = V;
    using value_type = std::pair<const K, V>;
    using size_type = std::size_t;
    using allocator_type = Allocator;
    // NOLINTEND(readability-identifier-naming)

    MapFace() = default;
    explicit MapFace(const Allocator& allocator) noexcept : shared_(allocator) {}
    MapFace(const MapFace&) = default;
    MapFace(const MapFace& other, const Allocator& allocator) : shared_(other.shared_, allocator) {}
    MapFace(MapFace&&) noexcept = default;
    MapFace(MapFace&& other, const Allocator& allocator) : shared_(std::move(other.shared_), allocator) {}
    MapFace& operator=(const MapFace&) = default;
    MapFace& operator=(MapFace&&) noexcept(std::is_nothrow_move_assignable_v<Shared>) = default;
    ~MapFace() = default;
    void swap(Self& other) { shared_.swap(other.shared_); }
    friend void swap(Self& a, Self& b) { a.swap(b); }

    [[nodiscard]] Allocator get_allocator() const noexcept { return shared_.get_allocator(); }
    [[nodiscard]] std::size_t size() const noexcept { return shared_.size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    /// Nobody else shares the entries: a change is made in place.
    [[nodiscard]] bool is_unique() const noexcept { return shared_.is_unique(); }
    [[nodiscard]] bool shares_with(const MapFace& other) const noexcept { return shared_.shares_with(other.shared_); }

    /// nullptr if there is none. Good until this map is changed, assigned or destroyed.
    [[nodiscard]] const V* find(const K& key) const {
        return shared_.get() == nullptr ? nullptr : Table::find(*shared_.get(), key);
    }
    [[nodiscard]] bool contains(const K& key) const { return find(key) != nullptr; }
    /// Throws: std::out_of_range -- there is no such key.
    [[nodiscard]] const V& at(const K& key) const {
        const V* const found = find(key);
        if (found == nullptr) throw std::out_of_range("no such key");
        return *found;
    }
    [[nodiscard]] const V& operator[](const K& key) const { return at(key); }

    [[nodiscard]] auto begin() const { return CheckedIterator<Shared>::begin_of(shared_); }
    [[nodiscard]] auto end() const { return CheckedIterator<Shared>::end_of(shared_); }

    /// Puts `value` in the place of what `key` had, or adds both.
    [[nodiscard]] Self set(K key, V value) const& { return Self(self()).set(std::move(key), std::move(value)); }
    [[nodiscard]] Self set(K key, V value) && {
        typename Table::Container& table = shared_.change();
        if (V* const found = Table::find(table, key)) {
            *found = std::move(value);
        } else {
            Table::add(table, std::move(key), std::move(value));
        }
        return std::move(self());
    }
    /// Where there is no such key, nothing is changed or copied.
    [[nodiscard]] Self remove(const K& key) const& { return Self(self()).remove(key); }
    [[nodiscard]] Self remove(const K& key) && {
        if (contains(key)) {
            // Which may lie in what goes.
            const K removed = key;
            Table::remove(shared_.change(), removed);
        }
        return std::move(self());
    }
    /// Calls `change(value)`. If it throws, the value is as it has left it.
    /// Throws: std::out_of_range -- there is no such key.
    template <std::invocable<V&> F>
    [[nodiscard]] Self update(const K& key, F&& change) const& {
        return Self(self()).update(key, std::forward<F>(change));
    }
    template <std::invocable<V&> F>
    [[nodiscard]] Self update(const K& key, F&& change) && {
        if (!contains(key)) throw std::out_of_range("no such key");
        const K updated = key;
        std::invoke(std::forward<F>(change), *Table::find(shared_.change(), updated));
        return std::move(self());
    }

    friend bool operator==(const Self& a, const Self& b) {
        const MapFace& x = a;
        const MapFace& y = b;
        if (x.size() != y.size()) return false;
        return x.size() == 0 || x.shares_with(y) || *x.shared_.get() == *y.shared_.get();
    }

private:
    [[nodiscard]] const Self& self() const noexcept { return static_cast<const Self&>(*this); }
    [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }

    Shared shared_;
};

}  // namespace detail
}  // namespace vmcow::heap
