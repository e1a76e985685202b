#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "procrun/cli/html_report.hpp"
#include "procrun/cli/live_display.hpp"
#include "procrun/pipeline.hpp"
#include "procrun/pipeline_sample.hpp"
#include "vmcow/cli/output_file.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::cli {

/// Where a run is to be reported, beside its exit status.
struct OutputOptions {
    std::optional<std::string> json;
    std::optional<std::string> ndjson;
    std::optional<std::string> html;
    std::chrono::nanoseconds interval = std::chrono::milliseconds{100};  ///< between two samples for --ndjson
    bool progress = false;
    bool quiet = false;
};

/// All that is written of a run, while it goes on and at its end.
class RunOutputs {
public:
    /// Finds out now what cannot be written. Throws: std::system_error -- with the path.
    RunOutputs(const OutputOptions& options, const PipelineText& text);

    /// For PipelineOptions: nothing when nobody wants samples.
    [[nodiscard]] std::function<void(const PipelineSample&)> on_sample();
    [[nodiscard]] std::chrono::nanoseconds sample_every() const;

    /// A run has ended, and another one may follow: the terminal is as it was.
    void run_ended();
    /// Writes what is written at the end. Every file is tried: a full disk under one must not cost the others.
    /// Throws: std::system_error -- the first failure, also one of --ndjson from before.
    void finish(const PipelineReport& report);

private:
    void take(const PipelineSample& sample);
    void write_sample(const PipelineSample& sample);

    OutputOptions options_;
    std::optional<vmcow::cli::OutputFile> json_;
    std::optional<vmcow::cli::OutputFile> html_;
    vmcow::sys::UniqueFd ndjson_;
    int ndjson_error_ = 0;
    std::optional<LiveDisplay> live_;
    Deadline next_live_ = Deadline::in({});
    Deadline next_line_ = Deadline::in({});
    SampleHistory history_;
};

}  // namespace procrun::cli
