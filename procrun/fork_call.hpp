#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "procrun/transfer.hpp"
#include "vmcow/units.hpp"

namespace procrun {

/// What a call cost. What could not be counted is nullopt (I8): a process that crashed can no longer be looked at, and
/// one that was ended at its deadline only from outside.
struct CallCost {
    double seconds = 0;                          ///< from the fork to the reaped child
    std::optional<vmcow::PageCount> copied;      ///< pages of images that the function wrote to
    std::optional<vmcow::PageCount> identical;   ///< of these, pages that end with the bytes they began with
    std::optional<std::uint64_t> changed_bytes;  ///< bytes of images that differ at the end
};

/// Thrown by `CallResult::value` when there is none; what() describes the outcome.
class CallFailed : public std::runtime_error {
public:
    explicit CallFailed(Outcome outcome) : std::runtime_error(outcome.describe()), outcome_(std::move(outcome)) {}
    [[nodiscard]] const Outcome& outcome() const noexcept { return outcome_; }

private:
    Outcome outcome_;
};

/// What came of a call: how it ended, what it cost, and the result if it returned.
template <class R>
class CallResult {
public:
    /// void functions have a result too, without content.
    using Value = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

    CallResult(Outcome outcome, CallCost cost, std::optional<Value> value)
        : outcome_(std::move(outcome)), cost_(cost), value_(std::move(value)) {}

    [[nodiscard]] bool ok() const noexcept { return value_.has_value(); }
    [[nodiscard]] const Outcome& outcome() const noexcept { return outcome_; }
    [[nodiscard]] const CallCost& cost() const noexcept { return cost_; }

    /// The result. Throws: CallFailed -- when the function did not return.
    [[nodiscard]] const Value& value() const& { return check(), *value_; }
    [[nodiscard]] Value&& value() && { return check(), *std::move(value_); }

private:
    void check() const {
        if (!value_) throw CallFailed(outcome_);
    }

    Outcome outcome_;
    CallCost cost_;
    std::optional<Value> value_;
};

struct CallOptions {
    /// The function process is killed when it still runs then.
    Deadline deadline = Deadline::never();
};

namespace detail {

/// The part of `fork_call` that does not depend on types. `body` runs in the child and writes the result; `take` runs
/// in the caller and reads it.
struct ForkedCall {
    Outcome outcome;
    CallCost cost;
};
[[nodiscard]] ForkedCall run_forked(const std::function<void(pipes::MessageWriter&)>& body,
                                    const std::function<void(pipes::MessageReader&)>& take, const CallOptions& options);

}  // namespace detail

/// Runs `function()` in a function process forked for it, and waits. The function sees the caller's whole state as it
/// is now; what it changes stays in its process. Images come as private views at the same addresses: arenas, snapshots
/// and views can be used as in the caller, and the kernel copies only the pages that are written.
///
///     auto sum = procrun::fork_call([&] {
///         view.as<long>()[7] = 42;  // nobody else sees this
///         return std::accumulate(view.as<long>().begin(), view.as<long>().end(), 0L);
///     });
///     use(sum.value());
///
/// The result comes back as `Transfer` has it; a vmcow::Snapshot goes by descriptor, so a function that returns
/// `view.capture()` hands back all it changed and copies nothing else.
///
/// Pre:     SIGCHLD is not ignored, and nobody else waits for any child.
/// Throws:  std::system_error -- EAGAIN (no more processes), EMFILE, ENOMEM, ECHILD (SIGCHLD ignored), EBADMSG (the
/// child
///          sent what is no result); no process or descriptor is left behind. Whatever happens in the function is not
///          thrown but told by the outcome.
/// Cost:    one fork, which does not grow with the images; it does with the rest of the heap.
/// Threads: any. Only the calling thread exists in the child. In the child's life between fork and function, nothing is
///          called that is not async-signal-safe (I7).
/// Source:  fork(2), madvise(2) MADV_DONTFORK, pidfd_open(2).
template <std::invocable F>
[[nodiscard]] auto fork_call(F&& function, const CallOptions& options = {})
    -> CallResult<std::remove_cvref_t<std::invoke_result_t<F&>>> {
    using R = std::remove_cvref_t<std::invoke_result_t<F&>>;
    using Result = CallResult<R>;
    std::optional<typename Result::Value> value;
    if constexpr (std::is_void_v<R>) {
        auto done = detail::run_forked([&](pipes::MessageWriter&) { function(); },
                                       [&](pipes::MessageReader&) { value.emplace(); }, options);
        return Result(std::move(done.outcome), done.cost, std::move(value));
    } else {
        static_assert(Transferable<R>,
                      "the result of a function process must be void, trivially copyable (no pointer), std::string, "
                      "vmcow::Snapshot, or a std::vector, std::pair or std::tuple of these");
        auto done = detail::run_forked([&](pipes::MessageWriter& writer) { Transfer<R>::put(writer, function()); },
                                       [&](pipes::MessageReader& reader) { value.emplace(Transfer<R>::take(reader)); },
                                       options);
        return Result(std::move(done.outcome), done.cost, std::move(value));
    }
}

}  // namespace procrun
