// Random programs over values agree with the same programs over deep copies.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "procrun/fork_call.hpp"
#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/support.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"
#include "vmcow/value_merge.hpp"

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

using procrun::CallFuture;
using procrun::Pool;
using vmcow::Value;

/// The content of an object as a row of numbers, which can go to another process and back.
using Flat = std::vector<long>;

/// An edit. The kind of value decides what it does: see `change`.
struct Edit {
    std::uint32_t what;
    std::uint32_t at;
    std::uint32_t count;
    long number;
};
using Edits = std::vector<Edit>;

std::ostream& operator<<(std::ostream& out, const Edit& edit) {
    return out << edit.what << " at " << edit.at << " x " << edit.count << " = " << edit.number;
}

rc::Gen<Edits> any_edits() {
    const auto counts = rc::gen::weightedOneOf<std::uint32_t>({{6, rc::gen::inRange<std::uint32_t>(1, 8)},
                                                               {2, rc::gen::inRange<std::uint32_t>(8, 600)},
                                                               {1, rc::gen::inRange<std::uint32_t>(600, 6000)}});
    const auto each =
        rc::gen::map(rc::gen::tuple(rc::gen::inRange<std::uint32_t>(0, 64), rc::gen::inRange<std::uint32_t>(0, 30'000),
                                    counts, rc::gen::inRange(-3L, 4L)),
                     [](const auto& parts) {
                         return Edit{std::get<0>(parts), std::get<1>(parts), std::get<2>(parts), std::get<3>(parts)};
                     });
    return rc::gen::mapcat(rc::gen::inRange<std::size_t>(0, 4),
                           [each](std::size_t count) { return rc::gen::container<Edits>(count, each); });
}

/// Sets elements from `at` on to `number`; 0 writes what is there already.
void change_run(std::span<long> longs, const Edit& edit) {
    if (longs.empty()) return;
    const std::size_t first = edit.at % longs.size();
    for (std::size_t i = first; i < std::min(first + edit.count, longs.size()); ++i) {
        volatile long& element = longs[i];
        element = edit.number == 0 ? long{element} : edit.number;
    }
}
void change_runs(std::span<long> longs, const Edits& edits) {
    for (const Edit& edit : edits) change_run(longs, edit);
}
Flat see_and_change_run(std::span<long> longs, const Edits& edits) {
    Flat seen(longs.begin(), longs.end());
    change_runs(longs, edits);
    return seen;
}
Flat see_run(std::span<const long> longs) { return {longs.begin(), longs.end()}; }

// ---- arrays

struct Arrays {
    using Of = Value<long[]>;
    using Model = std::vector<long>;

    static Flat flat(std::span<const long> longs) { return see_run(longs); }
    static void change(std::span<long> longs, const Edits& edits) { change_runs(longs, edits); }
    static void change(Model& model, const Edits& edits) { change_runs(model, edits); }

    static Flat see(std::span<const long> longs) { return flat(longs); }
    static Flat see_and_change(std::span<long> longs, const Edits& edits) { return see_and_change_run(longs, edits); }

    static bool same(std::span<const long> longs, const Model& model) { return std::ranges::equal(longs, model); }

    static std::pair<Of, Model> made() {
        Model model(*rc::gen::element<std::size_t>(1, 5, 600, 3000, 20'000));
        for (std::size_t i = 0; i < model.size(); ++i) model[i] = static_cast<long>(i % 1000);
        return {Of(std::span<const long>(model)), model};
    }
    static void grow(Of& value, Model& model) {
        const Flat more(*rc::gen::element<std::size_t>(0, 1, 7, 512, 9000), 8L);
        value.append(more);
        model.insert(model.end(), more.begin(), more.end());
    }
    /// A part of a value, and its place in a model with that content.
    static auto part(const Of& value, Model& model) {
        const std::size_t first = *rc::gen::inRange<std::size_t>(0, model.size());
        const std::size_t count = *rc::gen::inRange<std::size_t>(1, model.size() - first + 1);
        return std::pair(value.part(first, count), std::span(model).subspan(first, count));
    }
    static bool has_part(const Model& model) { return !model.empty(); }
};

// ---- trees

using Tree = vmcow::map<long, vmcow::vector<long>>;

struct Trees {
    using Of = Value<Tree>;
    using Model = std::map<long, std::vector<long>>;

    template <class Map>
    static Flat flat(const Map& map) {
        Flat flat;
        for (const auto& [key, list] : map) {
            flat.push_back(key);
            flat.push_back(static_cast<long>(list.size()));
            flat.insert(flat.end(), list.begin(), list.end());
        }
        return flat;
    }
    template <class Map>
    static void change_once(Map& map, const Edit& edit) {
        const long key = edit.at % 7;
        switch (edit.what % 8) {
            case 0:
            case 1:
                return map[key].push_back(edit.number);
            case 2:
                return map[key].assign(edit.count, edit.number);
            case 3:
                return static_cast<void>(map.erase(key));
            case 4:
                return map[key].resize(edit.count, edit.number);
            case 5:
                map[key] = map[key + 1];
                return;
            case 6:
                return map[key].shrink_to_fit();
            default:
                if (const auto found = map.find(key); found != map.end()) {
                    auto& list = found->second;
                    change_run(std::span(list.data(), list.size()), edit);
                }
        }
    }
    template <class Map>
    static void change(Map& map, const Edits& edits) {
        for (const Edit& edit : edits) change_once(map, edit);
    }

    static Flat see(const Tree& tree) { return flat(tree); }
    static Flat see_and_change(Tree& tree, const Edits& edits) {
        Flat seen = flat(tree);
        change(tree, edits);
        return seen;
    }

    static bool same(const Tree& tree, const Model& model) {
        const auto same_entry = [](const auto& a, const auto& b) {
            return a.first == b.first && std::ranges::equal(a.second, b.second);
        };
        return std::equal(tree.begin(), tree.end(), model.begin(), model.end(), same_entry);
    }

    static std::pair<Of, Model> made() {
        Of value;
        Model model;
        if (*rc::gen::arbitrary<bool>()) {
            value.edit([](Tree& tree) { tree[3].assign(5000, 1); });
            model[3].assign(5000, 1);
        }
        return {value, model};
    }
    static void grow(Of& value, Model& model) {
        const std::size_t count = *rc::gen::element<std::size_t>(100, 5000, 20'000);
        value.edit([&](Tree& tree) { tree[9].resize(count, 4L); });
        model[9].resize(count, 4L);
    }
    static auto part(const Of& value, Model& model) {
        const auto filled = [](const auto& entry) { return !entry.second.empty(); };
        auto& [key, list] = *std::find_if(model.begin(), model.end(), filled);
        const long at = key;
        return std::pair(value.part([at](const Tree& tree) -> const vmcow::vector<long>& { return tree.at(at); }),
                         std::span(list));
    }
    static bool has_part(const Model& model) {
        return std::any_of(model.begin(), model.end(), [](const auto& entry) { return !entry.second.empty(); });
    }
};

// ---- programs

template <class Result>
void require_ok(const Result& result) {
    if (!result.ok()) RC_FAIL(result.outcome().describe());
}

/// Variables beside deep copies of their expected content, calls that are under way, and files.
template <class Kind>
class Program {
    using Of = typename Kind::Of;
    using Model = typename Kind::Model;

    struct Variable {
        Of value;
        Model model;
        std::string file{};  ///< where the variable, or its source, was last saved to or loaded from
    };
    /// A call whose result is collected later, with what the function must see and make.
    struct Pending {
        std::variant<CallFuture<Flat>, CallFuture<std::pair<Of, Flat>>> future;
        Flat seen;
        Model changed;
    };
    struct File {
        std::string path;
        Model model;
    };
    struct Step {
        const char* name;
        void (Program::*run)();
        friend std::ostream& operator<<(std::ostream& out, const Step& step) { return out << step.name; }
    };

public:
    Program(Pool& pool, const tests::TemporaryDirectory& folder) : pool_(pool), folder_(folder) { make(); }

    void step() {
        const Step next = *rc::gen::weightedElement<Step>({{2, {"make", &Program::make}},
                                                           {8, {"edit", &Program::edit}},
                                                           {6, {"copy", &Program::copy}},
                                                           {2, {"move", &Program::move}},
                                                           {2, {"drop", &Program::drop}},
                                                           {3, {"grow", &Program::grow}},
                                                           {3, {"call", &Program::call}},
                                                           {4, {"apply", &Program::apply}},
                                                           {4, {"apply_last_use", &Program::apply_last_use}},
                                                           {3, {"start_call", &Program::start_call}},
                                                           {4, {"start_apply", &Program::start_apply}},
                                                           {5, {"collect_one", &Program::collect_one}},
                                                           {3, {"use_part", &Program::use_part}},
                                                           {1, {"use_all_parts", &Program::use_all_parts}},
                                                           {3, {"merge", &Program::merge}},
                                                           {2, {"compare", &Program::compare}},
                                                           {3, {"save", &Program::save}},
                                                           {3, {"load", &Program::load}},
                                                           {1, {"fork", &Program::fork}}});
        (this->*next.run)();
    }

    void check() const {
        for (const Variable& each : variables_) RC_ASSERT(Kind::same(each.value.read(), each.model));
    }

    void finish() {
        while (!pending_.empty()) collect_one();
        check();
    }

private:
    [[nodiscard]] Variable& any() { return variables_[*rc::gen::inRange<std::size_t>(0, variables_.size())]; }

    /// Keeps at most six variables: a further one replaces a random one.
    void add(Of value, Model model, std::string file = {}) {
        Variable added{std::move(value), std::move(model), std::move(file)};
        if (variables_.size() < 6) return variables_.push_back(std::move(added));
        any() = std::move(added);
    }

    void make() {
        auto [value, model] = Kind::made();
        add(std::move(value), std::move(model));
    }
    void edit() {
        Variable& variable = any();
        const Edits edits = *any_edits();
        variable.value.edit([&](auto&& object) { Kind::change(object, edits); });
        Kind::change(variable.model, edits);
    }
    void copy() {
        const Variable& from = any();
        add(from.value, from.model, from.file);
    }
    void move() {
        Variable& from = any();
        Of moved = std::move(from.value);
        from.value = Of();
        add(std::move(moved), std::exchange(from.model, {}), std::exchange(from.file, {}));
    }
    void drop() {
        if (variables_.size() == 1) return;
        variables_.erase(variables_.begin() +
                         static_cast<std::ptrdiff_t>(*rc::gen::inRange<std::size_t>(0, variables_.size())));
    }
    void grow() {
        Variable& variable = any();
        Kind::grow(variable.value, variable.model);
    }

    // ---- function processes

    void call() {
        const Variable& variable = any();
        const auto alias = pool_.call(Kind::see, variable.value);
        require_ok(alias);
        RC_ASSERT(alias.value() == Kind::flat(variable.model));
        const auto seen = pool_.call(Kind::see_and_change, variable.value, *any_edits());
        require_ok(seen);
        RC_ASSERT(seen.value() == alias.value());
    }
    void apply() {
        const Variable& variable = any();
        const Edits edits = *any_edits();
        auto applied = pool_.apply(Kind::see_and_change, variable.value, edits);
        require_ok(applied);
        auto [changed, seen] = std::move(applied).value();
        RC_ASSERT(seen == Kind::flat(variable.model));
        Model model = variable.model;
        Kind::change(model, edits);
        add(std::move(changed), std::move(model));
    }
    void apply_last_use() {
        Variable& variable = any();
        const Edits edits = *any_edits();
        auto applied = pool_.apply(Kind::see_and_change, std::move(variable.value), edits);
        require_ok(applied);
        auto [changed, seen] = std::move(applied).value();
        RC_ASSERT(seen == Kind::flat(variable.model));
        variable.value = std::move(changed);
        Kind::change(variable.model, edits);
    }
    void start_call() {
        const Variable& variable = any();
        pending_.push_back(
            {pool_.async(Kind::see_and_change, variable.value, *any_edits()), Kind::flat(variable.model), {}});
    }
    void start_apply() {
        Variable& variable = any();
        const Edits edits = *any_edits();
        Pending pending{pool_.async(Kind::see, variable.value), Kind::flat(variable.model), variable.model};
        Kind::change(pending.changed, edits);
        if (*rc::gen::arbitrary<bool>()) {
            pending.future = pool_.async_apply(Kind::see_and_change, variable.value, edits);
        } else {
            pending.future = pool_.async_apply(Kind::see_and_change, std::move(variable.value), edits);
            variable = Variable{Of(), {}};
        }
        pending_.push_back(std::move(pending));
    }
    void collect_one() {
        if (pending_.empty()) return;
        const std::size_t at = *rc::gen::inRange<std::size_t>(0, pending_.size());
        Pending pending = std::move(pending_[at]);
        pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(at));
        if (auto* const called = std::get_if<CallFuture<Flat>>(&pending.future)) {
            const auto result = called->get();
            require_ok(result);
            RC_ASSERT(result.value() == pending.seen);
        } else {
            auto result = std::get<1>(pending.future).get();
            require_ok(result);
            auto [changed, seen] = std::move(result).value();
            RC_ASSERT(seen == pending.seen);
            add(std::move(changed), std::move(pending.changed));
        }
    }
    void fork() {
        // GCC's address sanitizer does not release its allocator in a child that is forked while another thread, here
        // the pool's, is in it. Collect before choosing a variable, because a collected result may replace it.
        while (kSanitized && !pending_.empty()) collect_one();
        Variable& variable = any();
        const Edits edits = *any_edits();
        auto result = procrun::fork_call([&] {
            variable.value.edit([&](auto&& object) { Kind::change(object, edits); });
            return std::pair(Kind::flat(variables_.front().value.read()), variable.value);
        });
        require_ok(result);
        auto [seen, changed] = std::move(result).value();
        Model model = variable.model;
        Kind::change(model, edits);
        const bool is_first = &variable == &variables_.front();
        RC_ASSERT(seen == Kind::flat(is_first ? model : variables_.front().model));
        add(std::move(changed), std::move(model));
    }

    // ---- parts, merges, differences

    void use_part() {
        const Variable& variable = any();
        if (!Kind::has_part(variable.model)) return;
        Model model = variable.model;
        const auto [part, elements] = Kind::part(variable.value, model);
        RC_ASSERT(std::ranges::equal(part.read(), elements));
        const auto alias = pool_.call(see_run, part);
        require_ok(alias);
        RC_ASSERT(std::ranges::equal(alias.value(), elements));
        const Edits edits = *any_edits();
        auto applied = pool_.apply(see_and_change_run, part, edits);
        require_ok(applied);
        auto [changed, seen] = std::move(applied).value();
        RC_ASSERT(std::ranges::equal(seen, elements));
        change_runs(elements, edits);
        add(std::move(changed), std::move(model));
    }
    void use_all_parts() {
        if constexpr (std::is_same_v<Kind, Arrays>) {
            Variable& variable = any();
            const auto add_to_each = [](std::span<long> longs, long amount) {
                for (long& element : longs) element += amount;
            };
            const long amount = *rc::gen::inRange(0L, 3L);
            auto result = pool_.map_parts(add_to_each, variable.value, *rc::gen::inRange<std::size_t>(1, 6), amount);
            require_ok(result);
            Model model = variable.model;
            add_to_each(model, amount);
            add(std::move(result).value(), std::move(model));
        }
    }
    void merge() {
        const Variable base = any();
        if constexpr (std::is_same_v<Kind, Arrays>) {
            merge_arrays(base);
        } else {
            const Variable side = any();
            const auto merged = vmcow::merge(base.value, {side.value, base.value, side.value});
            RC_ASSERT(merged.ok());
            // A base that is longer stays longer after the merge, unlike the model of the side.
            if (base.value.extent_bytes() <= side.value.extent_bytes()) add(merged.value(), side.model);
        }
    }
    void merge_arrays(const Variable& base) {
        std::vector<Variable> sides;
        for (int i = *rc::gen::inRange(1, 4); i > 0; --i) {
            Variable side = *rc::gen::arbitrary<bool>() ? base : any();
            const Edits edits = *any_edits();
            side.value.edit([&](std::span<long> longs) { change_runs(longs, edits); });
            change_runs(side.model, edits);
            sides.push_back(std::move(side));
        }
        std::vector<Of> values;
        for (const Variable& side : sides) values.push_back(side.value);
        const auto merged = vmcow::merge(base.value, values);
        const std::optional<Model> expected = joined(base.model, sides);
        RC_ASSERT(merged.ok() == expected.has_value());
        if (expected) add(merged.value(), *expected);
    }
    /// Merges three ways, byte by byte; bytes behind an end count as zero.
    static std::optional<Model> joined(const Model& base, const std::vector<Variable>& sides) {
        std::size_t size = base.size();
        for (const Variable& side : sides) size = std::max(size, side.model.size());
        const auto bytes_of = [&](Model model) {
            model.resize(size);
            std::vector<std::byte> bytes(size * sizeof(long));
            if (size != 0) std::memcpy(bytes.data(), model.data(), bytes.size());
            return bytes;
        };
        const auto before = bytes_of(base);
        auto after = before;
        for (const Variable& side : sides) {
            const auto bytes = bytes_of(side.model);
            for (std::size_t i = 0; i < bytes.size(); ++i) {
                if (bytes[i] == before[i]) continue;
                if (after[i] != before[i] && after[i] != bytes[i]) return std::nullopt;
                after[i] = bytes[i];
            }
        }
        Model model(size);
        if (size != 0) std::memcpy(model.data(), after.data(), after.size());
        return model;
    }
    void compare() {
        const Variable& a = any();
        const Variable& b = any();
        const vmcow::Diff found = vmcow::diff(a.value, b.value);
        if constexpr (std::is_same_v<Kind, Arrays>) {
            RC_ASSERT(found.empty() == (a.model == b.model));
            const auto padded = [&](const Model& model, std::size_t byte) {
                const std::size_t bytes = model.size() * sizeof(long);
                return byte < bytes ? reinterpret_cast<const unsigned char*>(model.data())[byte] : '\0';
            };
            std::uint64_t differ = 0;
            for (std::size_t i = 0; i < std::max(a.model.size(), b.model.size()) * sizeof(long); ++i) {
                if (padded(a.model, i) != padded(b.model, i)) ++differ;
            }
            RC_ASSERT(found.changed_bytes == differ);
        } else {
            RC_ASSERT(!found.empty() || a.model == b.model);
        }
    }

    // ---- files

    void save() {
        Variable& variable = any();
        const std::string path = folder_ / ("f" + std::to_string(next_file_++));
        vmcow::SaveOptions options{.sync = false};
        const int below = files_.empty() ? 0 : *rc::gen::inRange(0, 3);
        if (below == 1) options.relative_to = files_[*rc::gen::inRange<std::size_t>(0, files_.size())].path;
        if (below == 2 && !variable.file.empty()) options.relative_to = variable.file;
        const int error = tests::error_of([&] { variable.value.save(path, options); });
        if (options.relative_to && (error == EINVAL || error == E2BIG)) return;  // the file need not be a relative
        RC_ASSERT(error == 0);
        variable.file = path;
        files_.push_back({path, variable.model});
    }
    void load() {
        if (files_.empty()) return;
        const File& file = files_[*rc::gen::inRange<std::size_t>(0, files_.size())];
        add(Of::load(file.path), file.model, file.path);
    }

    Pool& pool_;
    const tests::TemporaryDirectory& folder_;
    std::vector<Variable> variables_;
    std::vector<Pending> pending_;
    std::vector<File> files_;
    int next_file_ = 0;
};

template <class Kind>
void run_program(Pool& pool) {
    const tests::TemporaryDirectory folder;
    Program<Kind> program(pool, folder);
    const int steps = *rc::gen::inRange(1, 40);
    for (int i = 0; i < steps; ++i) {
        program.step();
        // Only sometimes, because looking at a value changes its state.
        if (*rc::gen::arbitrary<bool>()) program.check();
    }
    program.finish();
}

/// How many programs of each kind: VMCOW_PROGRAMS, or a number that runs in a short time.
int programs() {
    const char* const wanted = std::getenv("VMCOW_PROGRAMS");
    return wanted == nullptr ? 150 : std::atoi(wanted);
}

template <class Kind>
void agree_with_deep_copies() {
    Pool pool(tests::workers(2));
    rc::detail::TestMetadata metadata;
    metadata.id = metadata.description = testing::UnitTest::GetInstance()->current_test_info()->name();
    auto params = rc::detail::configuration().testParams;
    params.maxSuccess = programs();
    const auto result = rc::detail::checkTestable([&] { run_program<Kind>(pool); }, metadata, params);
    std::ostringstream text;
    rc::detail::printResultMessage(result, text);
    EXPECT_TRUE(result.template is<rc::detail::SuccessResult>()) << text.str();
}

TEST(ValuePropertyTest, ProgramsOverArraysAgreeWithDeepCopies) { agree_with_deep_copies<Arrays>(); }

TEST(ValuePropertyTest, ProgramsOverTreesAgreeWithDeepCopies) { agree_with_deep_copies<Trees>(); }

}  // namespace
