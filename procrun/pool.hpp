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
#include <type_traits>
#include <utility>
#include <vector>

#include "procrun/call_clock.hpp"
#include "procrun/call_options.hpp"
#include "procrun/call_result.hpp"
#include "procrun/pool_core.hpp"
#include "procrun/pool_options.hpp"
#include "procrun/pool_signature.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"

namespace procrun {

namespace detail {

struct PoolAccess;

template <class F>
using ResultOf = std::remove_cvref_t<typename Signature<F>::Result>;

/// What becomes of an image argument: another one of its kind; of a part, the whole value.
template <class Image>
struct ImageResult {
    using Type = Image;
};
template <class T, class E>
struct ImageResult<vmcow::Part<T, E>> {
    using Type = vmcow::Value<T>;
};
template <class Image>
using ImageResultOf = typename ImageResult<Image>::Type;

/// What `apply` returns: the changed image, and what the function returned if it did.
template <class Image, class R>
using Applied = std::conditional_t<std::is_void_v<R>, ImageResultOf<Image>, std::pair<ImageResultOf<Image>, R>>;

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

/// Runs `make`, which reads the value of a call that returned. What does not fit is the worker's doing (I3).
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

template <class Image, class R>
CallResult<Applied<Image, R>> decode_apply(ErasedResult& result) {
    return decode<CallResult<Applied<Image, R>>>(result, [&]() -> std::optional<Applied<Image, R>> {
        const auto image = [&]() -> ImageResultOf<Image> {
            if constexpr (std::is_same_v<Image, vmcow::Arena>) {
                return std::move(*result.moved_back);
            } else if constexpr (std::is_same_v<Image, vmcow::Snapshot>) {
                return std::move(*result.applied);
            } else if constexpr (kIsPart<Image>) {
                const vmcow::ChangedPart changed{*std::move(result.part), *std::move(result.applied)};
                return Image::Whole::from_snapshot(vmcow::put_back(std::span(&changed, 1)));
            } else if (result.moved_back) {
                return Image::from_arena(std::move(*result.moved_back));
            } else {
                return Image::from_snapshot(std::move(*result.applied));
            }
        };
        if constexpr (std::is_void_v<R>) {
            return image();
        } else {
            auto value = take_value<R>(result);
            return Applied<Image, R>{image(), *std::move(value)};
        }
    });
}

/// One part of a `map_parts`: the changed part, and what the function returned.
template <class R>
CallResult<std::pair<vmcow::ChangedPart, typename CallResult<R>::Value>> decode_part(ErasedResult& result) {
    using Both = std::pair<vmcow::ChangedPart, typename CallResult<R>::Value>;
    return decode<CallResult<Both>>(result, [&]() -> std::optional<Both> {
        auto value = take_value<R>(result);
        return Both{{*std::move(result.part), *std::move(result.applied)}, *std::move(value)};
    });
}

/// Adds what one call cost to what all of them did.
void add_cost(CallCost& all, const CallCost& one);

/// About `count` equal parts of an array, which begin on pages where there are enough elements for that.
struct PartRange {
    std::size_t first = 0;
    std::size_t count = 0;
};
[[nodiscard]] std::vector<PartRange> equal_parts(std::size_t elements, std::size_t element_bytes, std::size_t count);

}  // namespace detail

/// A call that goes on by itself. The destructor of one whose result nobody has taken cancels the call.
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
    [[nodiscard]] bool wait_until(Deadline deadline) { return core_->wait(call_, deadline); }
    template <class Rep, class Period>
    [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> delay) {
        return wait_until(Deadline::in(std::chrono::duration_cast<std::chrono::nanoseconds>(delay)));
    }
    void wait() { static_cast<void>(core_->wait(call_, Deadline::never())); }

    /// Takes the call back: out of the queue, or by killing its function process. Without effect once it is done.
    void cancel() { core_->cancel(call_); }

    /// Waits, and takes what came of the call. Pre: not taken yet.
    [[nodiscard]] CallResult<R> get() {
        wait();
        const auto call = std::exchange(call_, nullptr);
        return decode_(call->result);
    }

