#pragma once

#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "pipes/channel/message_codec.hpp"
#include "procrun/call/transfer.hpp"
#include "procrun/call_options.hpp"
#include "procrun/call_result.hpp"
#include "procrun/deadline.hpp"
#include "procrun/outcome.hpp"
#include "procrun/pool/async_call.hpp"
#include "procrun/pool/call_fit.hpp"
#include "procrun/pool/call_packing.hpp"
#include "procrun/pool/function_traits.hpp"
#include "procrun/pool/image_parameter.hpp"
#include "procrun/pool/pool_core.hpp"
#include "procrun/pool_options.hpp"
#include "procrun/worker/call_protocol.hpp"
#include "procrun/worker/erased_call.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"

namespace procrun {

namespace detail {

struct PoolAccess;

template <class F>
using ResultOf = std::remove_cvref_t<typename Signature<F>::Result>;

/// The type that an `apply` returns for an image argument: that of the argument; for a part or a member, that of the
/// whole value.
template <class Image>
struct ImageResult {
    using Type = Image;
};
template <class T, class E>
struct ImageResult<vmcow::Part<T, E>> {
    using Type = vmcow::Value<T>;
};
template <class T, class E>
struct ImageResult<vmcow::Member<T, E>> {
    using Type = vmcow::Value<T>;
};
template <class Image>
using ImageResultOf = typename ImageResult<Image>::Type;

/// What `apply` returns: the images that the function changes, in the order of the arguments, and what the function
/// returned, if anything. It is an image alone, a pair or a tuple.
template <class R, class... Images>
struct AppliedResult {
    using Type = std::tuple<ImageResultOf<Images>..., R>;
};
template <class... Images>
struct AppliedResult<void, Images...> {
    using Type = std::tuple<ImageResultOf<Images>...>;
};
template <class R, class Image>
struct AppliedResult<R, Image> {
    using Type = std::pair<ImageResultOf<Image>, R>;
};
template <class Image>
struct AppliedResult<void, Image> {
    using Type = ImageResultOf<Image>;
};
template <class R, class... Images>
using Applied = typename AppliedResult<R, Images...>::Type;

/// The types of those arguments of an `apply` that come back changed.
template <class... Image>
struct ChangedImages {};
template <class Found, class Parameters, class Arguments>
struct FindChanged {
    using Type = Found;
};
template <class... Found, class P, class... Ps, class A, class... As>
struct FindChanged<ChangedImages<Found...>, std::tuple<P, Ps...>, std::tuple<A, As...>>
    : FindChanged<std::conditional_t<writes_back<P, A>(), ChangedImages<Found..., std::remove_cvref_t<A>>,
                                     ChangedImages<Found...>>,
                  std::tuple<Ps...>, std::tuple<As...>> {};
template <class F, class... A>
using ChangedBy = typename FindChanged<ChangedImages<>, typename Signature<F>::Parameters, std::tuple<A...>>::Type;

template <class R>
std::optional<typename CallResult<R>::Value> take_value(ErasedResult& result) {
    if constexpr (std::is_void_v<R>) {
        return std::monostate{};
    } else {
        pipes::MessageReader reader(result.payload->bytes(), std::move(result.fds));
        std::optional<R> value(Transfer<R>::take(reader));
        reader.expect_end();
        return value;
    }
}

/// Runs `make`, which reads the value of a call that returned. If the bytes do not fit, the worker has sent wrong ones
/// (I3), and the result is lost.
template <class Result, class Make>
Result decode(ErasedResult& result, Make&& make) {
    std::optional<typename Result::Value> value;
    if (result.outcome.kind == OutcomeKind::returned) {
        try {
            value = make();
        } catch (const std::system_error& error) {
            result.outcome = {OutcomeKind::result_lost, error.code().value(), "read the result"};
        } catch (const std::bad_alloc&) {
            result.outcome = {OutcomeKind::result_lost, ENOMEM, "read the result"};
        } catch (const std::length_error&) {
            result.outcome = {OutcomeKind::result_lost, EBADMSG, "read the result"};
        }
    }
    return Result(std::move(result.outcome), std::move(result.cost), std::move(value));
}

template <class R>
CallResult<R> decode_call(ErasedResult& result) {
    return decode<CallResult<R>>(result, [&] { return take_value<R>(result); });
}

template <class Image>
ImageResultOf<Image> take_changed(ChangedImage& changed) {
    if constexpr (std::is_same_v<Image, vmcow::Arena>) {
        return std::move(*changed.moved_back);
    } else if constexpr (std::is_same_v<Image, vmcow::Snapshot>) {
        return std::move(*changed.applied);
    } else if constexpr (kIsMember<Image>) {
        return take_changed<typename Image::Whole>(changed);
    } else if constexpr (kIsPart<Image>) {
        const vmcow::ChangedPart part{*std::move(changed.part), *std::move(changed.applied)};
        return Image::Whole::from_snapshot(vmcow::put_back(std::span(&part, 1)));
    } else if (changed.block) {
        return Image::from_block(std::move(changed.block));
    } else if (changed.as_it_was) {
        return Image::from_handle(std::move(changed.as_it_was));
    } else if (changed.moved_back) {
        return Image::from_arena(std::move(*changed.moved_back));
    } else {
        return Image::from_snapshot(std::move(*changed.applied));
    }
}

template <class R, class... Images>
CallResult<Applied<R, Images...>> decode_apply(ErasedResult& result) {
    using All = Applied<R, Images...>;
    return decode<CallResult<All>>(result, [&]() -> std::optional<All> {
        std::size_t next = 0;
        const auto take = [&]<class Image>(ChangedImages<Image>) {
            return take_changed<Image>(result.changed[next++]);
        };
        if constexpr (std::is_void_v<R>) {
            return All{take(ChangedImages<Images>{})...};  // braces: from left to right
        } else {
            auto value = take_value<R>(result);
            return All{take(ChangedImages<Images>{})..., *std::move(value)};
        }
    });
}
template <class R, class... Images>
constexpr auto decoder_of(ChangedImages<Images...>) {
    return &decode_apply<R, Images...>;
}
template <class F, class... A>
inline constexpr auto kDecodeApply = decoder_of<ResultOf<F>>(ChangedBy<F, A...>{});

/// Reads the result of one part of a `map_parts`: the changed part, and what the function returned.
template <class R>
CallResult<std::pair<vmcow::ChangedPart, typename CallResult<R>::Value>> decode_part(ErasedResult& result) {
    using Both = std::pair<vmcow::ChangedPart, typename CallResult<R>::Value>;
    return decode<CallResult<Both>>(result, [&]() -> std::optional<Both> {
        auto value = take_value<R>(result);
        ChangedImage& changed = result.changed.front();
        return Both{{*std::move(changed.part), *std::move(changed.applied)}, *std::move(value)};
    });
}

/// Adds the cost of one call to the cost of several.
void add_cost(CallCost& all, const CallCost& one);

/// A part of an array, in elements.
struct PartRange {
    std::size_t first = 0;
    std::size_t count = 0;
};
/// Divides an array into about `count` equal parts. They begin on pages where there are enough elements for that.
[[nodiscard]] std::vector<PartRange> equal_parts(std::size_t elements, std::size_t element_bytes, std::size_t count);

}  // namespace detail

/// A call that runs while the caller goes on. The destructor cancels the call if its result has not been taken.
///
/// Threads: one at a time.
template <class R>
class CallFuture {
public:
    using Decode = CallResult<R> (*)(detail::ErasedResult&);

