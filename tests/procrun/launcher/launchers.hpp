#pragma once

#include <unistd.h>

#include <string>
#include <utility>
#include <variant>

#include "pipes/pipe.hpp"
#include "procrun/launcher.hpp"
#include "procrun/outcome.hpp"
#include "procrun/process.hpp"
#include "procrun/program.hpp"
#include "vmcow/sys/fd.hpp"

namespace tests {

/// What the program writes to its standard output, or a description of its end when that was not a success.
inline std::string output_of(procrun::Launcher& launcher, procrun::Program program) {
    pipes::Pipe pipe = pipes::Pipe::open();
    auto started = program.descriptor(STDOUT_FILENO, pipe.write_end().get()).start(launcher);
    pipe.take_write_end().reset();
    if (const auto* outcome = std::get_if<procrun::Outcome>(&started)) return "not started: " + outcome->describe();
    const std::string output = "/proc/self/fd/" + std::to_string(pipe.read_end().get());
    std::string text = vmcow::sys::read_text_file(output);
    const procrun::Outcome outcome = std::get<procrun::Process>(started).wait().outcome;
    return outcome.ok() ? text : outcome.describe() + " after: " + text;
}

inline std::string output_of(procrun::Launcher& launcher, const std::string& script) {
    return output_of(launcher, procrun::Program({"sh", "-c", script}));
}

/// Why a program that must not start was refused.
inline std::string refusal_of(procrun::Launcher& launcher, const procrun::Program& program) {
    auto started = program.start(launcher);
    if (const auto* outcome = std::get_if<procrun::Outcome>(&started)) return outcome->describe();
    return "started";
}

}  // namespace tests
