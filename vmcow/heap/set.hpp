#pragma once

#include <algorithm>
#include <boost/container_hash/hash.hpp>
#include <boost/unordered_set.hpp>
#include <functional>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>

#include "vmcow/heap/shared_container.hpp"
#include "vmcow/heap/sharing.hpp"

namespace vmcow::heap {

// NOLINTBEGIN(readability-identifier-naming): named as containers are.

/// Different elements, in no order: a boost::unordered_set that is shared as a whole, as list's elements are, and
/// operations with the same two forms. What changes nothing copies nothing.
///
/// Throws:  what hashing, comparing, allocating or copying throws. Operands are then as before.
/// Cost:    as the hash table; a copy O(1), the first change of a shared one copies it.
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
        for (const T& each : elements) *this = std::move(*this).insert(each);
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
    /// Nobody else shares the elements: a change is made in place.
    [[nodiscard]] bool is_unique() const noexcept { return shared_.is_unique(); }
    [[nodiscard]] bool shares_with(const set& other) const noexcept { return shared_.shares_with(other.shared_); }
    [[nodiscard]] bool contains(const T& value) const {
        return size() != 0 && shared_.get()->find(value) != shared_.get()->end();
    }
    [[nodiscard]] auto begin() const { return CheckedIterator<Shared>::begin_of(shared_); }
    [[nodiscard]] auto end() const { return CheckedIterator<Shared>::end_of(shared_); }

    [[nodiscard]] set insert(T value) const& { return set(*this).insert(std::move(value)); }
    [[nodiscard]] set insert(T value) && {
        if (!contains(value)) shared_.change().insert(std::move(value));
        return std::move(*this);
    }
    [[nodiscard]] set remove(const T& value) const& { return set(*this).remove(value); }
    [[nodiscard]] set remove(const T& value) && {
        if (contains(value)) {
            // Which may lie in what goes.
            const T removed = value;
            shared_.change().erase(removed);
        }
        return std::move(*this);
    }
    /// Union: what is in this one or in `other`, which may be this one.
    [[nodiscard]] set unite(const set& other) const& { return set(*this).unite(other); }
    [[nodiscard]] set unite(const set& other) && {
        if (size() == 0 && get_allocator() == other.get_allocator()) return other;
        // First beside it, so that a failure leaves this one as it was.
        Shared added(get_allocator());
        for_each_of(other, [&](const T& each) {
            if (!contains(each)) added.change().insert(each);
        });
        if (added.size() == 0) return std::move(*this);
        Container& mine = shared_.change();
        mine.reserve(mine.size() + added.size());
        mine.merge(added.change());
        return std::move(*this);
    }
    /// Intersection: what is in this one and in `other`.
    [[nodiscard]] set intersect(const set& other) const& { return set(*this).intersect(other); }
    [[nodiscard]] set intersect(const set& other) && {
        return std::move(*this).keep([&](const T& each) { return other.contains(each); });
    }
    /// Difference: what is in this one but not in `other`.
    [[nodiscard]] set subtract(const set& other) const& { return set(*this).subtract(other); }
    [[nodiscard]] set subtract(const set& other) && {
        return std::move(*this).keep([&](const T& each) { return !other.contains(each); });
    }

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
    /// Nothing is copied that does not stay.
    template <class Stays>
    [[nodiscard]] set keep(const Stays& stays) && {
        if (shared_.get() == nullptr) return std::move(*this);
        const Container& all = *shared_.get();
        const auto goes = [&](const T& each) { return !stays(each); };
        if (std::none_of(all.begin(), all.end(), goes)) return std::move(*this);
        if (shared_.is_unique()) {
            Container& mine = shared_.change();
            for (auto at = mine.begin(); at != mine.end();) at = goes(*at) ? mine.erase(at) : std::next(at);
            return std::move(*this);
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
        return std::move(*this);
    }

    Shared shared_;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap
