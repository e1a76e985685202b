// Random graphs that are run, compared with the same programs on deep copies.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "procrun/graph.hpp"
#include "procrun/pool.hpp"
#include "tests/support/pools.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

namespace {

using procrun::CallPath;
using procrun::Graph;
using procrun::GraphDecision;
using procrun::GraphPreference;
using procrun::GraphRun;
using procrun::Pool;
using vmcow::Value;
using Numbers = vmcow::vector<long>;
using Plain = std::vector<long>;

/// The operation of each node, written once for images and for deep copies.
template <class N>
long digest(const N& numbers) {
    std::uint32_t sum = 0;
    for (const long number : numbers) sum = sum * 31 + static_cast<std::uint32_t>(number);
    return static_cast<long>(sum);
}
template <class N>
void add(N& numbers, long amount) {
    for (std::size_t i = 0; i < numbers.size(); i += 700) numbers[i] = (numbers[i] + amount) % 1'000'003;
    numbers.push_back(amount);
}
template <class N>
void mix(N& numbers, const N& others) {
    for (std::size_t i = 0; i < others.size(); i += 300) numbers.push_back(others[i]);
    numbers[0] += digest(others) % 1000;
}
template <class N>
long take_last(N& numbers) {
    const long last = numbers.back();
    numbers.pop_back();
    return last;
}
template <class N>
long digest_of_changed(N& numbers, long amount) {
    add(numbers, amount);
    return digest(numbers);
}

constexpr std::size_t kMostEffects = 16;
using Printed = std::array<std::atomic<long>, kMostEffects>;

/// One program in two forms: a graph, and the content that each of its values must have.
class Program {
public:
    Program(GraphPreference preference, Printed* printed) : graph_({.prefer = preference}), printed_(printed) {
        for (auto& slot : *printed) slot = 0;
        has_stored_ = *rc::gen::inRange(0, 2) == 0;
        const int inputs = *rc::gen::inRange(1, 4);
        for (int i = 0; i < inputs; ++i) add_input();
        numbers_.push_back({graph_.input("number", 3L), 3L, true});
        const int steps = *rc::gen::inRange(1, 14);
        for (int i = 0; i < steps; ++i) step();
        for (auto& image : images_) {
            if (!image.is_read || *rc::gen::inRange(0, 6) == 0) output(image);
        }
        for (auto& number : numbers_) {
            if (!number.is_read) output(number);
        }
        if (numbers_.front().is_read) output(numbers_.front());
    }

    void run(Pool& pool) {
        GraphRun run = graph_.run(pool);
        RC_ASSERT(run.failure() == "");
        for (const auto& image : images_) {
            if (!image.is_output) continue;
            const Numbers& made = *run.get(image.edge);
            RC_ASSERT(Plain(made.begin(), made.end()) == image.expected);
        }
        for (const auto& number : numbers_) {
            if (number.is_output) RC_ASSERT(run.get(number.edge) == number.expected);
        }
        for (std::size_t i = 0; i < effects_.size(); ++i) RC_ASSERT((*printed_)[i] == effects_[i]);
        for (const auto& kept : kept_) RC_ASSERT(digest(*kept.first) == kept.second);
        check_paths(run);
    }

private:
    template <class T, class Expected>
    struct Known {
        Graph::Edge<T> edge;
        Expected expected;
        bool is_read = false;
        bool is_output = false;
    };
    using Image = Known<Value<Numbers>, Plain>;
    using Number = Known<long, long>;

