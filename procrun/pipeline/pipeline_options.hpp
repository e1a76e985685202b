#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pipes/pump/pump_options.hpp"
#include "procrun/deadline.hpp"
#include "procrun/observe/pipeline_sample.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

class Launcher;

/// How a pipeline of programs is run.
struct PipelineOptions {
    /// A stage that still runs then is stopped, and its outcome is deadline_passed.
    Deadline deadline = Deadline::never();
    /// A stage that is to be stopped gets SIGTERM, and SIGKILL if it still runs this much later.
    std::chrono::nanoseconds grace = std::chrono::seconds{2};
    /// The pipeline is stopped when this descriptor becomes readable, say a signalfd; -1: never. It is not read from.
    int stop_fd = -1;
    /// Capacity that the pipes between the stages are to have; nullopt: the kernel's default. The report has the
    /// capacity that was granted.
    std::optional<std::size_t> pipe_bytes = std::nullopt;
    /// The arguments that the first program finds if it takes values (vmcow/program_values.hpp); if several stages read
    /// no other stage, each of those finds them. With values, and with `keep_values`, every program takes values that
    /// does not say otherwise (StageText::values).
    std::vector<vmcow::TypedSnapshot> values{};
    /// Values that a program gives and no stage reads go into the report. Otherwise they are dropped, with a notice.
    bool keep_values = false;
    /// Takes part in a shell's job control, as TerminalJob says. For processes with one thread.
    bool job_control = false;
    /// When the pipeline is stopped, processes that its stages have started and that have left its process group are
    /// stopped too (StrayProcesses). While it runs, this process becomes the parent of all orphans below it. For
    /// processes that start nothing else.
    bool stop_strays = false;
    /// Called with what can be seen of the stages, at most once in `sample_every`, and once more when all have ended.
    std::function<void(const PipelineSample&)> on_sample{};
    std::chrono::nanoseconds sample_every = std::chrono::milliseconds{100};
    /// Starts the programs; nullptr: Launcher::shared().
    Launcher* launcher = nullptr;
    /// Called with a notice of one line in these cases. Bytes that several stages read or write, or that go beside
    /// values, begin to go to a file, because they are not read in the order in which they come. A stage waits because
    /// a program does not ask for the values that the stage gives. At the end, there are values that nobody took.
    std::function<void(const std::string&)> on_notice{};
};

/// How a pipeline is run that may have functions and branches.
struct PipelineRunOptions : PipelineOptions {
    /// PumpOptions::memory_bytes of the pump, which moves bytes that several stages read or write.
    std::size_t pump_memory_bytes = std::size_t{1} << 20;
    /// PumpOptions::spill_directory of the pump.
    std::string spill_directory{};
    /// PumpOptions::way of the pump.
    pipes::PumpWay pump_way = pipes::PumpWay::automatic;
};

}  // namespace procrun