    /// True when the queue was full.
    [[nodiscard]] bool is_refused() const {
        return core_->wait(call_, Deadline::at({})) && call_->result.outcome.kind == OutcomeKind::not_started &&
               call_->result.outcome.code == EAGAIN;
    }

    /// False once the result has been taken.
    [[nodiscard]] bool valid() const noexcept { return call_ != nullptr; }

private:
    void abandon() noexcept {
        if (call_) core_->cancel(call_);
        call_.reset();
    }

    std::shared_ptr<detail::PoolCore> core_;
    std::shared_ptr<detail::AsyncCall> call_;
    Decode decode_;
};

/// How far a `Pool::map` is.
struct MapProgress {
    std::size_t done = 0;
    std::size_t failed = 0;  ///< of those done
    std::size_t total = 0;
};

/// Function processes that stay: by-value calls in microseconds.
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
/// The function is a function or a lambda without captures, or with trivially copyable ones; it runs in a process that
/// was forked from a copy of this one as it was when the pool was made, and that other calls have used before: what it
/// finds in global variables is what they have left there. Its library was loaded when the pool was made. Its arguments
/// are
///   - images: vmcow::Snapshot, or, where the caller waits, vmcow::Arena. `const T&` and `std::span<const T>` see them
///     read-only, at any address; `T&` and `std::span<T>` privately, at the caller's addresses unless an image is given
///     twice; T is trivially copyable. A process that the function forks has no images.
///   - values that `Transfer` knows, as bytes. So is the result, of any size.
///
/// A call that cannot be made or does not return is told by its outcome, not thrown. Whatever becomes of the worker,
/// the caller's values are as before (I4), and the next call gets another one.
///
/// Pre:     SIGCHLD is not ignored when the pool is made; no other thread exists then.
/// Threads: any; calls beyond the number of workers wait in their order. In a process that is forked later the pool
///          cannot be used.
/// Cost:    half a microsecond and what the images cost (`CallCost`); starting a worker costs a fork of the process as
///          it was when the pool was made.
class Pool {
public:
    /// Forks the zygote. Throws: std::system_error -- EPERM: this process has other threads (make the pool first);
    ///         EAGAIN, ENOMEM, EMFILE, ECHILD (SIGCHLD ignored).
    explicit Pool(PoolOptions options = {}) : core_(std::make_shared<detail::PoolCore>(std::move(options))) {}
    /// Ends every worker. Calls that are still running are cancelled. Pre: no other thread is in a call.
    ~Pool() {
        if (core_->is_mine()) core_->shut_down();
    }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    /// Runs `function(args...)` by value in a function process, and waits: CallResult<R>.
    /// Throws: std::length_error -- an image is smaller than the object that the function takes.
    template <class F, class... A>
    [[nodiscard]] auto call(const CallOptions& options, F function, A&&... args) {
        constexpr detail::Misfit kMisfit = detail::misfit_of_call<detail::CallKind::call, F, A...>();
        detail::explain<kMisfit>();
        if constexpr (kMisfit == detail::Misfit::none) {
            detail::ErasedCall call;
            call.waits = true;
            make(call, options, detail::ImageMode::by_value, function, std::forward<A>(args)...);
            detail::ErasedResult result;
            core_->call(call, result);
            return detail::decode_call<detail::ResultOf<F>>(result);
        }
    }
    template <class F, class... A>
    requires(!std::same_as<F, CallOptions>) [[nodiscard]] auto call(F function, A&&... args) {
        return call(CallOptions{}, function, std::forward<A>(args)...);
    }

