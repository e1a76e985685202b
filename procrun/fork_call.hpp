#pragma once

#include <concepts>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "procrun/call/transfer.hpp"
#include "procrun/call_cost.hpp"
#include "procrun/call_options.hpp"
#include "procrun/call_result.hpp"
#include "procrun/outcome.hpp"

namespace procrun {

namespace detail {

/// How a forked call ended, and what it cost.
struct ForkedCall {
    Outcome outcome;
    CallCost cost;
};
/// The part of `fork_call` that does not depend on types. `body` runs in the child and writes the result; `take` runs
/// in the caller and reads it.
[[nodiscard]] ForkedCall run_forked(const std::function<void(pipes::MessageWriter&)>& body,
                                    const std::function<void(pipes::MessageReader&)>& take, const CallOptions& options);

}  // namespace detail

/// Runs `function()` in a function process that is forked for it, and waits. The function sees the whole state of the
/// caller as it is now, and its changes stay in its process. It has images as private views at the same addresses:
/// arenas, snapshots and views can be used as in the caller, and the kernel copies only the pages that are written.
///
///     auto sum = procrun::fork_call([&] {
///         view.as<long>()[7] = 42;  // nobody else sees this
///         return std::accumulate(view.as<long>().begin(), view.as<long>().end(), 0L);
///     });
///     use(sum.value());
///
/// `function` may capture anything, also by reference, because the whole process is copied. (A pool's functions may
/// not: they run in processes that were forked earlier.)
///
/// The result is sent back by `Transfer`. A vmcow::Snapshot goes by descriptor, so a function that returns
/// `view.capture()` hands back all that it changed and copies nothing else.
///
/// Pre:     SIGCHLD is not ignored, and nothing else in the process waits for any child.
/// Throws:  std::system_error -- EAGAIN (no more processes), EMFILE, ENOMEM, ECHILD (SIGCHLD ignored), EBADMSG (what
///          the child sent is no result); no process or descriptor is left behind. The outcome tells what happened in
///          the function; that is never thrown.
/// Cost:    one fork, whose cost grows with the heap, but not with the images.
/// Threads: any. Only the calling thread exists in the child. Between the fork and the function, the child calls only
///          what is async-signal-safe (I7).
/// Source:  fork(2), madvise(2) MADV_DONTFORK, pidfd_open(2).
template <std::invocable F>
[[nodiscard]] auto fork_call(F&& function, const CallOptions& options = {})
    -> CallResult<std::remove_cvref_t<std::invoke_result_t<F&>>> {
    using R = std::remove_cvref_t<std::invoke_result_t<F&>>;
    using Result = CallResult<R>;
    std::optional<typename Result::Value> value;
    if constexpr (!std::is_void_v<R> && !Transferable<R>) {
        static_assert(vmcow::detail::kIsComplete<detail::ResultOfCall<R, detail::Untransferable<R>>>);
        return Result({}, {}, {});
    } else if constexpr (std::is_void_v<R>) {
        auto done = detail::run_forked([&](pipes::MessageWriter&) { function(); },
                                       [&](pipes::MessageReader&) { value.emplace(); }, options);
        if (done.outcome.kind != OutcomeKind::returned) value.reset();  // as below
        return Result(std::move(done.outcome), std::move(done.cost), std::move(value));
    } else {
        auto done = detail::run_forked([&](pipes::MessageWriter& writer) { Transfer<R>::put(writer, function()); },
                                       [&](pipes::MessageReader& reader) { value.emplace(Transfer<R>::take(reader)); },
                                       options);
        if (done.outcome.kind != OutcomeKind::returned) value.reset();  // the call sent a value, but exceeded a limit
        return Result(std::move(done.outcome), std::move(done.cost), std::move(value));
    }
}

}  // namespace procrun
