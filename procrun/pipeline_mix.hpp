#pragma once

#include <concepts>
#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipes/pump.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/pipeline_function.hpp"
#include "procrun/pipeline_text.hpp"
#include "procrun/stage_io.hpp"
#include "vmcow/values_message.hpp"

namespace procrun {

class Pipeline;

namespace detail {

/// One stage as it was added.
struct MixedStage {
    StageText text;
    StageFunction function;  // none: a program
    std::vector<std::size_t> reads;
    pipes::Join join = pipes::Join::in_order;
    ValueBounds bounds{};
    bool to_caller = false;
};

/// As run_pipeline, of a text that says what its stages read. Throws: std::system_error, as there.
[[nodiscard]] PipelineReport run_branched(const PipelineText& text, const PipelineOptions& options);

}  // namespace detail

/// One stage of a pipeline, to be connected and described. A handle: copies mean the same stage, for as long as the
/// pipeline lives.
class PipelineStage {
public:
    /// It reads `writer`, which was added before it, besides what it reads already. Several stages may read one.
    /// Throws: std::invalid_argument -- it is of another pipeline, comes later, or is read already.
    PipelineStage& reads(const PipelineStage& writer);
    template <class... Stages>
    requires(sizeof...(Stages) > 1) PipelineStage& reads(const Stages&... writers) {
        (static_cast<void>(reads(writers)), ...);
        return *this;
    }
    /// How what it reads from several becomes one: in their order, which is what is done unless this says otherwise, or
    /// by line, and values as they come.
    PipelineStage& join(pipes::Join order);
    /// What reports call it.
    PipelineStage& name(std::string name);
    PipelineStage& limits(const StageLimits& limits);
    /// How far the values that it gives may be ahead. Pre: at least one under way, and at most
    /// BoundedChannel::kMostUnderWay.
    PipelineStage& bounds(const ValueBounds& bounds);

    /// Its number, in the order in which stages were added, and so in reports.
    [[nodiscard]] std::size_t index() const noexcept { return index_; }

private:
    friend class Pipeline;
    PipelineStage(Pipeline& pipeline, std::size_t index) noexcept : pipeline_(&pipeline), index_(index) {}
    [[nodiscard]] detail::MixedStage& stage() const;

    Pipeline* pipeline_;
    std::size_t index_;
};

/// How a pipeline is run.
struct PipelineRunOptions : PipelineOptions {
    /// Bytes that several read or several write are moved by the pump: what it may hold, and where.
    std::size_t pump_memory_bytes = std::size_t{1} << 20;
    std::string spill_directory{};
    pipes::PumpWay pump_way = pipes::PumpWay::automatic;
};

/// What came of a pipeline: its report, and the values that its outputs gave.
class PipelineResult {
public:
    [[nodiscard]] const PipelineReport& report() const noexcept { return report_; }
    [[nodiscard]] const StageReport& stage(const PipelineStage& stage) const {
        return report_.stages.at(stage.index());
    }
    /// Of a function stage that could tell; nullopt otherwise.
    [[nodiscard]] const std::optional<ValueTraffic>& traffic(const PipelineStage& stage) const {
        return traffic_.at(stage.index());
    }
    /// Every stage ended well, or was excused, and no bytes were lost between them.
    [[nodiscard]] bool ok() const noexcept { return report_.status == 0 && !report_.stopped; }
    /// Takes the next value out of those that the output has given; nullopt when there are no more.
    /// Throws: std::system_error -- EBADMSG: it is of another type. std::invalid_argument -- that is no output.
    template <StageValue V>
    [[nodiscard]] std::optional<V> take(const PipelineStage& output) {
        std::deque<vmcow::TypedSnapshot>& values = values_of(output.index());
        if (values.empty()) return std::nullopt;
        vmcow::TypedSnapshot value = std::move(values.front());
        values.pop_front();
        return StageIo::value_of<V>(std::move(value));
    }

private:
    friend class MixedRun;
    friend PipelineReport detail::run_branched(const PipelineText& text, const PipelineOptions& options);
    [[nodiscard]] std::deque<vmcow::TypedSnapshot>& values_of(std::size_t stage);

    PipelineReport report_;
    std::vector<std::optional<ValueTraffic>> traffic_;
    std::vector<std::optional<std::deque<vmcow::TypedSnapshot>>> values_;
};

/// Ordinary programs and functions, all running at the same time, with bytes and values flowing between them.
///
///     procrun::Pipeline pipeline;
///     auto text = pipeline.program({"zcat", "words.gz"});
///     auto counts = pipeline.function([](procrun::StageIo& io) { io.give(count_words(io.read_all())); }).reads(text);
///     auto sorted = pipeline.function([](procrun::StageIo& io) {
///         while (auto words = io.take<Counts>()) io.write(lines_of(*words));
///     }).reads(counts);
///     pipeline.program({"head", "-n", "3"}).reads(sorted);
///     procrun::PipelineResult result = pipeline.run();
///
/// A stage that reads nothing has this process's standard input, one that nobody reads its standard output; all have
/// its standard error. Between two functions both bytes and values can flow (StageIo); programs read and write bytes. A
/// function runs in a process forked from this one: it sees the caller's state as it was when the pipeline was run, its
/// images as private views, and what it changes stays there.
///
/// No order in which stages read and write is a deadlock as far as the bytes of several readers or writers go, or
/// values: bytes are held in memory and then in a file (pipes::Pump), values as descriptors (ValueBounds).
///
/// Threads: one at a time. Two pipelines may run in two threads.
class Pipeline {
public:
    Pipeline();
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;
    ~Pipeline();

    PipelineStage program(std::vector<std::string> argv);
    /// With redirections, variables, directory and limits. Pre: at least one word.
    PipelineStage program(StageText text);
    PipelineStage function(StageFunction function);
    /// These values, from the caller, as they are now: to functions as values, to programs as bytes.
    template <StageValue... V>
    PipelineStage values(const V&... values) {
        return given({typed(values)...});
    }
    /// The caller gets the values that the stage gives, or, of a program, all it writes as one vmcow::Value<char[]>:
    /// `result.take<…>(output)` with the stage that this returns. The caller takes them while the pipeline runs, and
    /// keeps descriptors.
    PipelineStage output(const PipelineStage& stage);

    /// Runs all stages, and waits until all have ended.
    ///
    /// As with run_pipeline, programs are looked for and files opened before anything starts, and what cannot start
    /// ends all. What a function throws is its outcome; it is killed with the caller.
    ///
    /// Pre:    at least one stage; SIGCHLD is not ignored.
    /// Throws: std::system_error -- ECHILD, or when waiting itself fails. No process or descriptor is left behind.
    /// Cost:   as run_pipeline, and a fork of this process for each function, and one for the pump where it is needed.
    [[nodiscard]] PipelineResult run(const PipelineRunOptions& options = {});

private:
    friend class PipelineStage;

    template <class V>
    static vmcow::TypedSnapshot typed(const V& value) {
        if constexpr (std::same_as<V, vmcow::Snapshot>) {
            return {value, 0};
        } else {
            return {value.snapshot(), V::type()};
        }
    }
    PipelineStage given(std::vector<vmcow::TypedSnapshot> values);
    PipelineStage add(detail::MixedStage stage);

    std::deque<detail::MixedStage> stages_;
};

}  // namespace procrun
