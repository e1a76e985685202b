// A pipeline of programs and functions: bytes from program to function, values between functions, bytes to a program.
#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "procrun/pipeline.hpp"
#include "vmcow/value.hpp"

namespace {

using Text = vmcow::Value<char[]>;
using Counts = vmcow::Value<long[]>;

/// How often each byte occurs.
Counts count_bytes(const Text& text) {
    Counts counts(256);
    counts.edit([&](std::span<long> all) {
        for (const char byte : text.read()) ++all[static_cast<unsigned char>(byte)];
    });
    return counts;
}

int run() {
    procrun::Pipeline pipeline;
    auto numbers = pipeline.program({"seq", "1", "100000"});
    auto counts = pipeline.function([](procrun::StageIo& io) { io.give(count_bytes(io.read_all())); }).reads(numbers);
    auto lines = pipeline.function([](procrun::StageIo& io) {
        while (auto all = io.take<Counts>()) {
            for (std::size_t digit = '0'; digit <= '9'; ++digit) {
                io.write(fmt::format("{} {}\n", (*all)[digit], static_cast<char>(digit)));
            }
        }
    });
    lines.reads(counts);
    auto sorted = pipeline.program({"sort", "-n", "-r"}).reads(lines);
    auto top = pipeline.output(pipeline.program({"head", "-n", "1"}).reads(sorted));

    procrun::PipelineResult result = pipeline.run();
    for (const procrun::StageReport& stage : result.report().stages) {
        const std::string& name = stage.argv.empty() ? stage.name : stage.argv.front();
        if (!stage.outcome.ok()) fmt::print(stderr, "{}: {}\n", name, stage.outcome.describe());
    }
    const std::string& lost = result.report().pump_failure;
    if (!lost.empty()) fmt::print(stderr, "between the stages: {}\n", lost);
    fmt::print("status: {}, values given: {}\n", result.report().status, result.traffic(counts)->given);
    const Text most = result.take<Text>(top).value();
    fmt::print("most: {}", std::string_view(most.read().data(), most.size()));
    return result.ok() ? 0 : 1;
}

}  // namespace

int main() {
    try {
        const int status = run();
        if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "standard output");
        return status;
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "pipeline_program: %s\n", error.what()));
        return 1;
    }
}
