// Engines that hold documents in values, within this process and with a function process for every call.
#include <memory>
#include <stdexcept>
#include <utility>
#include <variant>

#include "procrun/pool.hpp"
#include "tests/equivalence/interpreter.hpp"
#include "tests/equivalence/plain_structures.hpp"
#include "tests/equivalence/whole_structures.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

// A base hides the members of these types. Each holds one container, which lies in the image where the object lies.
template <class Vector>
inline constexpr bool vmcow::kVouched<equivalence::PlainList<Vector>> = true;
template <class Vector>
inline constexpr bool vmcow::kVouched<equivalence::PlainSlice<Vector>> = true;

namespace equivalence {
namespace {

using procrun::CallFuture;
using procrun::Pool;
using vmcow::Value;

/// Documents of containers, which share whole pages of the kernel and nothing else.
struct Pages {
    using Entries = vmcow::vector<std::pair<long, long>>;

    using List = PlainList<vmcow::vector<long>>;
    using Slice = PlainSlice<vmcow::vector<long>>;
    using Text = PlainText<vmcow::string>;
    using Map = PlainMap<vmcow::unordered_map<long, long>>;
    using Ordered = PlainOrdered<Entries>;
    using Set = PlainSet<vmcow::set<long>>;
};
/// Documents whose structures also share within the image.
using Both = Whole<vmcow::heap::Options{}, vmcow::allocator>;

/// Some structures of each kind.
struct Mixed : Both {
    using Text = Pages::Text;
    using Map = Pages::Map;
    using Set = Pages::Set;
};

/// Variables are values, and calls are plain calls.
template <class F>
class ValueMachine {
public:
    using Variable = Value<Document<F>>;
    struct Pending {
        Started what;
        Variable document;
        Ops ops;
    };

    [[nodiscard]] Variable made() const { return Variable(); }
    [[nodiscard]] Variable shared(const Variable& from) const { return from; }
    [[nodiscard]] long read(const Variable& variable) const { return digest(*variable); }
    [[nodiscard]] Trace look(const Variable& variable) const { return look_at(*variable); }
    [[nodiscard]] Trace change_in_place(Variable& variable, const Ops& ops) const {
        return variable.edit([&](Document<F>& document) { return change(document, ops); });
    }
    [[nodiscard]] Trace call(Variable by_value, const Ops& ops) const { return change_in_place(by_value, ops); }
    [[nodiscard]] std::pair<Variable, Trace> apply(Variable by_value, const Ops& ops) const {
        Trace seen = change_in_place(by_value, ops);
        return {std::move(by_value), std::move(seen)};
    }
    [[nodiscard]] std::pair<Variable, Trace> apply_last_use(Variable&& variable, const Ops& ops) const {
        return apply(std::move(variable), ops);
    }
    [[nodiscard]] Pending start(Started what, Variable variable, const Ops& ops) const {
        return {what, std::move(variable), ops};
    }
    [[nodiscard]] Trace collect(Pending pending, Variable& to) const {
        if (pending.what == Started::look) return look_at(*pending.document);
        Trace seen = change_in_place(pending.document, pending.ops);
        if (pending.what == Started::apply) to = std::move(pending.document);
        return seen;
    }
};

/// Like ValueMachine, but functions run in the workers of a pool, and started calls run there beside the program.
template <class F>
class PoolMachine : public ValueMachine<F> {
public:
    using typename ValueMachine<F>::Variable;
    struct Pending {
        Started what;
        std::variant<CallFuture<Trace>, CallFuture<std::pair<Variable, Trace>>> future;
    };

    explicit PoolMachine(Pool& pool) : pool_(&pool) {}

    [[nodiscard]] Trace look(const Variable& variable) const { return value_of(pool_->call(look_at<F>, variable)); }
    [[nodiscard]] Trace call(const Variable& variable, const Ops& ops) const {
        return value_of(pool_->call(change<F>, variable, ops));
    }
    [[nodiscard]] std::pair<Variable, Trace> apply(const Variable& variable, const Ops& ops) const {
        return value_of(pool_->apply(change<F>, variable, ops));
    }
    [[nodiscard]] std::pair<Variable, Trace> apply_last_use(Variable&& variable, const Ops& ops) const {
        return value_of(pool_->apply(change<F>, std::move(variable), ops));
    }
    [[nodiscard]] Pending start(Started what, Variable variable, const Ops& ops) const {
        if (what == Started::look) return {what, pool_->async(look_at<F>, variable)};
        if (what == Started::call) return {what, pool_->async(change<F>, variable, ops)};
        return {what, pool_->async_apply(change<F>, std::move(variable), ops)};
    }
    [[nodiscard]] Trace collect(Pending pending, Variable& to) const {
        if (pending.what != Started::apply) return value_of(std::get<0>(pending.future).get());
        auto [document, seen] = value_of(std::get<1>(pending.future).get());
        to = std::move(document);
        return std::move(seen);
    }

private:
    template <class Result>
    [[nodiscard]] static auto value_of(Result result) {
        if (!result.ok()) throw std::runtime_error(result.outcome().describe());
        return std::move(result).value();
    }

    Pool* pool_;
};

class PoolEngine : public Engine {
public:
    explicit PoolEngine(Pool& pool) : Engine("pool"), machine_(pool) {}
    [[nodiscard]] Trace run(const Program& program) override {
        return Interpreter<PoolMachine<Mixed>>(machine_).run(program);
    }

private:
    PoolMachine<Mixed> machine_;
};

}  // namespace

void add_value_engines(Engines& engines, Pool& pool) {
    engines.push_back(std::make_unique<MachineEngine<ValueMachine<Pages>>>("value"));
    engines.push_back(std::make_unique<MachineEngine<ValueMachine<Both>>>("value, whole-buffer"));
    engines.push_back(std::make_unique<PoolEngine>(pool));
}

}  // namespace equivalence