    CallFuture(std::shared_ptr<detail::PoolCore> core, std::shared_ptr<detail::AsyncCall> call, Decode decode) noexcept
        : core_(std::move(core)), call_(std::move(call)), decode_(decode) {}
    CallFuture(CallFuture&&) noexcept = default;
    CallFuture& operator=(CallFuture&& other) noexcept {
        if (this != &other) {
            abandon();
            core_ = std::move(other.core_);
            call_ = std::move(other.call_);
            decode_ = other.decode_;
        }
        return *this;
    }
    ~CallFuture() { abandon(); }

    /// Waits for the end of the call; false when the deadline came first.
    [[nodiscard]] bool wait_until(Deadline deadline) { return pending().wait(call_, deadline); }
    template <class Rep, class Period>
    [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> delay) {
        return wait_until(Deadline::in(std::chrono::duration_cast<std::chrono::nanoseconds>(delay)));
    }
    void wait() { static_cast<void>(pending().wait(call_, Deadline::never())); }

    /// Cancels the call: removes it from the queue, or kills its function process. Does nothing once the call is done.
    void cancel() { pending().cancel(call_); }

    /// Waits for the end of the call, and takes the result. Pre: it has not been taken.
    [[nodiscard]] CallResult<R> get() {
        static_cast<void>(pending().wait(call_, Deadline::never()));
        const auto call = std::exchange(call_, nullptr);
        return decode_(call->result);
    }

