// The engine of deep copies: nothing is shared, so that nothing can be shared wrongly.
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/equivalence/interpreter.hpp"
#include "tests/equivalence/plain_structures.hpp"

namespace equivalence {
namespace {

struct Deep {
    using List = PlainList<std::vector<long>>;
    using Slice = PlainSlice<std::vector<long>>;
    using Text = PlainText<std::string>;
    using Map = PlainMap<std::map<long, long>>;
    using Ordered = PlainOrdered<std::vector<std::pair<long, long>>>;
    using Set = PlainSet<std::set<long>>;
};

/// A faulty machine: `share` makes two names of one document.
class Aliasing : public PlainMachine<Deep> {
    using Plain = PlainMachine<Deep>;

public:
    using Variable = std::shared_ptr<Document<Deep>>;
    struct Pending {
        Started what;
        Variable document;
        Ops ops;
    };

    [[nodiscard]] static Variable made() { return std::make_shared<Document<Deep>>(); }
    [[nodiscard]] static Variable shared(const Variable& from) { return from; }
    [[nodiscard]] long read(const Variable& variable) const { return digest(*variable); }
    [[nodiscard]] Trace look(const Variable& variable) const { return look_at(*variable); }
    [[nodiscard]] Trace change_in_place(const Variable& variable, const Ops& ops) const {
        return change(*variable, ops);
    }
    [[nodiscard]] Trace call(const Variable& variable, const Ops& ops) const { return Plain::call(*variable, ops); }
    [[nodiscard]] std::pair<Variable, Trace> apply(const Variable& variable, const Ops& ops) const {
        auto [document, seen] = Plain::apply(*variable, ops);
        return {std::make_shared<Document<Deep>>(std::move(document)), std::move(seen)};
    }
    [[nodiscard]] std::pair<Variable, Trace> apply_last_use(Variable variable, const Ops& ops) const {
        return apply(variable, ops);
    }
    [[nodiscard]] Pending start(Started what, const Variable& variable, const Ops& ops) const {
        return {what, std::make_shared<Document<Deep>>(*variable), ops};
    }
    [[nodiscard]] Trace collect(const Pending& pending, Variable& to) const {
        if (pending.what == Started::look) return look_at(*pending.document);
        Trace seen = change(*pending.document, pending.ops);
        if (pending.what == Started::apply) to = pending.document;
        return seen;
    }
};

}  // namespace

std::unique_ptr<Engine> reference_engine() { return std::make_unique<MachineEngine<PlainMachine<Deep>>>("deep-copy"); }
std::unique_ptr<Engine> broken_engine() { return std::make_unique<MachineEngine<Aliasing>>("broken"); }

}  // namespace equivalence
