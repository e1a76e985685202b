#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/value/image_types.hpp"

namespace vmcow {
class Arena;
}

namespace procrun {

/// An object of this process, or elements of it, as an argument of a call through a pool. It goes by value, as it is
/// when the call is made. Made by `pass_on`.
template <class T>
class PassedOn {
public:
    using Elements = std::conditional_t<std::is_array_v<T>, std::span<const std::remove_extent_t<T>>, const T*>;

    explicit PassedOn(Elements what) noexcept : what_(what) {}
    [[nodiscard]] Elements what() const noexcept { return what_; }

private:
    Elements what_;
};

/// Passes on to another function what a function was given:
///
///     long total(std::span<long> pages) {
///         pages[0] = 1;                                                    // writes to a private copy
///         return pool.call(total_below, procrun::pass_on(pages)).value();  // sees the 1, and writes to its own copy
///     }
///
/// A pool takes a span as it is: `pool.call(total_below, pages)` is the same. An object has to be passed on by name, or
/// its bytes would be copied into the request.
///
/// What lies in an image (a parameter that is an image, a value, a view, an arena) is not copied: the image is passed
/// on with the pages that this process has changed in it. Anything else is copied into an image first. An object with
/// containers is passed on in its image if it is the value itself; if it lies within another value, it is copied.
///
/// Pre:  nothing else writes to the object until a synchronous call has returned, or an asynchronous one has been
///       started.
/// Cost: the call also takes a page scan, and a copy of each page that was changed; an asynchronous call over an image
///       that its owner may still write to takes a copy of all.
template <class T>
requires(!std::is_pointer_v<T> && !std::is_array_v<T>) [[nodiscard]] PassedOn<T> pass_on(const T& object) noexcept {
    return PassedOn<T>(&object);
}
template <class T, std::size_t N>
[[nodiscard]] PassedOn<std::remove_const_t<T>[]> pass_on(std::span<T, N> elements) noexcept {
    static_assert(vmcow::PlainBytes<std::remove_const_t<T>>,
                  "the elements of a span that is passed on are plain bytes: trivially copyable, without pointers, "
                  "references and views; a class that hides its members has to vouch for itself (vmcow::kVouched)");
    return PassedOn<std::remove_const_t<T>[]>(elements);
}

/// A temporary is gone before the call: give it to the call directly.
template <class T>
void pass_on(const T&& object) = delete;

namespace detail {

struct ErasedCall;
struct ImageArgument;

/// Makes an image argument of bytes anywhere in this process. Throws: std::system_error -- EMFILE, ENOMEM.
void put_present(ErasedCall& call, std::span<const std::byte> bytes, ImageArgument& to);
/// Makes an image argument of an object with containers. False where the object is not the object of a value.
[[nodiscard]] bool put_present_object(const ErasedCall& call, std::span<const std::byte> bytes, ImageArgument& to);
/// Gives `arena` to a call whose caller waits (I2). In a function process the caller's arena is a private copy over its
/// file: the pages that were changed go along, and the rest is not copied.
void put_arena(ErasedCall& call, const vmcow::Arena& arena, ImageArgument& to);
/// The bytes of an arena of the caller's, in an arena that this function process may give away. Throws: as Arena.
[[nodiscard]] vmcow::Arena own_copy_of(const vmcow::Arena& arena);

template <class A>
inline constexpr bool kIsPassedOn = false;
template <class T>
inline constexpr bool kIsPassedOn<PassedOn<T>> = true;

template <class A>
inline constexpr bool kShowsElements = false;
template <class T, std::size_t N>
inline constexpr bool kShowsElements<std::span<T, N>> = true;

/// What a pool makes of an argument: the elements that a span shows are passed on, everything else is taken as it is.
template <class A>
struct PoolArgument {
    using Type = A;
    static A&& of(std::remove_reference_t<A>& argument) noexcept { return static_cast<A&&>(argument); }
};
template <class A>
requires kShowsElements<std::remove_cvref_t<A>>
struct PoolArgument<A> {
    using Type = PassedOn<std::remove_const_t<typename std::remove_cvref_t<A>::element_type>[]>;
    static Type of(const std::remove_reference_t<A>& span) noexcept { return pass_on(span); }
};

}  // namespace detail
}  // namespace procrun
