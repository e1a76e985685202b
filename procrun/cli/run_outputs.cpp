#include "procrun/cli/run_outputs.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <span>
#include <system_error>

#include "procrun/cli/report_text.hpp"
#include "procrun/cli/sample_text.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::cli {

namespace {

constexpr std::chrono::milliseconds kChartInterval{100};

vmcow::sys::UniqueFd open_ndjson(const std::string& path) {
    if (path != "-") return vmcow::sys::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    vmcow::sys::UniqueFd copy(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!copy) vmcow::sys::throw_errno("standard output");
    return copy;
}

}  // namespace

RunOutputs::RunOutputs(const OutputOptions& options, const PipelineText& text) : options_(options) {
    if (options.json) json_.emplace(*options.json);
    if (options.html) html_.emplace(*options.html);
    if (options.ndjson) ndjson_ = open_ndjson(*options.ndjson);
    if (options.progress) live_.emplace(text, isatty(STDERR_FILENO) == 1);
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
    if (ndjson_error_ != 0) return;
    const std::string line = ndjson_of(sample);
    try {
        vmcow::sys::write_all(ndjson_.get(), std::as_bytes(std::span(line)), *options_.ndjson);
    } catch (const std::system_error& error) {
        // The pipeline goes on; the end says it.
        ndjson_error_ = error.code().value();
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
        if (ndjson_error_ != 0) vmcow::sys::throw_error(ndjson_error_, *options_.ndjson);
    });
    const bool nothing_ran = report.refused && !report.stages.front().pid;
    if (!options_.quiet && !nothing_ran) {
        const std::string table = table_of(report);
        vmcow::sys::write_all(STDERR_FILENO, std::as_bytes(std::span(table)), "standard error");
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace procrun::cli
