#include "procrun/cli/run_command.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "procrun/cli/retries.hpp"
#include "procrun/cli/run_input.hpp"
#include "procrun/cli/run_outputs.hpp"
#include "procrun/launcher.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/poll_until.hpp"
#include "procrun/program_path.hpp"
#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/human.hpp"
#include "vmcow/cli/stop_signals.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::cli {

namespace {

using vmcow::cli::ExitCode;
using vmcow::cli::Failure;
using vmcow::cli::StopSignals;

constexpr int kSignalStatus = 128;  // + the signal, as shells have it

struct RunOptions {
    RunInput input;
    std::optional<std::string> first_word;  ///< without --, as the next
    std::vector<std::string> more_words;
    OutputOptions output;
    std::optional<std::chrono::nanoseconds> timeout;
    std::optional<std::chrono::nanoseconds> kill_after;
    std::optional<std::uint64_t> pipe_bytes;
    std::optional<std::uint64_t> retries;
    std::chrono::nanoseconds retry_after = std::chrono::seconds{1};
    bool dry_run = false;
};

/// What stood behind "--".
std::optional<std::vector<std::string>>& words_behind_mark() {
    static std::optional<std::vector<std::string>> words;
    return words;
}

RunInput input_of(const RunOptions& options) {
    RunInput input = options.input;
    if (options.first_word) input.words.push_back(*options.first_word);
    input.words.insert(input.words.end(), options.more_words.begin(), options.more_words.end());
    if (const auto& words = words_behind_mark()) {
        if (!input.words.empty()) {
            throw Failure(fmt::format("'{}' stands before --; all words of programs go behind it", input.words.front()),
                          ExitCode::usage);
        }
        input.words = *words;
    }
    return input;
}

/// What flags say goes before what a file says.
RunPlan plan_of(const RunOptions& options) {
    RunPlan plan = read_plan(input_of(options));
    if (options.timeout) plan.timeout = options.timeout;
    if (options.kill_after) plan.kill_after = options.kill_after;
    if (options.pipe_bytes) plan.pipe_bytes = options.pipe_bytes;
    if (options.retries) plan.retries = options.retries;
    return plan;
}

PipelineReport run_once(const RunPlan& plan, Launcher& launcher, StopSignals& signals, RunOutputs& outputs) {
    PipelineOptions options{.deadline = plan.timeout ? Deadline::in(*plan.timeout) : Deadline::never(),
                            .stop_fd = signals.fd(),
                            .pipe_bytes = plan.pipe_bytes,
                            .values = plan.values,
                            .job_control = true,
                            .stop_strays = true,
                            .on_sample = outputs.on_sample(),
                            .sample_every = outputs.sample_every(),
                            .launcher = &launcher,
                            .on_notice = [](const std::string& notice) {
                                fmt::print(stderr, "procrun run: {}\n", vmcow::cli::one_line(notice));
                            }};
    if (plan.kill_after) options.grace = *plan.kill_after;
    PipelineReport report = run_pipeline(plan.text, options);
    outputs.run_ended();
    if (!report.stopped) return report;
    if (const auto number = signals.take()) report.status = kSignalStatus + *number;
    return report;
}

/// Somebody at the terminal has ended the pipeline: what is typed there goes to the programs, not to us.
bool was_interrupted(const PipelineReport& report) {
    return std::any_of(report.stages.begin(), report.stages.end(), [](const StageReport& stage) {
        const bool typed = stage.outcome.code == SIGINT || stage.outcome.code == SIGQUIT;
        return stage.outcome.kind == OutcomeKind::signaled && typed;
    });
}

/// Runs it until it succeeds, as often as the plan says. Not again when it was stopped, or when a program is not there.
PipelineReport run(const RunPlan& plan, const RunOptions& options, RunOutputs& outputs) {
    StopSignals signals;
    // Its own, and reaped at the end: not every init does that for what a command leaves behind.
    Launcher launcher;
    const std::optional<Retries> again =
        plan.retries.value_or(0) > 0 ? std::optional<Retries>(plan.text) : std::nullopt;
    for (std::uint64_t attempt = 1;; ++attempt) {
        PipelineReport report = run_once(plan, launcher, signals, outputs);
        report.attempts = attempt;
        const bool is_over = report.status == 0 || report.stopped || report.refused || was_interrupted(report);
        if (is_over || attempt > plan.retries.value_or(0)) return report;
        fmt::print(stderr, "procrun run: attempt {} of {} failed with status {}; again in {}\n", attempt,
                   *plan.retries + 1, report.status,
                   vmcow::cli::human_seconds(std::chrono::duration<double>(options.retry_after).count()));
        std::array<pollfd, 1> stop{pollfd{signals.fd(), POLLIN, 0}};
        if (poll_until(stop, Deadline::in(options.retry_after), "wait for the next attempt") > 0) {
            report.stopped = true;
            if (const auto number = signals.take()) report.status = kSignalStatus + *number;
            return report;
        }
        again->put_back();
    }
}

void show_plan(const RunPlan& plan) {
    vmcow::cli::write_stdout(text_of(plan));
    for (const StageText& stage : plan.text.stages) {
        if (!stage.directory && find_missing_program(stage.argv.front())) {
            throw CLI::RuntimeError(static_cast<int>(ExitCode::failure));
        }
    }
}

void run_and_report(const RunOptions& options) {
    const RunPlan plan = plan_of(options);
    if (options.dry_run) return show_plan(plan);
    vmcow::cli::require_kernel();
    RunOutputs outputs(options.output, plan.text);

    const PipelineReport report = run(plan, options, outputs);
    outputs.finish(report);
    if (report.refused && !report.stopped) {
        const Outcome& outcome = report.stages[*report.refused].outcome;
        throw Failure(fmt::format("stage {}: {}", *report.refused + 1, outcome.describe()));
    }
    if (!report.pump_failure.empty()) throw Failure(report.pump_failure);
    if (report.status != 0) throw CLI::RuntimeError(report.status);
}

/// CLI11 would show the pipeline without its quotes.
class RunFormatter : public CLI::Formatter {
public:
    std::string make_usage(const CLI::App*, std::string) const override {
        return "Usage: procrun run [OPTIONS] -- 'PIPELINE'\n"
               "       procrun run [OPTIONS] -- PROGRAM WORD... [::: PROGRAM WORD...]...\n"
               "       procrun run [OPTIONS] --file STAGES.toml\n";
    }
};

void add_limits(CLI::App& verb, StageLimits& limits) {
    constexpr const char* kGroup = "Limits, of each program";
    vmcow::cli::add_size(verb, "--memory", limits.memory_bytes, "Kill one with more memory of its own than SIZE")
        ->group(kGroup);
    vmcow::cli::add_duration(verb, "--cpu", limits.processor_time,
                             "Kill one that has used more processor time than TIME")
        ->group(kGroup);
    vmcow::cli::add_count(verb, "--files", limits.open_files, "It can open descriptors below N", 3)->group(kGroup);
    vmcow::cli::add_size(verb, "--output", limits.output_bytes, "Kill one that has written more than SIZE in all")
        ->group(kGroup);
}

void add_stopping(CLI::App& verb, RunOptions& options) {
    constexpr const char* kGroup = "Stopping, and trying again";
    vmcow::cli::add_duration(verb, "--timeout", options.timeout,
                             "Stop what of an attempt still runs after TIME, as in 500ms, 30s, 2m or 1.5h")
        ->group(kGroup);
    vmcow::cli::add_duration(verb, "--kill-after", options.kill_after,
                             "To stop is SIGTERM to all, and SIGKILL this much later [2s]")
        ->group(kGroup);
    vmcow::cli::add_count(verb, "--retry", options.retries, "Run it up to N times more while it fails")->group(kGroup);
    vmcow::cli::add_duration(verb, "--retry-after", options.retry_after, "Wait this long before the next attempt")
        ->default_str("1s")
        ->group(kGroup);
}

void add_outputs(CLI::App& verb, OutputOptions& options) {
    constexpr const char* kGroup = "Seeing";
    verb.add_flag("--progress", options.progress, "Show on standard error what the stages do, while they do it")
        ->group(kGroup);
    verb.add_flag("--quiet", options.quiet, "Print no table at the end")->group(kGroup);
    verb.add_option("--json", options.json, "Write the report to FILE as JSON at the end; - is standard output")
        ->type_name("FILE")
        ->group(kGroup);
    verb.add_option("--html", options.html, "Write the report to FILE as a page with charts over time")
        ->type_name("FILE")
        ->group(kGroup);
    verb.add_option("--ndjson", options.ndjson, "Write samples to FILE while it runs, one JSON object a line")
        ->type_name("FILE")
        ->group(kGroup);
    vmcow::cli::add_duration(verb, "--interval", options.interval, "Between two samples of --ndjson")
        ->default_str("100ms")
        ->group(kGroup);
}

constexpr const char* kFooter =
    "Examples: procrun run --timeout 30s --json report.json -- 'sort < words | uniq -c > counts 2>&1'\n"
    "          procrun run -- zcat x.gz ::: sort ::: uniq -c\n\n"
    "The programs run at the same time, connected by pipes, in a process group of their own, which gets the\n"
    "terminal as a shell's job does. No shell is started: in the first form there are words, quotes, backslash,\n"
    "|, <, >, >>, 2>, 2>&1 and 1>&2, and whatever else a shell would act on has to be quoted; in the second form\n"
    "every word is taken as it is. The third form is described in the README.\n\n"
    "When all have ended, a table on standard error shows for each how it ended, its wall, user and system\n"
    "time, the bytes it read and wrote, the most memory it had resident, and which share of its life it was\n"
    "running, blocked reading, blocked writing, or waiting otherwise; and what held the pipeline up.\n\n"
    "Exit status: 0, or that of the last program that failed: its own, 128 + the signal that killed it, 124\n"
    "after the timeout, or 1 beyond a limit. A program killed by SIGPIPE has not failed if the one that reads from\n"
    "it ended well. 1 if the pipeline could not be started or the report not written, 2 for a wrong command line.";

}  // namespace

