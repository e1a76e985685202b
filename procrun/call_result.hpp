#pragma once

#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

#include "procrun/call_cost.hpp"
#include "procrun/outcome.hpp"

namespace procrun {

/// Thrown by `CallResult::value` when there is no value; what() describes the outcome.
class CallFailed : public std::runtime_error {
public:
    explicit CallFailed(Outcome outcome) : std::runtime_error(outcome.describe()), outcome_(std::move(outcome)) {}
    [[nodiscard]] const Outcome& outcome() const noexcept { return outcome_; }

private:
    Outcome outcome_;
};

/// A call that has ended: how it ended, what it cost, and the result if the function returned.
template <class R>
class CallResult {
public:
    /// The result of a void function is a std::monostate.
    using Value = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

    CallResult(Outcome outcome, CallCost cost, std::optional<Value> value)
        : outcome_(std::move(outcome)), cost_(std::move(cost)), value_(std::move(value)) {}

    [[nodiscard]] bool ok() const noexcept { return value_.has_value(); }
    [[nodiscard]] const Outcome& outcome() const& noexcept { return outcome_; }
    [[nodiscard]] Outcome outcome() && { return std::move(outcome_); }
    [[nodiscard]] const CallCost& cost() const& noexcept { return cost_; }
    [[nodiscard]] CallCost cost() && { return std::move(cost_); }

    /// The result of the function. A temporary CallResult returns the value itself and not a reference to it, so that
    /// `for (auto& x : pool.call(f, v).value())` does not iterate over something that is gone.
    /// Throws: CallFailed -- when the function did not return.
    [[nodiscard]] const Value& value() const& { return check(), *value_; }
    [[nodiscard]] Value value() && { return check(), *std::move(value_); }
    [[nodiscard]] Value value() const&& { return check(), *value_; }

private:
    void check() const {
        if (!value_) throw CallFailed(outcome_);
    }

    Outcome outcome_;
    CallCost cost_;
    std::optional<Value> value_;
};

}  // namespace procrun
