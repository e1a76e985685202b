#pragma once

#include <concepts>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "procrun/call_cost.hpp"
#include "procrun/call_options.hpp"
#include "procrun/call_result.hpp"
#include "procrun/outcome.hpp"
#include "procrun/transfer.hpp"

namespace procrun {

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
        return Result(std::move(done.outcome), std::move(done.cost), std::move(value));
    } else {
        static_assert(Transferable<R>,
                      "the result of a function process must be void, trivially copyable (no pointer), std::string, "
                      "vmcow::Snapshot, or a std::vector, std::pair or std::tuple of these");
        auto done = detail::run_forked([&](pipes::MessageWriter& writer) { Transfer<R>::put(writer, function()); },
                                       [&](pipes::MessageReader& reader) { value.emplace(Transfer<R>::take(reader)); },
                                       options);
        if (done.outcome.kind != OutcomeKind::returned) value.reset();  // it came, but past a limit
        return Result(std::move(done.outcome), std::move(done.cost), std::move(value));
    }
}

}  // namespace procrun