int take_words(int argc, const char* const* argv) {
    const char* const* const end = argv + argc;
    const char* const* const mark =
        std::find_if(argv, end, [](const char* word) { return std::string_view(word) == "--"; });
    if (mark == end) return argc;
    words_behind_mark().emplace(mark + 1, end);
    return static_cast<int>(mark - argv);
}

void add_run_command(CLI::App& app) {
    const auto options = std::make_shared<RunOptions>();
    CLI::App* verb = app.add_subcommand("run", "Run a pipeline of programs and show what each of them used");
    verb->formatter(std::make_shared<RunFormatter>());
    verb->add_option("PIPELINE", options->first_word,
                     "Programs with | between them, as one word; or the words of programs with ::: between two")
        ->type_name("");
    verb->add_option("more", options->more_words)->type_name("")->group("");
    verb->add_option("--file", options->input.file, "Read the stages from FILE (TOML); - is standard input")
        ->type_name("FILE");
    verb->add_option("--value", options->input.values,
                     "Give the image in FILE to programs that take values, as their next argument; more than once")
        ->type_name("FILE")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    verb->add_flag("--dry-run", options->dry_run, "Print what would run, and run nothing");
    vmcow::cli::add_size(*verb, "--pipe-size", options->pipe_bytes,
                         "Ask for pipes of SIZE; the report has what was granted");
    add_outputs(*verb, options->output);
    add_stopping(*verb, *options);
    add_limits(*verb, options->input.limits);
    verb->footer(kFooter);
    verb->callback([options] { run_and_report(*options); });
}

}  // namespace procrun::cli