    /// Whether the call was refused because the queue was full.
    [[nodiscard]] bool is_refused() const {
        return pending().wait(call_, Deadline::at({})) && call_->result.outcome.kind == OutcomeKind::not_started &&
               call_->result.outcome.code == EAGAIN;
    }

    /// False once the result has been taken.
    [[nodiscard]] bool valid() const noexcept { return call_ != nullptr; }

private:
    /// The pool that runs the call. Pre: the result has not been taken; otherwise the error names the member `call`.
    [[nodiscard]] detail::PoolCore& pending(const char* call = __builtin_FUNCTION()) const noexcept {
        if (call_ == nullptr) detail::refuse_moved_from_future(call);
        return *core_;
    }
    void abandon() noexcept {
        if (core_ && !core_->is_mine()) {
            return detail::PoolCore::leave_to_owner(std::move(core_), std::move(call_));
        }
        if (call_) core_->cancel(call_);
        call_.reset();
    }

    std::shared_ptr<detail::PoolCore> core_;
    std::shared_ptr<detail::AsyncCall> call_;
    Decode decode_;
};

/// How far a `Pool::map` has come, in calls.
struct MapProgress {
    std::size_t done = 0;
    std::size_t failed = 0;  ///< of the calls that are done
    std::size_t total = 0;
};

/// A pool of function processes that are kept from call to call: by-value calls in microseconds.
///
///     long sum(std::span<const long> values);              // takes an image read-only: an alias
///     void scale(std::span<long> values, long factor);     // takes it private: writes stay in the call
///
///     procrun::Pool pool;                                   // before the first thread
///     long total = pool.call(sum, value).value();
///     vmcow::Snapshot doubled = pool.apply(scale, value, 2L).value();
///     arena = pool.apply(scale, std::move(arena), 2L).value();         // last use: changed in place
///     auto future = pool.async(sum, doubled);
///
/// The function is a function or a lambda without captures. A lambda with captures goes to the other process as bytes,
/// where references and pointers lead nowhere: `procrun::by_bytes(lambda)` says that there are none. The function runs
/// in a process that was forked from a copy of this one as it was when the pool was made. Earlier calls have used that
/// process: global variables hold what they have left there. The library of the function must have been loaded when the
/// pool was made. The arguments are
///   - images: vmcow::Snapshot, or, where the caller waits, vmcow::Arena. `const T&` and `std::span<const T>` see them
///     read-only, at any address; `T&` and `std::span<T>` privately, at the caller's addresses if the image has a file
///     of its own and is given once; T is plain bytes. A function can pass an image on as it is then, by `fork_call` or
///     `pass_on`; a plain fork(2) has no images.
///   - values that `Transfer` knows, as bytes: containers of the standard library, structs, ... The result is sent in
///     the same way, and may be of any size. A pointer is no such value, not even one to a function.
/// A call that does not fit does not compile; the message has one sentence, and the number and type of the argument.
///
/// The outcome tells when a call cannot be made or does not return; that is never thrown. Whatever happens to the
/// worker, the caller's values are as before (I4), and the next call gets another worker. A deadline holds even if
/// something has stopped (SIGSTOP) the worker or the process that forks workers: these are continued, or killed and
/// replaced. Processes and threads that a function leaves running end with its worker, which takes no other call.
///
/// All of this protects from a function's mistakes, not from its intent: a worker runs as the caller's user, and can
/// write to the caller's memory, frozen values included, by the means that the kernel gives that user
/// (process_vm_writev(2), /proc/PID/mem, pidfd_getfd(2)).
///
/// Pre:     SIGCHLD is not ignored when the pool is made; no other thread exists then.
/// Threads: any; calls beyond the number of workers wait in their order.
/// After fork: in a process that was forked from this one, by the user or as a function process, the copy becomes a
///          pool of that process: it is made, with the same options, at the first call there. So a function may use the
///          pool that runs it, for example a global one. The exception is a static variable of a function: its workers
///          are forked while it is still being made, so that in them it is never made. Such a call is refused with that
///          reason, in a program that has had threads after half a second. The caller's processes and futures are left
///          alone there.
/// Cost:    a wake-up of another processor and back, two system calls by which the worker looks for what the function
///          has left behind, and what the images cost (`CallCost`); starting a worker costs a fork of the process as it
///          was when the pool was made.
class Pool {
public:
    /// Forks the zygote.
    /// Throws: std::system_error -- EPERM: this process has other threads (make the pool first); EAGAIN, ENOMEM,
    ///         EMFILE, ECHILD (SIGCHLD ignored).
    explicit Pool(PoolOptions options = {}) : core_(std::make_shared<detail::PoolCore>(std::move(options))) {
        core_->open();
    }
    /// Ends every worker, and all that functions have left behind, within two seconds. Cancels calls that still run.
    /// Pre: no other thread is in a call.
    ~Pool() { detail::PoolCore::end(std::move(core_)); }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    /// Runs `function(args...)` by value in a function process, and waits: CallResult<R>. What the function writes to
    /// an image stays in the call; `apply` brings it back.
    /// Throws: std::length_error -- an image is smaller than the object that the function takes.
    template <class F, class... A>
    [[nodiscard]] auto call(const CallOptions& options, F function, A&&... args) {
        if constexpr (detail::fits_call<detail::CallKind::call, F, typename detail::PoolArgument<A>::Type...>()) {
            detail::ErasedCall call;
            call.is_synchronous = true;
            make(call, options, detail::ImageMode::by_value, function, detail::PoolArgument<A>::of(args)...);
            detail::ErasedResult result;
            detail::PoolCore::call_here(core_, call, result);
            return detail::decode_call<detail::ResultOf<F>>(result);
        }
    }
    template <class F, class... A>
    requires(!std::same_as<F, CallOptions>) [[nodiscard]] auto call(F function, A&&... args) {
        return call(CallOptions{}, function, std::forward<A>(args)...);
    }
    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void call(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    /// Runs `function(image, args...)` and waits. An argument that the function takes as T& or std::span<T> comes back
    /// changed. The result holds the image or, if the function returns something, a pair of the image and that. Where
    /// several arguments change, it holds a tuple of these in their order, with what the function returns as the last:
    ///
    ///     void move(std::span<long> from, std::span<long> to);
    ///     auto [from, to] = pool.apply(move, a, b).value();
    ///
    /// For a vmcow::Snapshot the image is another snapshot, which shares the unchanged pages with the first. For a
    /// moved vmcow::Arena it is the arena itself, changed in place with nothing copied; if the function does not
    /// return, the arena is gone, and the outcome says so. A function takes as T what it changes for itself alone.
    template <class F, class... A>
    [[nodiscard]] auto apply(const CallOptions& options, F function, A&&... args) {
        if constexpr (detail::fits_call<detail::CallKind::apply, F, A...>()) {
            detail::ErasedCall call;
            call.is_synchronous = true;
            make(call, options, detail::ImageMode::apply, function, std::forward<A>(args)...);
            detail::ErasedResult result;
            detail::PoolCore::call_here(core_, call, result);
            return detail::kDecodeApply<F, A...>(result);
        }
    }
    template <class F, class... A>
    requires(!std::same_as<F, CallOptions>) [[nodiscard]] auto apply(F function, A&&... args) {
        return apply(CallOptions{}, function, std::forward<A>(args)...);
    }
    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void apply(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    /// Starts a call and returns at once: CallFuture<R>. Images are snapshots.
    /// Throws: std::length_error -- as `call`; std::bad_alloc.
    template <class F, class... A>
    [[nodiscard]] auto async(const CallOptions& options, F function, A&&... args) {
        if constexpr (detail::fits_call<detail::CallKind::async, F, typename detail::PoolArgument<A>::Type...>()) {
            using R = detail::ResultOf<F>;
            return start<R>(detail::decode_call<R>, options, detail::ImageMode::by_value, function,
                            detail::PoolArgument<A>::of(args)...);
        }
    }
    template <class F, class... A>
    requires(!std::same_as<F, CallOptions>) [[nodiscard]] auto async(F function, A&&... args) {
        return async(CallOptions{}, function, std::forward<A>(args)...);
    }
    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void async(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    /// Starts an `apply` and returns at once: a CallFuture of what `apply` returns.
    /// Throws: std::length_error -- as `call`; std::bad_alloc.
    template <class F, class... A>
    [[nodiscard]] auto async_apply(const CallOptions& options, F function, A&&... args) {
        if constexpr (detail::fits_call<detail::CallKind::async_apply, F, A...>()) {
            constexpr auto kDecode = detail::kDecodeApply<F, A...>;
            using Result = std::invoke_result_t<decltype(kDecode), detail::ErasedResult&>;
            return start<typename Result::Value>(kDecode, options, detail::ImageMode::apply, function,
                                                 std::forward<A>(args)...);
        }
    }
    template <class F, class... A>
    requires(!std::same_as<F, CallOptions>) [[nodiscard]] auto async_apply(F function, A&&... args) {
        return async_apply(CallOptions{}, function, std::forward<A>(args)...);
    }
    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void async_apply(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    /// Runs `function(value, input)` for each of `inputs` on all workers. Returns the results in the order of the
    /// inputs. `progress`, if there is one, is called in this thread for each result that arrives.
    template <class F, class V, std::ranges::forward_range Inputs>
    [[nodiscard]] auto map(F function, const V& value, const Inputs& inputs,
                           const std::function<void(const MapProgress&)>& progress = {},
                           const CallOptions& options = {}) {
        using Input = const std::ranges::range_value_t<Inputs>&;
        if constexpr (detail::fits_call<detail::CallKind::async, F, const V&, Input>()) {
            using R = detail::ResultOf<F>;
            std::vector<CallResult<R>> results;
            MapProgress at{.total = static_cast<std::size_t>(std::ranges::distance(inputs))};
            results.reserve(at.total);
            const auto start = [&](const auto& input) { return async(options, function, value, input); };
            start_all(inputs, start, [&](CallResult<R> result) {
                results.push_back(std::move(result));
                ++at.done;
                if (!results.back().ok()) ++at.failed;
                if (progress) progress(at);
            });
            return results;
        }
    }

    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void map(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    /// Runs `function(part, args...)` for each of `parts`, which have no bytes in common, on all workers, and joins
    /// what they have changed. Returns the CallResult of the whole value or, if the function returns something, of a
    /// pair of the value and a vector of these results in the order of the parts. If a call does not return, the
    /// outcome is that of the first such call.
    /// Pre:    the parts are of one value as it was at one time.
    /// Throws: std::bad_alloc.
    /// Cost:   a call for each part; a copy of each page that was changed.
    template <class F, class T, class E, class... A>
    [[nodiscard]] auto map_parts(const CallOptions& options, F function, const std::vector<vmcow::Part<T, E>>& parts,
                                 const A&... args) {
        using Part = vmcow::Part<T, E>;
        if constexpr (detail::fits_call<detail::CallKind::async_apply_first, F, const Part&, const A&...>()) {
            using R = detail::ResultOf<F>;
            using Changed = CallResult<std::pair<vmcow::ChangedPart, typename CallResult<R>::Value>>;
            std::vector<Changed> results;
            const auto start_one = [&](const Part& part) {
                return start<typename Changed::Value>(detail::decode_part<R>, options, detail::ImageMode::apply,
                                                      function, part, args...);
            };
            const auto began = std::chrono::steady_clock::now();
            start_all(parts, start_one, [&](Changed result) { results.push_back(std::move(result)); });
            return join<vmcow::Value<T>, R>(results, began);
        }
    }
    template <class F, class T, class E, class... A>
    [[nodiscard]] auto map_parts(F function, const std::vector<vmcow::Part<T, E>>& parts, const A&... args) {
        return map_parts(CallOptions{}, function, parts, args...);
    }
    /// Divides an array into about `count` equal parts, which begin on pages, and runs `map_parts` for them.
    template <class F, class T, class... A>
    [[nodiscard]] auto map_parts(F function, const vmcow::Value<T[]>& value, std::size_t count, const A&... args) {
        std::vector<vmcow::Part<T[], T[]>> parts;
        for (const detail::PartRange& range : detail::equal_parts(value.size(), sizeof(T), count)) {
            parts.push_back(value.part(range.first, range.count));
        }
        return map_parts(CallOptions{}, function, parts, args...);
    }

    template <class ChooseByStaticCast = detail::OverloadedFunction>
    void map_parts(...) = delete;  // an overloaded name, or a template's: static_cast<R (*)(P...)>(name), or a lambda

    /// Ends the workers that have nothing to do, and gives back the pages that they have kept.
    void trim() { detail::PoolCore::found_here(core_)->trim(); }
    [[nodiscard]] PoolStatus status() const { return detail::PoolCore::found_here(core_)->status(); }

private:
    /// Starts a call for each of `inputs`, and gives the results to `take` in the order of the inputs.
    template <class Inputs, class Start, class Take>
    void start_all(const Inputs& inputs, Start&& start_one, Take&& take) {
        std::deque<std::invoke_result_t<Start&, const std::ranges::range_value_t<Inputs>&>> ahead;
        const auto take_one = [&] {
            auto first = std::move(ahead.front());
            ahead.pop_front();
            take(first.get());
        };
        for (const auto& input : inputs) {
            // Calls are started ahead, so that no worker waits for this thread.
            if (ahead.size() >= core_->calls_ahead()) take_one();
            ahead.push_back(start_one(input));
            // Another thread may have filled the queue meanwhile: take a result first, and start the call again.
            while (ahead.back().is_refused() && ahead.size() > 1) {
                ahead.pop_back();
                take_one();
                ahead.push_back(start_one(input));
            }
        }
        while (!ahead.empty()) take_one();
    }

    template <class Whole, class R, class Results>
    static auto join(Results& results, std::chrono::steady_clock::time_point began) {
        constexpr bool kReturns = !std::is_void_v<R>;
        using Joined =
            std::conditional_t<kReturns, std::pair<Whole, std::vector<typename CallResult<R>::Value>>, Whole>;
        CallCost cost;
        Outcome outcome{OutcomeKind::returned, 0, {}};
        std::vector<vmcow::ChangedPart> changed;
        std::vector<typename CallResult<R>::Value> values;
        for (auto& result : results) {
            detail::add_cost(cost, result.cost());
            if (!result.ok()) {
                if (outcome.kind == OutcomeKind::returned) outcome = result.outcome();
                continue;
            }
            auto [part, value] = std::move(result).value();
            changed.push_back(std::move(part));
            values.push_back(std::move(value));
        }
        std::optional<Joined> joined;
        if (outcome.kind == OutcomeKind::returned) {
            Whole whole = Whole::from_snapshot(vmcow::put_back(changed));
            if constexpr (kReturns) {
                joined.emplace(std::move(whole), std::move(values));
            } else {
                joined.emplace(std::move(whole));
            }
        }
        cost.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
        return CallResult<Joined>(std::move(outcome), std::move(cost), std::move(joined));
    }

    template <class F, class... A>
    static void make(detail::ErasedCall& call, const CallOptions& options, detail::ImageMode mode, const F& function,
                     A&&... args) {
        call.begin(options);
        using Parameters = typename detail::Signature<F>::Parameters;
        detail::CallMaker<F, Parameters, A...>::make(call, function, mode, std::forward<A>(args)...);
    }

    template <class R, class F, class... A>
    CallFuture<R> start(typename CallFuture<R>::Decode decode, const CallOptions& options, detail::ImageMode mode,
                        const F& function, A&&... args) {
        auto call = std::make_shared<detail::AsyncCall>();
        make(call->call, options, mode, function, std::forward<A>(args)...);
        auto core = detail::PoolCore::here_or_refusing(core_);
        core->start(call);
        return CallFuture<R>(std::move(core), std::move(call), decode);
    }

    friend struct detail::PoolAccess;

    std::shared_ptr<detail::PoolCore> core_;
};

}  // namespace procrun
