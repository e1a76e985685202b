#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/sys/owned_span.hpp"
#include "vmcow/value/snapshot_part.hpp"

namespace vmcow {

template <class T>
class Value;

/// A field, an element or a range of elements of a value, as an argument of its own: an E, or, for E = U[], an array of
/// U. A function process that gets a part has nothing of the rest of the value.
///
/// A part is a copy: later changes of the value do not change it.
///
/// Threads: all members may be used from several threads at once.
template <class T, class E>
class Part {
    using Element = std::remove_extent_t<E>;
    static_assert(PlainBytes<Element>, "a part is plain bytes: an object, or the elements of an array or a container");

public:
    using Whole = Value<T>;

    /// The `bytes` from `offset` on of the image `whole`. Pre: an E lies there. Throws: as SnapshotPart.
    Part(Snapshot whole, std::uint64_t offset, std::uint64_t bytes) : part_(std::move(whole), offset, bytes) {}

    /// The object, or the elements as a span.
    [[nodiscard]] decltype(auto) read() const& {
        const std::byte* const at = part_.image().bytes().data() + part_.skip();
        if constexpr (std::is_array_v<E>) {
            return std::span<const Element>(std::launder(reinterpret_cast<const Element*>(at)), size());
        } else {
            return static_cast<const E&>(*std::launder(reinterpret_cast<const E*>(at)));
        }
    }
    /// For a temporary part: a copy of the object, or the elements together with the part.
    [[nodiscard]] auto read() const&& {
        if constexpr (std::is_array_v<E>) {
            return OwnedSpan<Part, const Element>(*this, read());
        } else {
            return E(read());
        }
    }
    [[nodiscard]] std::size_t size() const noexcept { return part_.bytes() / sizeof(Element); }
    /// Where the part begins in the image of the value.
    [[nodiscard]] std::uint64_t offset() const noexcept { return part_.offset(); }
    /// How many bytes of the image the part has.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return part_.bytes(); }
    [[nodiscard]] const SnapshotPart& snapshot_part() const noexcept { return part_; }

private:
    SnapshotPart part_;
};

/// A member of a value, as an argument of its own, which has containers or is one: an E in the heap of the value, where
/// it may grow. A function process that gets it has the image of the whole value, and an E& that shows this one thing.
///
/// It is a copy: later changes of the value do not change it.
///
/// Threads: all members may be used from several threads at once.
template <class T, class E>
class Member {
public:
    using Whole = Value<T>;

    /// Pre: an E lies at `offset` of the image of `whole`.
    Member(Whole whole, std::uint64_t offset) : whole_(std::move(whole)), offset_(offset) {}

    [[nodiscard]] const E& read() const& {
        return *std::launder(reinterpret_cast<const E*>(whole_.handle().data() + offset_));
    }
    /// A reference into a temporary would be gone.
    void read() const&& = delete;
    [[nodiscard]] const Whole& whole() const noexcept { return whole_; }
    /// Where the member begins in the image of the value.
    [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }

private:
    Whole whole_;
    std::uint64_t offset_;
};

namespace detail {

template <class T, class E>
[[nodiscard]] Part<T, E> part_at(const Snapshot& whole, const std::byte* image, const void* at, std::size_t bytes) {
    const auto offset = reinterpret_cast<std::uintptr_t>(at) - reinterpret_cast<std::uintptr_t>(image);
    return Part<T, E>(whole, bytes == 0 ? 0 : offset, bytes);
}

/// The part that holds `picked`, a reference into the image: to an object, or a span or container of plain elements.
template <class T, class Picked>
[[nodiscard]] auto part_of(const Snapshot& whole, const std::byte* image, Picked&& picked) {
    using P = std::remove_cvref_t<Picked>;
    if constexpr (PlainBytes<P>) {
        static_assert(std::is_lvalue_reference_v<Picked>, "a part is picked by reference");
        return part_at<T, P>(whole, image, &picked, sizeof(P));
    } else {
        const auto* const first = std::as_const(picked).data();
        using U = std::remove_cvref_t<decltype(*first)>;
        return part_at<T, U[]>(whole, image, first, picked.size() * sizeof(U));
    }
}

}  // namespace detail
}  // namespace vmcow
