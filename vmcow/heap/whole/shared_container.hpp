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

#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/buffer.hpp"

namespace vmcow::heap {

/// An iterator of a map or set, which notices when the map or set changes. To go on while it changes, go over a copy of
/// it, which costs nothing.
///
/// Pre:    the map or set outlives the iterator.
/// Throws: std::logic_error -- the map or set has been changed or assigned since the iterator was made;
///         std::out_of_range -- the iterator is at the end.
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
            throw std::logic_error("the map or set was changed after this iterator was made");
        }
        if (!at_ || *at_ == owner_->get()->end()) throw std::out_of_range("an iterator at the end has no element");
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
    std::optional<Inner> at_;  ///< nullopt where there is no container
    std::uint64_t version_ = 0;
};

namespace detail {

/// A container in a buffer of its own. It takes its memory from the buffer's allocator.
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
    /// Copies element by element where possible: the copy constructor of a multi_index_container takes some memory from
    /// the allocator of the other container.
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
    // Nothing here may need a complete C: an element may hold maps of its own type.
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

    /// The container, for a change: made if there is none, and copied if other handles share it.
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

    void clear() noexcept {
        buffer_.drop();
        ++version_;
    }

private:
    Buffer<Held, kOptions, Allocator> buffer_;
    std::uint64_t version_ = 0;
};

/// What map and ordered_map have in common. `Table` names the container, and how it finds, adds and removes entries.
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
    /// Whether no other map shares the entries: then a change is made in place.
    [[nodiscard]] bool is_unique() const noexcept { return shared_.is_unique(); }
    [[nodiscard]] bool shares_with(const MapFace& other) const noexcept { return shared_.shares_with(other.shared_); }

    /// The value of a key, or nullptr. Good until this map is changed, assigned, moved or destroyed.
    [[nodiscard]] const V* find(const K& key) const& { return found(key); }
    template <class U = V>
    [[nodiscard]] const V* find(const K&) const&& {
        refuse_view_of_temporary<U>();
        return nullptr;
    }
    [[nodiscard]] bool contains(const K& key) const { return found(key) != nullptr; }
    /// The value of a key; of a temporary, a copy of it. Throws: std::out_of_range -- there is no such key.
    [[nodiscard]] const V& at(const K& key) const& {
        const V* const value = found(key);
        if (value == nullptr) throw std::out_of_range("the key is not in the map");
        return *value;
    }
    [[nodiscard]] V at(const K& key) const&& { return at(key); }
    [[nodiscard]] const V& operator[](const K& key) const& { return at(key); }
    [[nodiscard]] V operator[](const K& key) const&& { return at(key); }

    [[nodiscard]] auto begin() const& { return CheckedIterator<Shared>::begin_of(shared_); }
    [[nodiscard]] auto end() const& { return CheckedIterator<Shared>::end_of(shared_); }
    template <class U = V>
    [[nodiscard]] auto begin() const&& {
        refuse_view_of_temporary<U>();
        return CheckedIterator<Shared>();
    }
    template <class U = V>
    [[nodiscard]] auto end() const&& {
        refuse_view_of_temporary<U>();
        return CheckedIterator<Shared>();
    }

    /// Sets the value of `key`, which is added if it is not there.
    [[VMCOW_RETURNS_CHANGED_COPY(set)]] Self set(K key, V value) const& {
        return Self(self()).set(std::move(key), std::move(value));
    }
    [[VMCOW_RETURNS_ITSELF(set)]] Self set(K key, V value) && {
        set_in_place(std::move(key), std::move(value));
        return std::move(self());
    }
    void set_in_place(K key, V value) {
        typename Table::Container& table = shared_.change();
        if (V* const found = Table::find(table, key)) {
            *found = std::move(value);
        } else {
            Table::add(table, std::move(key), std::move(value));
        }
    }
    /// Removes a key. If it is not there, nothing is changed or copied.
    [[VMCOW_RETURNS_CHANGED_COPY(remove)]] Self remove(const K& key) const& { return Self(self()).remove(key); }
    [[VMCOW_RETURNS_ITSELF(remove)]] Self remove(const K& key) && {
        remove_in_place(key);
        return std::move(self());
    }
    /// False if there was no such key.
    bool remove_in_place(const K& key) {
        if (!contains(key)) return false;
        // A copy, because `key` may lie in this map.
        const K removed = key;
        Table::remove(shared_.change(), removed);
        return true;
    }
    /// Calls `change(value)`, which may write to the value, and must neither change nor copy this map. If `change`
    /// throws, the value stays as `change` has left it.
    /// Throws: std::out_of_range -- there is no such key; std::logic_error -- `change` has changed or copied the map.
    template <std::invocable<V&> F>
    [[VMCOW_RETURNS_CHANGED_COPY(update)]] Self update(const K& key, F&& change) const& {
        return Self(self()).update(key, std::forward<F>(change));
    }
    template <std::invocable<V&> F>
    [[VMCOW_RETURNS_ITSELF(update)]] Self update(const K& key, F&& change) && {
        update_in_place(key, std::forward<F>(change));
        return std::move(self());
    }
    template <std::invocable<V&> F>
    void update_in_place(const K& key, F&& change) {
        if (!contains(key)) throw std::out_of_range("the key is not in the map");
        const K updated = key;
        V& value = *Table::find(shared_.change(), updated);
        const std::uint64_t version = shared_.version();
        std::invoke(std::forward<F>(change), value);
        check_only_element_changed(shared_.version() == version && shared_.is_unique());
    }
    void clear_in_place() noexcept { shared_.clear(); }

    friend bool operator==(const Self& a, const Self& b) {
        const MapFace& x = a;
        const MapFace& y = b;
        if (x.size() != y.size()) return false;
        return x.size() == 0 || x.shares_with(y) || *x.shared_.get() == *y.shared_.get();
    }

private:
    [[nodiscard]] const Self& self() const noexcept { return static_cast<const Self&>(*this); }
    [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }
    [[nodiscard]] const V* found(const K& key) const {
        return shared_.get() == nullptr ? nullptr : Table::find(*shared_.get(), key);
    }

    Shared shared_;
};

}  // namespace detail
}  // namespace vmcow::heap
