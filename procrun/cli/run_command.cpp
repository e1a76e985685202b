#include "procrun/cli/run_command.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "procrun/cli/report_text.hpp"
#include "procrun/cli/stop_signals.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/pipeline_text.hpp"
#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/output_file.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::cli {

namespace {

using vmcow::cli::ExitCode;
using vmcow::cli::Failure;
using vmcow::cli::OutputFile;

constexpr int kSignalStatus = 128;  // + the signal, as shells have it

struct RunOptions {
    std::optional<std::string> pipeline;
    std::vector<std::string> more_words;
    std::optional<std::string> json;
    std::optional<std::chrono::nanoseconds> timeout;
    std::chrono::nanoseconds kill_after = std::chrono::seconds{2};
    bool quiet = false;
};

PipelineText parse(const RunOptions& options) {
    constexpr const char* kExample = "procrun run -- 'sort words | uniq -c'";
    if (!options.pipeline) throw Failure(fmt::format("a pipeline is missing: {}", kExample), ExitCode::usage);
    if (!options.more_words.empty()) {
        const std::size_t words = 1 + options.more_words.size();
        throw Failure(fmt::format("{} words, but the pipeline is one; quote it: {}", words, kExample), ExitCode::usage);
    }
    try {
        return parse_pipeline(*options.pipeline);
    } catch (const PipelineSyntaxError& error) {
        // For programs that read our errors it stays the one line that follows.
        if (isatty(STDERR_FILENO) == 1) fmt::print(stderr, "{}", error.pointed(*options.pipeline));
        throw Failure(error.what(), ExitCode::usage);
    }
}

PipelineReport run(const PipelineText& text, const RunOptions& options) {
    StopSignals signals;
    PipelineReport report =
        run_pipeline(text, {.deadline = options.timeout ? Deadline::in(*options.timeout) : Deadline::never(),
                            .grace = options.kill_after,
                            .stop_fd = signals.fd()});
    if (!report.stopped) return report;
    if (const auto number = signals.take()) report.status = kSignalStatus + *number;
    return report;
}

void write_table(const PipelineReport& report) {
    const std::string table = table_of(report);
    vmcow::sys::write_all(STDERR_FILENO, std::as_bytes(std::span(table)), "standard error");
}

/// Both are tried: a full disk under one of them must not cost the other.
void write_report(const PipelineReport& report, const RunOptions& options, std::optional<OutputFile>& json) {
    std::exception_ptr failure;
    try {
        if (json) json->write(json_of(report));
    } catch (const std::system_error&) {
        failure = std::current_exception();
    }
    const bool nothing_ran = report.refused && !report.stages.front().pid;
    if (!options.quiet && !nothing_ran) write_table(report);
    if (failure) std::rethrow_exception(failure);
}

void run_and_report(const RunOptions& options) {
    const PipelineText text = parse(options);
    vmcow::cli::require_kernel();
    std::optional<OutputFile> json;
    if (options.json) json.emplace(*options.json);

    const PipelineReport report = run(text, options);
    write_report(report, options, json);
    if (report.refused && !report.stopped) {
        const Outcome& outcome = report.stages[*report.refused].outcome;
        throw Failure(fmt::format("stage {}: {}", *report.refused + 1, outcome.describe()));
    }
    if (report.status != 0) throw CLI::RuntimeError(report.status);
}

/// CLI11 would show the pipeline without its quotes, and the words that are only taken to be refused.
class RunFormatter : public CLI::Formatter {
public:
    std::string make_usage(const CLI::App*, std::string) const override {
        return "Usage: procrun run [OPTIONS] -- 'PIPELINE'\n";
    }
};

}  // namespace

void add_run_command(CLI::App& app) {
    const auto options = std::make_shared<RunOptions>();
    CLI::App* verb = app.add_subcommand("run", "Run a pipeline of programs and show what each of them used");
    verb->formatter(std::make_shared<RunFormatter>());
    verb->add_option("PIPELINE", options->pipeline, "Programs with | between them, quoted so that they are one word")
        ->type_name("");
    // To say what is wrong with them.
    verb->add_option("more", options->more_words)->type_name("")->group("");
    verb->add_option("--json", options->json, "Write the report to FILE as JSON at the end; - is standard output")
        ->type_name("FILE");
    vmcow::cli::add_duration(*verb, "--timeout", options->timeout,
                             "Stop what still runs after TIME, as in 500ms, 30s, 2m or 1.5h");
    vmcow::cli::add_duration(*verb, "--kill-after", options->kill_after,
                             "To stop is SIGTERM, and SIGKILL this much later")
        ->default_str("2s");
    verb->add_flag("--quiet", options->quiet, "Print no table");
    verb->footer(
        "Example: procrun run --timeout 30s --json report.json -- 'sort < words | uniq -c > counts 2>&1'\n\n"
        "The programs run at the same time, connected by pipes. No shell is started: there are words, quotes,\n"
        "backslash, |, <, >, >>, 2>, 2>&1 and 1>&2; whatever else a shell would act on has to be quoted.\n"
        "When all have ended, a table on standard error shows for each how it ended, its wall, user and system\n"
        "time, the bytes it read and wrote, and the most memory it had resident.\n\n"
        "Exit status: 0, or that of the last program that failed: its own, 128 + the signal that killed it, or 124\n"
        "after the timeout. A program killed by SIGPIPE has not failed if the one that reads from it ended well.\n"
        "1 if the pipeline could not be started or the report not written, 2 for a wrong command line.");
    verb->callback([options] { run_and_report(*options); });
}

}  // namespace procrun::cli
