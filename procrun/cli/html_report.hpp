#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "procrun/observe/pipeline_sample.hpp"
#include "procrun/pipeline/pipeline_report.hpp"

namespace procrun::cli {

/// The samples of a pipeline, at most as many as a page can show. At kMost, every second sample is dropped, and from
/// then on half as many are kept.
class SampleHistory {
public:
    static constexpr std::size_t kMost = 1000;

    void add(const PipelineSample& sample);
    [[nodiscard]] const std::vector<PipelineSample>& samples() const noexcept { return samples_; }

private:
    std::vector<PipelineSample> samples_;
    std::size_t every_ = 1;
    std::size_t seen_ = 0;
};

/// A page that needs no other file: what held the pipeline up, what each stage did with its time and what it used, and
/// charts of rates, memory and pipes over time. Chart.js, which draws the charts, is part of the page.
[[nodiscard]] std::string html_of(const PipelineReport& report, const std::vector<PipelineSample>& samples);

}  // namespace procrun::cli