    void add_input() {
        Plain content(has_stored_ ? *rc::gen::element<std::size_t>(1, 3, 2000, 5000, 50'000)
                                  : *rc::gen::element<std::size_t>(1, 3, 20'000, 50'000));
        std::iota(content.begin(), content.end(), static_cast<long>(images_.size()));
        Value<Numbers> value(Numbers(content.begin(), content.end()));
        if (*rc::gen::inRange(0, 4) == 0) kept_.emplace_back(value, digest(content));
        images_.push_back({graph_.input("in" + std::to_string(images_.size()), std::move(value)), std::move(content)});
    }

    template <class Things>
    [[nodiscard]] static std::size_t any(Things& things) {
        // Later values are chosen more often, which makes chains.
        const std::size_t at = *rc::gen::inRange<std::size_t>(0, things.size());
        const std::size_t chosen = *rc::gen::element(at, things.size() - 1);
        things[chosen].is_read = true;
        return chosen;
    }
    template <class Thing>
    void output(Thing& thing) {
        thing.is_output = true;
        graph_.output(thing.edge);
    }

    void step() {
        Image at = images_[any(images_)];
        switch (*rc::gen::weightedElement<int>({{4, 0}, {3, 1}, {2, 2}, {3, 3}, {2, 4}, {1, 5}})) {
            case 0: {
                const Number by = numbers_[any(numbers_)];
                add<Plain>(at.expected, by.expected);
                return made(graph_.apply("add", add<Numbers>, at.edge, by.edge), at);
            }
            case 1: {
                const Image other = images_[any(images_)];
                const Plain more = other.expected;
                mix<Plain>(at.expected, more);
                return made(graph_.apply("mix", mix<Numbers>, at.edge, other.edge), at);
            }
            case 2: {
                if (at.expected.size() < 2) return read(at);
                const long last = take_last<Plain>(at.expected);
                const auto [rest, number] = graph_.apply("take", take_last<Numbers>, at.edge);
                numbers_.push_back({number, last});
                return made(rest, at);
            }
            case 3:
                return read(at);
            case 4: {
                const Number by = numbers_[any(numbers_)];
                auto edge = graph_.call("change", digest_of_changed<Numbers>, at.edge, by.edge);
                numbers_.push_back({edge, digest_of_changed<Plain>(at.expected, by.expected)});
                return;
            }
            default:
                return print(at);
        }
    }
    void made(Graph::Edge<Value<Numbers>> edge, const Image& from) { images_.push_back({edge, from.expected}); }
    void read(const Image& at) {
        numbers_.push_back({graph_.call("digest", digest<Numbers>, at.edge), digest(at.expected)});
    }
    void print(const Image& at) {
        if (effects_.size() == kMostEffects) return read(at);
        const auto write = procrun::by_bytes(
            [slot = &(*printed_)[effects_.size()]](const Numbers& numbers) { *slot = digest(numbers); });
        graph_.effect("print", write, at.edge);
        effects_.push_back(digest(at.expected));
    }

    /// Each call took the path that the plan announced, or the value was small and was sent. A value in the page store
    /// is never moved: the function has a private mapping of it, whatever was planned.
    void check_paths(const GraphRun& run) const {
        for (const auto& edge : run.plan().edges()) {
            if (!edge.image) continue;
            const CallPath path = run.cost(edge.to).images()[*edge.image].path;
            if (path == CallPath::sent) continue;
            if (path == CallPath::moved) RC_ASSERT(edge.decision == GraphDecision::moved);
            if (has_stored_) continue;
            RC_ASSERT((path == CallPath::moved) == (edge.decision == GraphDecision::moved));
            if (edge.decision == GraphDecision::alias) RC_ASSERT(path == CallPath::alias);
        }
        if (has_stored_) return;
        for (const auto& edge : run.plan().edges()) {
            const bool is_only_image = edge.decision == GraphDecision::moved && run.cost(edge.to).images().size() == 1;
            if (is_only_image) RC_ASSERT(run.cost(edge.to).copied == vmcow::PageCount{});
        }
    }

    Graph graph_;
    bool has_stored_ = false;  ///< some values are too large to be sent, and too small for a file of their own
    Printed* printed_;
    std::vector<Image> images_;
    std::vector<Number> numbers_;
    std::vector<long> effects_;
    std::vector<std::pair<Value<Numbers>, long>> kept_;
};

class GraphPropertyTest : public testing::Test {
protected:
    tests::Shared<Printed> printed_;
    Pool pool_{tests::workers(2)};
};

TEST_F(GraphPropertyTest, AnyProgramAgreesWithDeepCopiesAndDoesWhatWasPlanned) {
    for (const auto preference : {GraphPreference::moves, GraphPreference::parallel}) {
        EXPECT_TRUE(rc::check([&] {
            for (int i = 0; i < 2; ++i) Program(preference, printed_.get()).run(pool_);
        }));
    }
}

}  // namespace
