#pragma once

#include <algorithm>
#include <boost/container_hash/hash.hpp>
#include <boost/unordered_set.hpp>
#include <functional>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>

#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/shared_container.hpp"

namespace vmcow::heap {

// NOLINTBEGIN(readability-identifier-naming): named as containers are.

/// Different elements, in no order: a boost::unordered_set that is shared as a whole, as the elements of a list are.
/// Its changes have the three forms of list. An operation that changes nothing copies nothing. A set that was moved
/// from is empty and can be used again.
///
/// Throws:  what hashing, comparing, allocating or copying throws. Operands are then as before.
/// Cost:    as the hash table; a copy is O(1), and the first change of a shared set copies the table.
/// Threads: as list.
template <class T, Options kOptions = Options{}, class Allocator = std::allocator<T>, class Hash = boost::hash<T>,
          class Equal = std::equal_to<T>>
class set {
    using Container = boost::unordered_set<T, Hash, Equal, typename detail::AllocatorFor<T, kOptions, Allocator>::Type>;
    using Shared = detail::SharedContainer<Container, kOptions, Allocator>;

public:
    using allocator_type = Allocator;
    using value_type = T;
    using key_type = T;
    using size_type = std::size_t;

    set() = default;
    explicit set(const Allocator& allocator) noexcept : shared_(allocator) {}
    set(std::initializer_list<T> elements, const Allocator& allocator = {}) : shared_(allocator) {
        for (const T& each : elements) insert_in_place(each);
    }
    set(const set&) = default;
    set(const set& other, const Allocator& allocator) : shared_(other.shared_, allocator) {}
    set(set&&) noexcept = default;
    set(set&& other, const Allocator& allocator) : shared_(std::move(other.shared_), allocator) {}
    set& operator=(const set&) = default;
    set& operator=(set&&) noexcept(std::is_nothrow_move_assignable_v<Shared>) = default;
    ~set() = default;
    void swap(set& other) { shared_.swap(other.shared_); }
    friend void swap(set& a, set& b) { a.swap(b); }

    [[nodiscard]] Allocator get_allocator() const noexcept { return shared_.get_allocator(); }
    [[nodiscard]] std::size_t size() const noexcept { return shared_.size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    /// Whether no other set shares the elements: then a change is made in place.
    [[nodiscard]] bool is_unique() const noexcept { return shared_.is_unique(); }
    [[nodiscard]] bool shares_with(const set& other) const noexcept { return shared_.shares_with(other.shared_); }
    [[nodiscard]] bool contains(const T& value) const {
        return size() != 0 && shared_.get()->find(value) != shared_.get()->end();
    }
    [[nodiscard]] auto begin() const& { return CheckedIterator<Shared>::begin_of(shared_); }
    [[nodiscard]] auto end() const& { return CheckedIterator<Shared>::end_of(shared_); }
    template <class U = T>
    [[nodiscard]] auto begin() const&& {
        detail::refuse_view_of_temporary<U>();
        return CheckedIterator<Shared>();
    }
    template <class U = T>
    [[nodiscard]] auto end() const&& {
        detail::refuse_view_of_temporary<U>();
        return CheckedIterator<Shared>();
    }

    [[VMCOW_RETURNS_CHANGED_COPY(insert)]] set insert(T value) const& { return set(*this).insert(std::move(value)); }
    [[VMCOW_RETURNS_ITSELF(insert)]] set insert(T value) && {
        insert_in_place(std::move(value));
        return std::move(*this);
    }
    /// False if the element was there already.
    bool insert_in_place(T value) {
        if (contains(value)) return false;
        shared_.change().insert(std::move(value));
        return true;
    }
    [[VMCOW_RETURNS_CHANGED_COPY(remove)]] set remove(const T& value) const& { return set(*this).remove(value); }
    [[VMCOW_RETURNS_ITSELF(remove)]] set remove(const T& value) && {
        remove_in_place(value);
        return std::move(*this);
    }
    /// False if the element was not there.
    bool remove_in_place(const T& value) {
        if (!contains(value)) return false;
        // A copy, because `value` may lie in this set.
        const T removed = value;
        shared_.change().erase(removed);
        return true;
    }
    /// Union: the elements of this set and those of `other`, which may be this set.
    [[VMCOW_RETURNS_CHANGED_COPY(unite)]] set unite(const set& other) const& { return set(*this).unite(other); }
    [[VMCOW_RETURNS_ITSELF(unite)]] set unite(const set& other) && {
        unite_in_place(other);
        return std::move(*this);
    }
    void unite_in_place(const set& other) {
        if (size() == 0 && get_allocator() == other.get_allocator()) {
            *this = other;
            return;
        }
        // The new elements are collected in a set of their own first, so that a failure leaves this set as it was.
        Shared added(get_allocator());
        for_each_of(other, [&](const T& each) {
            if (!contains(each)) added.change().insert(each);
        });
        if (added.size() == 0) return;
        Container& mine = shared_.change();
        mine.reserve(mine.size() + added.size());
        mine.merge(added.change());
    }
    /// Intersection: the elements of this set that are also in `other`.
    [[VMCOW_RETURNS_CHANGED_COPY(intersect)]] set intersect(const set& other) const& {
        return set(*this).intersect(other);
    }
    [[VMCOW_RETURNS_ITSELF(intersect)]] set intersect(const set& other) && {
        intersect_in_place(other);
        return std::move(*this);
    }
    void intersect_in_place(const set& other) {
        keep([&](const T& each) { return other.contains(each); });
    }
    /// Difference: the elements of this set that are not in `other`.
    [[VMCOW_RETURNS_CHANGED_COPY(subtract)]] set subtract(const set& other) const& {
        return set(*this).subtract(other);
    }
    [[VMCOW_RETURNS_ITSELF(subtract)]] set subtract(const set& other) && {
        subtract_in_place(other);
        return std::move(*this);
    }
    void subtract_in_place(const set& other) {
        keep([&](const T& each) { return !other.contains(each); });
    }
    void clear_in_place() noexcept { shared_.clear(); }

    friend bool operator==(const set& a, const set& b) {
        if (a.size() != b.size()) return false;
        return a.size() == 0 || a.shares_with(b) || *a.shared_.get() == *b.shared_.get();
    }

private:
    template <class F>
    static void for_each_of(const set& other, const F& visit) {
        if (other.shared_.get() == nullptr) return;
        for (const T& each : *other.shared_.get()) visit(each);
    }
    /// Removes the elements that do not stay. Where the set is shared, only the elements that stay are copied.
    template <class Stays>
    void keep(const Stays& stays) {
        if (shared_.get() == nullptr) return;
        const Container& all = *shared_.get();
        const auto goes = [&](const T& each) { return !stays(each); };
        if (std::none_of(all.begin(), all.end(), goes)) return;
        if (shared_.is_unique()) {
            Container& mine = shared_.change();
            for (auto at = mine.begin(); at != mine.end();) at = goes(*at) ? mine.erase(at) : std::next(at);
            return;
        }
        Shared kept(get_allocator());
        std::size_t count = 0;
        for (const T& each : all) {
            if (!stays(each)) continue;
            kept.change().insert(each);
            ++count;
        }
        count_copy<kOptions>(count * sizeof(T));
        shared_ = std::move(kept);
    }

    Shared shared_;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
