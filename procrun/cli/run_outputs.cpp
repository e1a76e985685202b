#include "procrun/cli/run_outputs.hpp"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <span>
#include <system_error>

#include <fmt/format.h>

#include "procrun/cli/report_text.hpp"
#include "procrun/cli/sample_text.hpp"
#include "procrun/cli/stage_terminal.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::cli {

namespace {

constexpr std::chrono::milliseconds kChartInterval{100};

/// A line for each stage that ended in a way that no program can report itself: it exceeded a limit, what it gave was
/// lost, or its end is unknown.
std::string lines_without_table(const PipelineReport& report) {
    std::string text;
    for (std::size_t i = 0; i < report.stages.size(); ++i) {
        const StageReport& stage = report.stages[i];
        const OutcomeKind kind = stage.outcome.kind;
        if (kind != OutcomeKind::limit_exceeded && kind != OutcomeKind::result_lost && kind != OutcomeKind::unknown)
            continue;
        text += fmt::format("procrun run: stage {} `{}`: {}\n", i + 1,
                            vmcow::cli::one_line(stage.name.empty() ? stage.argv.front() : stage.name),
                            vmcow::cli::one_line(stage.outcome.describe()));
    }
    return text;
}

}  // namespace

RunOutputs::RunOutputs(const OutputOptions& options, const PipelineText& text) : options_(options) {
    if (options.json) json_.emplace(*options.json);
    if (options.html) html_.emplace(*options.html);
    if (options.ndjson) ndjson_.emplace(*options.ndjson);
    const bool samples_too = options.ndjson && may_print_on_terminal(*options.ndjson, STDERR_FILENO);
    if (options.progress) live_.emplace(text, samples_too || stages_print_on_terminal(text, STDERR_FILENO));
}

std::function<void(const PipelineSample&)> RunOutputs::on_sample() {
    if (!html_ && !ndjson_ && !live_) return {};
    return [this](const PipelineSample& sample) { take(sample); };
}

std::chrono::nanoseconds RunOutputs::sample_every() const {
    std::chrono::nanoseconds every = std::chrono::nanoseconds::max();
    if (live_) every = std::min(every, live_->interval());
    if (html_) every = std::min<std::chrono::nanoseconds>(every, kChartInterval);
    if (ndjson_) every = std::min(every, options_.interval);
    return every;
}

void RunOutputs::take(const PipelineSample& sample) {
    const bool is_last = std::none_of(sample.stages.begin(), sample.stages.end(),
                                      [](const StageSample& stage) { return stage.running; });
    if (html_) history_.add(sample);
    if (ndjson_ && (is_last || next_line_.passed())) {
        write_sample(sample);
        next_line_ = Deadline::in(options_.interval);
    }
    if (live_ && next_live_.passed() && !is_last) {
        live_->show(sample);
        next_live_ = Deadline::in(live_->interval());
    }
}

void RunOutputs::write_sample(const PipelineSample& sample) {
    try {
        ndjson_->write(ndjson_of(sample));
    } catch (const std::system_error&) {
        // The pipeline goes on; `finish` throws the failure.
        ndjson_failure_ = std::current_exception();
    }
}

void RunOutputs::run_ended() {
    if (live_) live_->clear();
}

void RunOutputs::finish(const PipelineReport& report) {
    std::exception_ptr failure;
    const auto attempt = [&](const auto& action) {
        try {
            action();
        } catch (const std::system_error&) {
            if (!failure) failure = std::current_exception();
        }
    };
    if (json_) attempt([&] { json_->write(json_of(report)); });
    if (html_) attempt([&] { html_->write(html_of(report, history_.samples())); });
    attempt([&] {
        if (ndjson_failure_) std::rethrow_exception(ndjson_failure_);
        if (ndjson_) ndjson_->finish();
    });
    const bool nothing_ran = report.refused && !report.stages.front().pid;
    if (!nothing_ran) {
        std::string table = options_.quiet ? lines_without_table(report) : table_of(report);
        if (live_ && !table.empty()) table.insert(0, live_->line_break());
        vmcow::sys::write_all(STDERR_FILENO, std::as_bytes(std::span(table)), "standard error");
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace procrun::cli
