#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <optional>
#include <string>

#include "procrun/cli/html_report.hpp"
#include "procrun/cli/live_display.hpp"
#include "procrun/deadline.hpp"
#include "procrun/observe/pipeline_sample.hpp"
#include "procrun/pipeline/pipeline_report.hpp"
#include "vmcow/cli/kit/output_file.hpp"
#include "vmcow/cli/kit/stream_file.hpp"

namespace procrun::cli {

/// Where the reports of a run go: paths, of which "-" is standard output, and what is printed.
struct OutputOptions {
    std::optional<std::string> json;
    std::optional<std::string> ndjson;
    std::optional<std::string> html;
    std::chrono::nanoseconds interval = std::chrono::milliseconds{100};  ///< between two samples for --ndjson
    bool progress = false;
    bool quiet = false;
};

/// Writes the reports of a run, while it goes on and at its end.
class RunOutputs {
public:
    /// Checks now that all reports can be written.
    /// Throws: std::system_error with the path -- it cannot be written.
    RunOutputs(const OutputOptions& options, const PipelineText& text);

    /// PipelineOptions::on_sample; empty if no report wants samples.
    [[nodiscard]] std::function<void(const PipelineSample&)> on_sample();
    /// PipelineOptions::sample_every.
    [[nodiscard]] std::chrono::nanoseconds sample_every() const;

    /// Takes the progress off the terminal. Call it when a run has ended; another one may follow.
    void run_ended();
    /// Writes the reports of the end. Tries every file, because a full disk under one must not cost the others.
    /// Throws: std::system_error -- the first failure, also an earlier one of --ndjson.
    void finish(const PipelineReport& report);

private:
    void take(const PipelineSample& sample);
    void write_sample(const PipelineSample& sample);

    OutputOptions options_;
    std::optional<vmcow::cli::OutputFile> json_;
    std::optional<vmcow::cli::OutputFile> html_;
    std::optional<vmcow::cli::StreamFile> ndjson_;
    std::exception_ptr ndjson_failure_;
    std::optional<LiveDisplay> live_;
    Deadline next_live_ = Deadline::in({});
    Deadline next_line_ = Deadline::in({});
    SampleHistory history_;
};

}  // namespace procrun::cli
