#pragma once

#include <cstddef>
#include <cstdint>

#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

/// For a program that procrun::ProgramCall starts: the values that it was given, and the ones that it gives back.
///
///     int main() {
///         auto numbers = vmcow::argument<double[]>(0);                // a handle: nothing is read, nothing copied
///         numbers.edit([](std::span<double> all) { all[7] *= 2; });   // copies the page that it changes
///         vmcow::result(numbers);                                     // and only that page goes back
///     }
///
/// What the program does to an argument is its own business: the caller's value is in sealed files (I1).
///
/// The first call of any of these takes the connection to the caller over: from then on programs that are started by
/// this one do not inherit it. Before, they do; so a program that knows nothing of values (env(1), nice(1), a shell's
/// exec) can stand between. That first call changes the environment: make it before there are other threads, which may
/// be reading it.
///
/// Threads: any, but for that.
/// Throws:  std::system_error -- from all but `started_with_values`, and from each call then:
///          ENOTCONN: this program was not started with values.
///          EBADMSG: it was, by another build of the library that says it otherwise.
///          EMFILE, ENOMEM: there was no room to take the arguments over.
namespace vmcow {

/// Whether there is a caller who waits for results, and may have given arguments. That these are sound is not said.
[[nodiscard]] bool started_with_values();

[[nodiscard]] std::size_t argument_count();

/// Argument `n`, counted from 0, whatever its type is. Each call gives a handle to the same image.
/// Throws: as above; EINVAL: there are not so many.
[[nodiscard]] Snapshot argument(std::size_t n);
/// The number of its type: Value<T>::type() of what it was made from, or 0, which is not known.
[[nodiscard]] std::uint64_t argument_type(std::size_t n);

/// Gives a value back. The caller gets all that were given, in this order, when the program has ended with exit status
/// 0. What is also in an argument, or lies unchanged in the pages of one, is not copied. The program may end, or go on
/// changing its own copy, as soon as this returns.
/// Throws: as above; EPIPE: the caller has stopped listening.
void result(const Snapshot& snapshot, std::uint64_t type = 0);

namespace detail {

/// Throws: std::system_error -- EBADMSG, with both numbers, when argument `n` is of a type that is known and another
/// one.
void require_argument_type(std::size_t n, std::uint64_t wanted);

}  // namespace detail

/// Argument `n` as the type that the caller made it of.
/// Throws: as above; EBADMSG: it is of another type, or its image cannot be a T.
template <class T>
[[nodiscard]] Value<T> argument(std::size_t n) {
    detail::require_argument_type(n, Value<T>::type());
    return Value<T>::from_snapshot(argument(n));
}

/// Gives a value back, as it is now.
template <class T>
void result(const Value<T>& value) {
    result(value.snapshot(), Value<T>::type());
}

}  // namespace vmcow