    /// Runs `function(image, args...)` and waits; the changed image comes back. The result holds it, or, for a function
    /// that returns something, a pair of it and that.
    ///   - of a vmcow::Snapshot: another one, which shares the unchanged pages with it;
    ///   - of a moved vmcow::Arena: the arena itself, changed in place with nothing copied. If the function does not
    ///     return, the arena is gone, and the outcome says so.
    template <class F, class... A>
    [[nodiscard]] auto apply(const CallOptions& options, F function, A&&... args) {
        constexpr detail::Misfit kMisfit = detail::misfit_of_call<detail::CallKind::apply, F, A...>();
        detail::explain<kMisfit>();
        if constexpr (kMisfit == detail::Misfit::none) {
            detail::ErasedCall call;
            call.waits = true;
            make(call, options, detail::ImageMode::apply, function, std::forward<A>(args)...);
            detail::ErasedResult result;
            core_->call(call, result);
            return detail::decode_apply<FirstOf<A...>, detail::ResultOf<F>>(result);
        }
    }
    template <class F, class... A>
    requires(!std::same_as<F, CallOptions>) [[nodiscard]] auto apply(F function, A&&... args) {
        return apply(CallOptions{}, function, std::forward<A>(args)...);
    }

    /// Starts a call and returns at once: CallFuture<R>. Images are snapshots.
    /// Throws: std::length_error as above; std::bad_alloc.
    template <class F, class... A>
    [[nodiscard]] auto async(const CallOptions& options, F function, A&&... args) {
        constexpr detail::Misfit kMisfit = detail::misfit_of_call<detail::CallKind::async, F, A...>();
        detail::explain<kMisfit>();
        if constexpr (kMisfit == detail::Misfit::none) {
            using R = detail::ResultOf<F>;
            return CallFuture<R>(core_, start(options, detail::ImageMode::by_value, function, std::forward<A>(args)...),
                                 detail::decode_call<R>);
        }
    }
    template <class F, class... A>
    requires(!std::same_as<F, CallOptions>) [[nodiscard]] auto async(F function, A&&... args) {
        return async(CallOptions{}, function, std::forward<A>(args)...);
    }

    /// `apply` that returns at once, with a future of the changed image.
    template <class F, class... A>
    [[nodiscard]] auto async_apply(const CallOptions& options, F function, A&&... args) {
        constexpr detail::Misfit kMisfit = detail::misfit_of_call<detail::CallKind::async_apply, F, A...>();
        detail::explain<kMisfit>();
        if constexpr (kMisfit == detail::Misfit::none) {
            using Image = FirstOf<A...>;
            using R = detail::ResultOf<F>;
            return CallFuture<detail::Applied<Image, R>>(
                core_, start(options, detail::ImageMode::apply, function, std::forward<A>(args)...),
                detail::decode_apply<Image, R>);
        }
    }
    template <class F, class... A>
    requires(!std::same_as<F, CallOptions>) [[nodiscard]] auto async_apply(F function, A&&... args) {
        return async_apply(CallOptions{}, function, std::forward<A>(args)...);
    }

