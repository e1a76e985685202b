#pragma once

#include <concepts>
#include <deque>
#include <string>
#include <vector>

#include "procrun/pipeline/pipeline_options.hpp"
#include "procrun/pipeline/pipeline_report.hpp"
#include "procrun/pipeline/pipeline_result.hpp"
#include "procrun/pipeline/pipeline_stage.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/pipeline/stage_io.hpp"
#include "procrun/pipeline/stage_spec.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

/// Runs the programs of a pipeline at the same time, the standard output of each as the standard input of the next, and
/// waits until all have ended. Pipes connect the programs directly. The first reads the standard input of this process,
/// the last writes to its standard output, and all write to its standard error, unless redirected. The programs form a
/// process group.
///
/// Stages may say what they read (StageText::from): then several stages may read one, and one may read several. A
/// process that is forked for this moves their bytes (pipes::Pump).
///
/// Values go from each program to the programs that read it, beside the bytes and by descriptor. They go through this
/// process, which checks them and copies nothing (ValueRelay). If a program gives no values, those that it was given go
/// on to its readers, unless it took them and failed. Values that a program gave before it failed have gone on. Where
/// values flow, bytes go through the pump: a program that waits for a value does not read bytes, and its writer may
/// have to write before it gives the value.
///
/// Before anything starts, all programs are looked for and all files are opened. If one is missing, nothing runs, and
/// no file has lost its content. If a stage fails to start later, the stages before it are stopped. In both cases the
/// report says so. Stopping ends everything in the process group, also children that keep a pipe open. A stage that
/// exceeds a limit gets SIGKILL, and no other stage does.
///
/// Pre:     at least one stage, each with a word; SIGCHLD is not ignored.
/// Throws:  std::system_error -- ECHILD, or when waiting itself fails. No process or descriptor is left behind.
/// Threads: the stages are killed when this process ends, however it ends (Program::die_with_parent).
/// Source:  pipe(7), pidfd_open(2), Linux 5.11.
[[nodiscard]] PipelineReport run_pipeline(const PipelineText& text, const PipelineOptions& options = {});

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
/// A stage that reads no other has the standard input of this process, and a stage that no other reads has its standard
/// output; all have its standard error. Between two functions both bytes and values can flow (StageIo). Programs read
/// and write bytes; those that take values read and write values as well. A function runs in a process that is forked
/// from this one: it sees the caller's state as it was when the pipeline was run, has images as private views, and its
/// changes stay in that process.
///
/// Stages may read and write in any order: several readers or writers of bytes, or values, cause no deadlock. Bytes are
/// held in memory and then in a file (pipes::Pump), values as descriptors (ValueBounds).
///
/// Threads: one at a time. Two pipelines may run in two threads.
class Pipeline {
public:
    Pipeline();
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;
    ~Pipeline();

    PipelineStage program(std::vector<std::string> argv);
    /// Adds a program with redirections, variables, a directory and limits. Pre: at least one word.
    PipelineStage program(StageText text);
    PipelineStage function(StageFunction function);
    /// Adds a stage that gives these values, as they are now: to functions as values, to programs as bytes.
    template <StageValue... V>
    PipelineStage values(const V&... values) {
        return given({typed(values)...});
    }
    /// Adds a stage that collects for the caller the values that `stage` gives or, of a program that takes no values,
    /// all that it writes, as one vmcow::Value<char[]>. `result.take<…>(output)` with the returned stage reads them.
    /// The caller receives them while the pipeline runs, and keeps their descriptors.
    PipelineStage output(const PipelineStage& stage);

    /// Runs all stages, and waits until all have ended.
    ///
    /// As with run_pipeline, programs are looked for and files are opened before anything starts, and a stage that
    /// cannot start ends all others. If a function throws, its outcome says so. A function is killed with the caller.
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
    PipelineStage add(StageSpec stage);

    std::deque<StageSpec> stages_;
};

}  // namespace procrun
