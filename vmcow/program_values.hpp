#pragma once

#include <cstddef>
#include <cstdint>

#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

/// For a program that procrun::ProgramCall or a pipeline starts: the values that it was given, and the values that it
/// gives back.
///
///     int main() {
///         auto numbers = vmcow::argument<double[]>(0);                // a handle: nothing is read, nothing copied
///         numbers.edit([](std::span<double> all) { all[7] *= 2; });   // copies the page that it changes
///         vmcow::result(numbers);                                     // and only that page goes back
///     }
///
/// A change that the program makes to an argument stays in the program: the caller's value is in sealed files (I1),
/// safe from mistakes, though not from a program that means harm and runs as the same user (I3).
///
/// In a pipeline the stages before this one still run. `argument` waits until the argument is given, `argument_count`
/// until these stages have ended. A result goes to the next stage at once. A program that gives no result and ends well
/// passes on what it was given. Bytes on standard input and output go beside the values, in no order in relation to
/// them: procrun holds what is not read meanwhile, so that either may be read first.
///
/// The first call of any function here takes over the connection to the caller: programs that this one starts later do
/// not inherit it. Programs that it starts before do; so a program that knows nothing of values (env(1), nice(1), a
/// shell's exec) can stand between. The first call changes the environment: make it before there are other threads,
/// which may be reading the environment.
///
/// Threads: any, except for the first call.
/// Throws:  std::system_error -- from all functions but `started_with_values`; a function that has failed fails again:
///          ENOTCONN: this program was not started with values.
///          EBADMSG: it was, by a build of the library that writes other messages.
///          EMFILE, ENOMEM: there was no room to take the arguments over.
namespace vmcow {

/// Whether a caller waits for results, and may have given arguments: false when the program was started by a shell.
/// Whether the arguments are sound is not checked.
[[nodiscard]] bool started_with_values();

/// The number of arguments. In a pipeline, waits until the stages before this one have ended.
[[nodiscard]] std::size_t argument_count();

/// Argument `n`, counted from 0, whatever its type is. Each call gives a handle to the same image. In a pipeline, waits
/// until the argument was given.
/// Throws: std::system_error -- as every function here; EINVAL: there are fewer arguments.
[[nodiscard]] Snapshot argument(std::size_t n);
/// The number of the argument's type: Value<T>::type() of the value that it was made from, or 0, which is unknown.
[[nodiscard]] std::uint64_t argument_type(std::size_t n);

/// Gives a value back. ProgramCall gets all results, in the order in which they were given, when the program has ended
/// with exit status 0; in a pipeline the next stage gets each result at once. Content that is also in an argument, or
/// lies unchanged in the pages of one, is not copied. The program may end, or go on changing its own copy, as soon as
/// this returns.
/// Throws: std::system_error -- as every function here; EPIPE: the caller has stopped listening.
void result(const Snapshot& snapshot, std::uint64_t type = 0);

namespace detail {

/// Throws: std::system_error -- EBADMSG, with both numbers, when the type of argument `n` is known and not `wanted`.
void require_argument_type(std::size_t n, std::uint64_t wanted);

}  // namespace detail

/// Argument `n` as a value of the type that the caller made it of.
/// Throws: std::system_error -- as every function here; EBADMSG: it is of another type, or its image cannot be a T.
template <class T>
[[nodiscard]] Value<T> argument(std::size_t n) {
    detail::require_argument_type(n, Value<T>::type());
    return Value<T>::from_snapshot(argument(n));
}

/// Gives a value back, as it is now: see `result` of a snapshot.
template <class T>
void result(const Value<T>& value) {
    result(value.snapshot(), Value<T>::type());
}

}  // namespace vmcow