    /// Runs `function(value, input)` for each of `inputs` on all workers; what came of them, in the order of the
    /// inputs. `progress`, if there is one, is called in this thread each time one more of them is known.
    template <class F, class V, std::ranges::forward_range Inputs>
    [[nodiscard]] auto map(F function, const V& value, const Inputs& inputs,
                           const std::function<void(const MapProgress&)>& progress = {},
                           const CallOptions& options = {}) {
        using Input = const std::ranges::range_value_t<Inputs>&;
        constexpr detail::Misfit kMisfit = detail::misfit_of_call<detail::CallKind::async, F, const V&, Input>();
        detail::explain<kMisfit>();
        if constexpr (kMisfit == detail::Misfit::none) {
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

    /// Runs `function(part, args...)` for each of `parts`, which have no bytes in common, on all workers, and joins
    /// what they have changed: CallResult of the whole value, or, for a function that returns something, of a pair of
    /// it and a vector of that, in the order of the parts. When one of them does not return, its outcome is that of
    /// all. Pre:    parts of one value as it was at one time. Throws: std::bad_alloc. Cost:   a call for each part; a
    /// copy of each page that was changed.
    template <class F, class T, class E, class... A>
    [[nodiscard]] auto map_parts(const CallOptions& options, F function, const std::vector<vmcow::Part<T, E>>& parts,
                                 const A&... args) {
        using Part = vmcow::Part<T, E>;
        constexpr detail::Misfit kMisfit =
            detail::misfit_of_call<detail::CallKind::async_apply, F, const Part&, const A&...>();
        detail::explain<kMisfit>();
        if constexpr (kMisfit == detail::Misfit::none) {
            using R = detail::ResultOf<F>;
            using Changed = CallResult<std::pair<vmcow::ChangedPart, typename CallResult<R>::Value>>;
            std::vector<Changed> results;
            const auto start_one = [&](const Part& part) {
                return CallFuture<typename Changed::Value>(
                    core_, start(options, detail::ImageMode::apply, function, part, args...), detail::decode_part<R>);
            };
            const std::int64_t began_ns = detail::now_ns();
            start_all(parts, start_one, [&](Changed result) { results.push_back(std::move(result)); });
            return join<vmcow::Value<T>, R>(results, began_ns);
        }
    }
    template <class F, class T, class E, class... A>
    [[nodiscard]] auto map_parts(F function, const std::vector<vmcow::Part<T, E>>& parts, const A&... args) {
        return map_parts(CallOptions{}, function, parts, args...);
    }
    /// The same for about `count` equal parts of an array, which begin on pages.
    template <class F, class T, class... A>
    [[nodiscard]] auto map_parts(F function, const vmcow::Value<T[]>& value, std::size_t count, const A&... args) {
        std::vector<vmcow::Part<T[], T[]>> parts;
        for (const detail::PartRange& range : detail::equal_parts(value.size(), sizeof(T), count)) {
            parts.push_back(value.part(range.first, range.count));
        }
        return map_parts(CallOptions{}, function, parts, args...);
    }

    /// Ends the workers that have nothing to do, with all that they have kept.
    void trim() { core_->trim(); }
    [[nodiscard]] PoolStatus status() const { return core_->status(); }

private:
    template <class First, class...>
    struct FirstType {
        using Type = std::remove_cvref_t<First>;
    };
    template <class... A>
    using FirstOf = typename FirstType<A...>::Type;

    /// Starts a call for each of `inputs` and hands out the results in their order.
    template <class Inputs, class Start, class Take>
    void start_all(const Inputs& inputs, Start&& start_one, Take&& take) {
        std::deque<std::invoke_result_t<Start&, const std::ranges::range_value_t<Inputs>&>> ahead;
        const auto take_one = [&] {
            auto first = std::move(ahead.front());
            ahead.pop_front();
            take(first.get());
        };
        for (const auto& input : inputs) {
            // Enough of them are on their way that no worker waits for this thread.
            if (ahead.size() >= core_->calls_ahead()) take_one();
            ahead.push_back(start_one(input));
            // Somebody else may have filled the queue meanwhile.
            while (ahead.back().is_refused() && ahead.size() > 1) {
                ahead.pop_back();
                take_one();
                ahead.push_back(start_one(input));
            }
        }
        while (!ahead.empty()) take_one();
    }

    template <class Whole, class R, class Results>
    static auto join(Results& results, std::int64_t began_ns) {
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
        cost.seconds = static_cast<double>(detail::now_ns() - began_ns) * 1e-9;
        return CallResult<Joined>(std::move(outcome), std::move(cost), std::move(joined));
    }

    template <class F, class... A>
    static void make(detail::ErasedCall& call, const CallOptions& options, detail::ImageMode mode, const F& function,
                     A&&... args) {
        call.asked_ns = detail::now_ns();
        call.options = options;
        using Parameters = typename detail::Signature<F>::Parameters;
        detail::CallMaker<F, Parameters, A...>::make(call, function, mode, std::forward<A>(args)...);
    }

    template <class F, class... A>
    std::shared_ptr<detail::AsyncCall> start(const CallOptions& options, detail::ImageMode mode, const F& function,
                                             A&&... args) {
        auto call = std::make_shared<detail::AsyncCall>();
        make(call->call, options, mode, function, std::forward<A>(args)...);
        core_->start(call);
        return call;
    }

    friend struct detail::PoolAccess;

    std::shared_ptr<detail::PoolCore> core_;
};

}  // namespace procrun
