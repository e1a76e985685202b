#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "tests/equivalence/engine.hpp"
#include "tests/equivalence/operations.hpp"

namespace equivalence {

/// The kind of a call that is under way while its program goes on.
enum class Started { look, call, apply };

/// Runs a program over variables of `Machine::Variable`, which `machine` knows how to change, read and pass on.
template <class Machine>
class Interpreter {
    using Variable = typename Machine::Variable;

public:
    explicit Interpreter(Machine& machine) : machine_(machine) {
        for (std::size_t i = 0; i < kVariables; ++i) variables_.push_back(machine_.made());
    }

    [[nodiscard]] Trace run(const Program& program) {
        for (const Step& step : program) {
            do_step(step, variables_[step.to % kVariables], variables_[step.from % kVariables]);
            // Only sometimes, because looking at a value changes its state.
            if (step.from % 2 == 0) trace_.push_back(machine_.read(variables_[step.to % kVariables]));
        }
        while (!pending_.empty()) collect(0, variables_[0]);
        for (const Variable& each : variables_) append(machine_.look(each));
        return std::move(trace_);
    }

private:
    void append(const Trace& seen) { trace_.insert(trace_.end(), seen.begin(), seen.end()); }

    void do_step(const Step& step, Variable& to, Variable& from) {
        switch (step.verb) {
            case Verb::change:
                return append(machine_.change_in_place(to, step.ops));
            case Verb::share:
                if (&to != &from) to = machine_.shared(from);
                return;
            case Verb::move:
                if (&to != &from) {
                    to = std::move(from);
                    from = machine_.made();
                }
                return;
            case Verb::renew:
                to = machine_.made();
                return;
            case Verb::look:
                return append(machine_.look(to));
            case Verb::call:
                return append(machine_.call(to, step.ops));
            case Verb::apply: {
                auto [made, seen] = machine_.apply(from, step.ops);
                to = std::move(made);
                return append(seen);
            }
            case Verb::apply_last_use: {
                auto [made, seen] = machine_.apply_last_use(std::move(to), step.ops);
                to = std::move(made);
                return append(seen);
            }
            case Verb::collect:
                if (!pending_.empty()) collect(step.from % pending_.size(), to);
                return;
            default:
                start(step, to);
        }
    }
    void start(const Step& step, Variable& variable) {
        constexpr std::size_t kMostPending = 3;
        if (pending_.size() == kMostPending) collect(0, variables_[step.from % kVariables]);
        switch (step.verb) {
            case Verb::start_look:
                return pending_.push_back(machine_.start(Started::look, machine_.shared(variable), step.ops));
            case Verb::start_call:
                return pending_.push_back(machine_.start(Started::call, machine_.shared(variable), step.ops));
            case Verb::start_apply:
                return pending_.push_back(machine_.start(Started::apply, machine_.shared(variable), step.ops));
            default:
                pending_.push_back(machine_.start(Started::apply, std::move(variable), step.ops));
                variable = machine_.made();
        }
    }
    void collect(std::size_t which, Variable& to) {
        auto pending = std::move(pending_[which]);
        pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(which));
        append(machine_.collect(std::move(pending), to));
    }

    Machine& machine_;
    std::vector<Variable> variables_;
    std::deque<typename Machine::Pending> pending_;
    Trace trace_;
};

/// Variables are documents, and calls are plain calls. A started call runs when it is collected, on the arguments that
/// it was given at its start.
template <class F>
class PlainMachine {
public:
    using Variable = Document<F>;
    struct Pending {
        Started what;
        Variable document;
        Ops ops;
    };

    [[nodiscard]] Variable made() const { return {}; }
    [[nodiscard]] Variable shared(const Variable& from) const { return from; }
    [[nodiscard]] long read(const Variable& variable) const { return digest(variable); }
    [[nodiscard]] Trace look(const Variable& variable) const { return look_at(variable); }
    [[nodiscard]] Trace change_in_place(Variable& variable, const Ops& ops) const { return change(variable, ops); }
    [[nodiscard]] Trace call(Variable by_value, const Ops& ops) const { return change(by_value, ops); }
    [[nodiscard]] std::pair<Variable, Trace> apply(Variable by_value, const Ops& ops) const {
        Trace seen = change(by_value, ops);
        return {std::move(by_value), std::move(seen)};
    }
    [[nodiscard]] std::pair<Variable, Trace> apply_last_use(Variable&& variable, const Ops& ops) const {
        return apply(std::move(variable), ops);
    }
    [[nodiscard]] Pending start(Started what, Variable variable, const Ops& ops) const {
        return {what, std::move(variable), ops};
    }
    [[nodiscard]] Trace collect(Pending pending, Variable& to) const {
        if (pending.what == Started::look) return look_at(pending.document);
        Trace seen = change(pending.document, pending.ops);
        if (pending.what == Started::apply) to = std::move(pending.document);
        return seen;
    }
};

/// An engine that makes a new machine for each program.
template <class Machine>
class MachineEngine : public Engine {
public:
    using Engine::Engine;
    [[nodiscard]] Trace run(const Program& program) override {
        Machine machine;
        return Interpreter<Machine>(machine).run(program);
    }
};

}  // namespace equivalence
