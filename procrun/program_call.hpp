#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "procrun/call_result.hpp"
#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "procrun/program.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

/// Calls an ordinary executable: values are its arguments, and the values that it gives back are the result.
///
///     vmcow::Value<double[]> numbers(1'000'000);
///     procrun::ProgramCall scale(procrun::Program({"scale_value", "2.5", "0", "100"}));
///     auto scaled = scale.argument(numbers).run<double[]>();
///     use(scaled.value()[7]);
///
/// The program uses vmcow/program_values.hpp. It gets each argument by value, as sealed files by descriptor, and
/// nothing that it does changes what the caller has (I1, I3). Of a result that the program has made from an argument,
/// only the changed pages come back: the result lies over the image of the argument, here as well, and shares the other
/// pages with it. Standard input and output are those of the `Program`.
///
/// There is a result only when the program exits with status 0, whatever it has sent before. Processes that the program
/// has started and left running are neither waited for nor killed.
///
/// Pre:     SIGCHLD is not ignored.
/// Threads: `run` may be called from several at once.
class ProgramCall {
public:
    /// How many values a program may give back. A program that gives more is killed.
    static constexpr std::size_t kMaxResults = 256;

    explicit ProgramCall(Program program) : program_(std::move(program)) {}

    /// Adds the next argument. `type` is a number that the program may ask for; 0 means that the type is unknown.
    ProgramCall& argument(vmcow::Snapshot snapshot, std::uint64_t type = 0);
    /// Adds a typed value, as it is now, as the next argument.
    template <class T>
    ProgramCall& argument(const vmcow::Value<T>& value) {
        return argument(value.snapshot(), vmcow::Value<T>::type());
    }
    /// The program is killed if it still runs at that time.
    ProgramCall& deadline(Deadline deadline);
    /// The program is killed when all its threads together have used more processor time. It is looked at every few
    /// milliseconds.
    ProgramCall& processor_time(std::chrono::nanoseconds most);
    /// The program is killed when it has more anonymous memory. Pages that it changes in its arguments are part of
    /// that. It is looked at every few milliseconds.
    ProgramCall& memory_bytes(std::uint64_t most);

    /// Starts the program and waits for its end. The result is the values that the program gave, in that order; it is
    /// empty if the program gave none.
    ///
    /// The outcome is `exited` with the exit status, which is 0 if there is a result; `signaled`; `not_started`;
    /// `deadline_passed`; `limit_exceeded`; or `result_lost`, for which the program is killed: it sent something that
    /// is no value (EBADMSG), or too many values (E2BIG), or there was no room for them here (EMFILE, ENOMEM).
    ///
    /// Throws: std::system_error -- E2BIG: the arguments have more than 253 files in all, one each and one more for
    ///         each delta. EMFILE, ENOMEM, EAGAIN (no more processes), ETOOMANYREFS, ECHILD (SIGCHLD ignored).
    ///         Nothing is left behind, and no program runs.
    /// Cost:   a clone and an exec; some microseconds for each value. Changed pages that lie in the page store are
    ///         copied, and so is a whole value that was loaded from disk.
    [[nodiscard]] CallResult<std::vector<vmcow::TypedSnapshot>> run() const;

    /// Runs a program that gives exactly one value, as `run()` does. The outcome is `result_lost` also if the program
    /// gave none (ENODATA) or several (EBADMSG).
    [[nodiscard]] CallResult<vmcow::TypedSnapshot> run_for_one() const;

    /// Runs a program that gives one value of type R, as `run_for_one()` does. The outcome is `result_lost` also if the
    /// value is of another type, or its image cannot be an R (EBADMSG). Pointers of containers within the value are not
    /// checked: take only plain and array values from a program that may mean harm.
    template <class R>
    [[nodiscard]] CallResult<vmcow::Value<R>> run() const {
        CallResult<vmcow::TypedSnapshot> one = run_for_one();
        if (!one.ok()) return {one.outcome(), one.cost(), std::nullopt};
        try {
            require_type(one.value().type, vmcow::Value<R>::type());
            return {one.outcome(), one.cost(), vmcow::Value<R>::from_snapshot(one.value().snapshot)};
        } catch (const std::system_error& error) {
            return {misfit(error), one.cost(), std::nullopt};
        }
    }

private:
    /// Throws: std::system_error -- EBADMSG: the type that was found is known, and not the wanted one.
    static void require_type(std::uint64_t found, std::uint64_t wanted);
    [[nodiscard]] static Outcome misfit(const std::system_error& error);

    Program program_;
    std::vector<vmcow::TypedSnapshot> arguments_;
    Deadline deadline_ = Deadline::never();
    std::optional<std::chrono::nanoseconds> processor_time_;
    std::optional<std::uint64_t> memory_bytes_;
};

}  // namespace procrun
