#pragma once

#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

#include "procrun/call_cost.hpp"
#include "procrun/outcome.hpp"

namespace procrun {

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
        : outcome_(std::move(outcome)), cost_(std::move(cost)), value_(std::move(value)) {}

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

}  // namespace procrun
