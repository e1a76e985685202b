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
#include "procrun/process/poll_until.hpp"
#include "procrun/program/program_path.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/cli/kit/stop_signals.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::cli {

namespace {

using vmcow::cli::ExitCode;
using vmcow::cli::Failure;
using vmcow::cli::StopSignals;

constexpr int kSignalStatus = 128;  // + the signal, as in shells

struct RunOptions {
    RunInput input;
    std::optional<std::string> first_word;  ///< of the words without --, which `more_words` continues
    std::vector<std::string> more_words;
    OutputOptions output;
    std::optional<std::chrono::nanoseconds> timeout;
    std::optional<std::chrono::nanoseconds> kill_after;
    std::optional<std::uint64_t> pipe_bytes;
    std::optional<std::uint64_t> retries;
    std::chrono::nanoseconds retry_after = std::chrono::seconds{1};
    bool dry_run = false;
};

RunInput input_of(const RunOptions& options) {
    RunInput input = options.input;
    if (options.first_word) input.words.push_back(*options.first_word);
    input.words.insert(input.words.end(), options.more_words.begin(), options.more_words.end());
    if (const auto& words = vmcow::cli::words_behind_mark()) {
        if (!input.words.empty()) {
            throw Failure(fmt::format("'{}' stands before --; all words of programs go behind it", input.words.front()),
                          ExitCode::usage);
        }
        input.words = *words;
    }
    return input;
}

/// The plan of the run. Flags override the settings of a file.
RunPlan plan_of(const RunOptions& options) {
    RunPlan plan = read_plan(input_of(options));
    if (options.timeout) plan.timeout = options.timeout;
    if (options.kill_after) plan.kill_after = options.kill_after;
    if (options.pipe_bytes) plan.pipe_bytes = options.pipe_bytes;
    if (options.retries) plan.retries = options.retries;
    return plan;
}

void tell(const std::string& notice) { vmcow::cli::warn("procrun run", notice); }

PipelineReport run_once(const RunPlan& plan, Launcher& launcher, StopSignals& signals, RunOutputs& outputs) {
    PipelineOptions options{.deadline = plan.timeout ? Deadline::in(*plan.timeout) : Deadline::never(),
                            .stop_fd = signals.fd(),
                            .pipe_bytes = plan.pipe_bytes,
                            .values = plan.values,
                            .keep_values = !plan.saved_values.empty(),
                            .job_control = true,
                            .stop_strays = true,
                            .on_sample = outputs.on_sample(),
                            .sample_every = outputs.sample_every(),
                            .launcher = &launcher,
                            .on_notice = tell};
    if (plan.kill_after) options.grace = *plan.kill_after;
    PipelineReport report = run_pipeline(plan.text, options);
    outputs.run_ended();
    if (!report.stopped) return report;
    if (const auto number = signals.take()) report.status = kSignalStatus + *number;
    return report;
}

/// Whether somebody at the terminal has ended the pipeline: a Ctrl-C there goes to the programs, not to this process.
bool was_interrupted(const PipelineReport& report) {
    return std::any_of(report.stages.begin(), report.stages.end(), [](const StageReport& stage) {
        const bool typed = stage.outcome.code == SIGINT || stage.outcome.code == SIGQUIT;
        return stage.outcome.kind == OutcomeKind::signaled && typed;
    });
}

/// Runs the pipeline until it succeeds, at most as often as the plan says. Does not run it again if it was stopped or
/// interrupted, or if a stage could not be started.
PipelineReport run(const RunPlan& plan, const RunOptions& options, RunOutputs& outputs) {
    StopSignals signals;
    // A launcher for this run, which is reaped at the end: not every init reaps what a command leaves behind.
    Launcher launcher;
    const std::optional<Retries> again =
        plan.retries.value_or(0) > 0 ? std::optional<Retries>(plan.text) : std::nullopt;
    for (std::uint64_t attempt = 1;; ++attempt) {
        PipelineReport report = run_once(plan, launcher, signals, outputs);
        report.attempts = attempt;
        const bool is_over = report.status == 0 || report.stopped || report.refused || was_interrupted(report);
        if (is_over || attempt > plan.retries.value_or(0)) return report;
        const std::string pause = vmcow::cli::human_seconds(std::chrono::duration<double>(options.retry_after).count());
        vmcow::cli::warn("procrun run", fmt::format("attempt {} of {} failed with status {}; again in {}", attempt,
                                                    *plan.retries + 1, report.status, pause));
        std::array<pollfd, 1> stop{pollfd{signals.fd(), POLLIN, 0}};
        if (poll_until(stop, Deadline::in(options.retry_after), "wait for the next attempt") > 0) {
            report.stopped = true;
            if (const auto number = signals.take()) report.status = kSignalStatus + *number;
            return report;
        }
        again->put_back();
    }
}

/// Saves the values that came out at the end to the files of --save-value. Saves nothing if the pipeline has failed.
/// Throws: Failure -- there are fewer values than files; std::system_error -- a file cannot be written.
void save_values(const RunPlan& plan, const PipelineReport& report) {
    const std::vector<std::string>& files = plan.saved_values;
    if (files.empty()) return;
    if (report.status != 0 || report.stopped) return tell("no value is saved, because the pipeline has failed");
    if (report.values.size() < files.size()) {
        throw Failure(fmt::format("save value {} as '{}': {} came out at the end, and the first is value 0",
                                  report.values.size(), files[report.values.size()], report.values.size()));
    }
    for (std::size_t i = 0; i < files.size(); ++i) {
        vmcow::save_image(report.values[i].snapshot, files[i], {.type = report.values[i].type});
    }
    if (report.values.size() > files.size()) {
        tell(fmt::format("{} values came out at the end; they are saved up to value {}", report.values.size(),
                         files.size() - 1));
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
    std::exception_ptr unsaved;
    try {
        save_values(plan, report);
    } catch (const std::exception&) {
        unsaved = std::current_exception();
    }
    outputs.finish(report);
    if (unsaved) std::rethrow_exception(unsaved);
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
    constexpr const char* kGroup = "Limits of each program";
    vmcow::cli::add_size(verb, "--memory", limits.memory_bytes,
                         "Kill a program that has more memory of its own than SIZE")
        ->group(kGroup);
    vmcow::cli::add_duration(verb, "--cpu", limits.processor_time,
                             "Kill a program that has used more processor time than TIME")
        ->group(kGroup);
    vmcow::cli::add_count(verb, "--files", limits.open_files, "Allow a program only descriptors below N", 3)
        ->group(kGroup);
    vmcow::cli::add_size(verb, "--output", limits.output_bytes, "Kill a program that has written more than SIZE in all")
        ->group(kGroup);
}

void add_stopping(CLI::App& verb, RunOptions& options) {
    constexpr const char* kGroup = "Stopping and retrying";
    vmcow::cli::add_duration(verb, "--timeout", options.timeout,
                             "Stop the programs of an attempt that still run after TIME, as in 500ms, 30s, 2m or 1.5h")
        ->group(kGroup);
    vmcow::cli::add_duration(verb, "--kill-after", options.kill_after,
                             "Stopping sends SIGTERM to all programs, and SIGKILL after this TIME [2s]")
        ->group(kGroup);
    vmcow::cli::add_count(verb, "--retry", options.retries, "Run the pipeline again while it fails, up to N times")
        ->group(kGroup);
    vmcow::cli::add_duration(verb, "--retry-after", options.retry_after, "Wait this long before the next attempt")
        ->default_str("1s")
        ->group(kGroup);
}

void add_outputs(CLI::App& verb, OutputOptions& options) {
    constexpr const char* kGroup = "Reports";
    verb.add_flag("--progress", options.progress, "Show on standard error what the programs do, while they run")
        ->group(kGroup);
    verb.add_flag("--quiet", options.quiet,
                  "Print no table at the end, only a line for each program that exceeded a limit, or whose end\n"
                  "or values were lost")
        ->group(kGroup);
    verb.add_option("--json", options.json, "Write the report to FILE as JSON at the end; - is standard output")
        ->type_name("FILE")
        ->group(kGroup);
    verb.add_option("--html", options.html, "Write the report to FILE as a page with charts over time")
        ->type_name("FILE")
        ->group(kGroup);
    verb.add_option("--ndjson", options.ndjson, "Write samples to FILE while it runs, one JSON object a line")
        ->type_name("FILE")
        ->group(kGroup);
    vmcow::cli::add_duration(verb, "--interval", options.interval, "Time between two samples of --ndjson")
        ->default_str("100ms")
        ->group(kGroup);
}

constexpr const char* kFooter =
    "Examples: procrun run --timeout 30s --json report.json -- 'sort < words | uniq -c > counts 2>&1'\n"
    "          procrun run -- zcat x.gz ::: sort ::: uniq -c\n\n"
    "The programs run at the same time, connected by pipes, in a process group of their own, which gets the\n"
    "terminal as a shell's job does. No shell is started. The first form has words, quotes, backslash, |, <, >, >>,\n"
    "2>, 2>&1 and 1>&2; anything else that a shell would act on has to be quoted. The second form takes every word\n"
    "as it is. The third form is described in docs/pipelines.md.\n\n"
    "With --value or --save-value, programs that take values (vmcow/program_values.hpp) hand them on: the next such\n"
    "program takes what one gives. Values pass by a program that takes none, and by one that gives none and does not\n"
    "fail. The report tells of values that nobody takes. Bytes then go through procrun, which holds them for a\n"
    "program that waits for a value.\n\n"
    "When all programs have ended, a table on standard error shows how each one ended; its wall, user and system\n"
    "time; the bytes that it read and wrote; the most memory that it had resident; and which share of its life it\n"
    "was running, blocked reading, blocked writing, or waiting for something else. The table ends with what held\n"
    "the pipeline up.\n\n"
    "You can follow --ndjson (tail -f) while it is written, if FILE is new or empty. A FILE that has content stays\n"
    "as it is, whatever happens, until the end, and is replaced then; so with --json and --html.\n\n"
    "Exit status: 0, or that of the last program that failed: its own, 128 + the signal that killed it, 124 after\n"
    "the timeout, or 1 beyond a limit. A program killed by SIGPIPE has not failed if the one that reads from it\n"
    "ended well. 1 if the pipeline could not be started or a report could not be written; 2 for a wrong command\n"
    "line; 77 if the kernel lacks what is needed.";

}  // namespace

void add_run_command(CLI::App& app) {
    const auto options = std::make_shared<RunOptions>();
    CLI::App* verb = app.add_subcommand("run", "Run a pipeline of programs and show what each of them used");
    verb->formatter(std::make_shared<RunFormatter>());
    verb->add_option(
            "PIPELINE", options->first_word,
            "Programs with | between them, as one word; or the words of the programs, with ::: between\ntwo programs")
        ->type_name("");
    verb->add_option("more", options->more_words)->type_name("")->group("");
    verb->add_option("--file", options->input.file, "Read the stages from FILE (TOML); - is standard input")
        ->type_name("FILE");
    verb->add_option("--value", options->input.values,
                     "Give the image in FILE to the first program that takes values, as its next argument. What a\n"
                     "program gives goes to the next program that takes values. Can be given several times")
        ->type_name("FILE")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    verb->add_option("--save-value", options->input.saved_values,
                     "Save the value that comes out of the last program as an image in FILE. Can be given several\n"
                     "times, once for each value")
        ->type_name("FILE")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    verb->add_flag("--dry-run", options->dry_run, "Print what would run, and run nothing");
    vmcow::cli::add_size(*verb, "--pipe-size", options->pipe_bytes,
                         "Ask the kernel for pipes of SIZE; the report says what it granted");
    add_outputs(*verb, options->output);
    add_stopping(*verb, *options);
    add_limits(*verb, options->input.limits);
    verb->footer(kFooter);
    verb->callback([options] { run_and_report(*options); });
}

}  // namespace procrun::cli
