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
#include "vmcow/values_message.hpp"

namespace procrun {

/// A call of an ordinary executable: values go in as its arguments, and what it hands back comes out.
///
///     vmcow::Value<double[]> numbers(1'000'000);
///     procrun::ProgramCall scale(procrun::Program({"scale_value", "2.5", "0", "100"}));
///     auto scaled = scale.argument(numbers).run<double[]>();
///     use(scaled.value()[7]);
///
/// The program takes part with vmcow/program_values.hpp. It gets each argument by value, as sealed files by descriptor,
/// and nothing that it does reaches what the caller has (I1, I3). Of a result come back the pages that the program has
/// changed; what lies over an argument's image still does, on this side of the call, so that the result and the
/// argument are relatives. Standard input and output are what `Program` says.
///
/// A program ends well when it exits with status 0; otherwise there is no result, whatever it has sent by then. What it
/// has started itself and left running is not waited for, and not ended.
///
/// Pre:     SIGCHLD is not ignored.
/// Threads: `run` may be called from several at once.
class ProgramCall {
public:
    /// A program may give so many values back; one more ends it.
    static constexpr std::size_t kMaxResults = 256;

    explicit ProgramCall(Program program) : program_(std::move(program)) {}

    /// Adds an argument, the next in order. `type` is a number that the program may ask for; 0 says nothing.
    ProgramCall& argument(vmcow::Snapshot snapshot, std::uint64_t type = 0);
    /// The same of a typed value, as it is now.
    template <class T>
    ProgramCall& argument(const vmcow::Value<T>& value) {
        return argument(value.snapshot(), vmcow::Value<T>::type());
    }
    /// The program is killed when it still runs then.
    ProgramCall& deadline(Deadline deadline);
    /// It is killed when it has used more than that, which is looked at every few milliseconds: processor time of all
    /// its threads; anonymous memory, of which the pages that it changes in its arguments are part.
    ProgramCall& processor_time(std::chrono::nanoseconds most);
    ProgramCall& memory_bytes(std::uint64_t most);

    /// Starts the program and waits for its end. The values that it has given, in its order, none if it gave none.
    ///
    /// The outcome is `exited` with the exit status, 0 if there is a value; `signaled`; `not_started`;
    /// `deadline_passed`; `limit_exceeded`; or `result_lost`: what it sent was no value (EBADMSG), were too many
    /// (E2BIG), or there was no room for it here (EMFILE, ENOMEM) -- it is killed then.
    ///
    /// Throws: std::system_error -- E2BIG: the arguments have more than 253 files in all, one each and one more for
    ///         each delta. EMFILE, ENOMEM, EAGAIN (no more processes), ETOOMANYREFS, ECHILD (SIGCHLD ignored).
    ///         Nothing is left behind, and no program runs.
    /// Cost:   a clone and an exec; some microseconds for each value. Changed pages that lie in the page store are
    ///         copied, and so is a whole value that was loaded from disk.
    [[nodiscard]] CallResult<std::vector<vmcow::TypedSnapshot>> run() const;

    /// The same of a program that gives exactly one value; `result_lost` also if it gave none (ENODATA) or several
    /// (EBADMSG).
    [[nodiscard]] CallResult<vmcow::TypedSnapshot> run_for_one() const;

    /// The same of a program that gives one value of type R; `result_lost` also if it is of another type, or its image
    /// cannot be an R (EBADMSG). What containers within it point to is not looked at: of a program that may mean harm,
    /// take plain and array values only.
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
    /// Throws: std::system_error -- EBADMSG.
    static void require_type(std::uint64_t found, std::uint64_t wanted);
    [[nodiscard]] static Outcome misfit(const std::system_error& error);

    Program program_;
    std::vector<vmcow::TypedSnapshot> arguments_;
    Deadline deadline_ = Deadline::never();
    std::optional<std::chrono::nanoseconds> processor_time_;
    std::optional<std::uint64_t> memory_bytes_;
};

}  // namespace procrun
