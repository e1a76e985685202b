#include "tests/equivalence/comparison.hpp"

#include <fmt/core.h>
#include <rapidcheck.h>
#include <rapidcheck/detail/TestListenerAdapter.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <tuple>
#include <unordered_map>

namespace equivalence {
namespace {

/// The verbs as often as they shall occur. Programs shrink towards the first verb.
constexpr std::array kVerbsByWeight{Verb::change,     Verb::change,     Verb::change,      Verb::share,
                                    Verb::share,      Verb::move,       Verb::renew,       Verb::look,
                                    Verb::call,       Verb::apply,      Verb::apply,       Verb::apply_last_use,
                                    Verb::start_look, Verb::start_call, Verb::start_apply, Verb::start_apply_last_use,
                                    Verb::collect,    Verb::collect};

template <class T>
rc::Gen<T> up_to(T most) {
    return rc::gen::inRange<T>(0, most);
}

rc::Gen<Op> any_op() {
    return rc::gen::map(
        rc::gen::tuple(up_to(kActions), up_to(2 * kForms), up_to<std::uint32_t>(1000), rc::gen::inRange(-9, 300)),
        [](const std::tuple<int, int, std::uint32_t, int>& parts) {
            const auto [action, which, at, number] = parts;
            return Op{static_cast<Action>(action), static_cast<std::uint8_t>(which % 2), static_cast<Form>(which / 2),
                      at, number};
        });
}
/// `most` limits the number of elements; the size of the elements themselves is fixed.
template <class Container, class T>
rc::Gen<Container> some(int most, rc::Gen<T> each) {
    return rc::gen::resize(most, rc::gen::container<Container>(rc::gen::resize(100, std::move(each))));
}
rc::Gen<Step> any_step() {
    return rc::gen::map(rc::gen::tuple(up_to<std::size_t>(kVerbsByWeight.size()), up_to(static_cast<int>(kVariables)),
                                       up_to(2 * static_cast<int>(kVariables)), some<Ops>(8, any_op())),
                        [](std::tuple<std::size_t, int, int, Ops> parts) {
                            auto& [verb, to, from, ops] = parts;
                            return Step{kVerbsByWeight[verb], static_cast<std::uint8_t>(to),
                                        static_cast<std::uint8_t>(from), std::move(ops)};
                        });
}

using Clock = std::chrono::steady_clock;

/// Returns the result of `work`, and adds the seconds that it took to `seconds`.
template <class Work>
auto timed(double& seconds, const Work& work) {
    const auto started = Clock::now();
    auto result = work();
    seconds += std::chrono::duration<double>(Clock::now() - started).count();
    return result;
}

std::string difference(const Trace& expected, const Trace& seen) {
    if (expected == seen) return {};
    const auto [at, other] = std::ranges::mismatch(expected, seen);
    const auto show = [](auto where, const Trace& trace) {
        return where == trace.end() ? std::string("nothing") : std::to_string(*where);
    };
    return fmt::format("observation {} of {} is {}, not {}", at - expected.begin(), expected.size(), show(other, seen),
                       show(at, expected));
}

std::string difference_of(Engine& engine, const Program& program, const Trace& expected) {
    try {
        return difference(expected, engine.run(program));
    } catch (const std::exception& error) {
        return error.what();
    }
}

}  // namespace

std::string mismatch(Engine& reference, Engine& engine, const Program& program) {
    return difference_of(engine, program, reference.run(program));
}

std::string Comparison::describe() const {
    if (!mismatch) return {};
    return fmt::format("{}: {}\n{}", mismatch->engine, mismatch->where, to_cpp(mismatch->program));
}

Comparison compare(Engine& reference, const Engines& engines, int programs, std::uint64_t seed) {
    Comparison done;
    done.tallies.push_back({reference.name()});
    for (const auto& engine : engines) done.tallies.push_back({engine->name()});
    const auto programs_of_steps = some<Program>(14, any_step());
    const auto run_one = [&] {
        const Program program = *programs_of_steps;
        // The runs after the first mismatch shrink that program, and are not counted.
        Comparison ignored = done;
        Comparison& counted = done.mismatch ? ignored : done;
        ++counted.programs;
        const Trace expected = timed(counted.tallies[0].seconds, [&] { return reference.run(program); });
        ++counted.tallies[0].passed;
        std::optional<Comparison::Mismatch> found;
        for (std::size_t i = 0; i < engines.size(); ++i) {
            Comparison::Tally& tally = counted.tallies[i + 1];
            const std::string where =
                timed(tally.seconds, [&] { return difference_of(*engines[i], program, expected); });
            if (where.empty()) {
                ++tally.passed;
            } else if (!found) {
                found = {engines[i]->name(), where, program};
            }
        }
        if (found) done.mismatch = found;
        RC_ASSERT(!found);
    };
    rc::detail::TestParams params;
    params.seed = seed;
    params.maxSuccess = programs;
    // This listener prints nothing: `done` has what the caller needs.
    rc::detail::TestListenerAdapter listener;
    const std::unordered_map<std::string, rc::detail::Reproduce> nothing_to_reproduce;
    static_cast<void>(
        rc::detail::checkTestable(run_one, rc::detail::TestMetadata{}, params, listener, nothing_to_reproduce));
    return done;
}

}  // namespace equivalence
