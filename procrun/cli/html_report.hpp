#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "procrun/pipeline.hpp"
#include "procrun/pipeline_sample.hpp"

namespace procrun::cli {

/// The samples of a pipeline, at most so many that a page can show them: when there are more, every second one is let
/// go, and from then on half as many are taken.
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

/// A page that needs nothing but itself: what held the pipeline up, what each stage did with its time and used, and
/// charts of rates, memory and pipes over time. The charts are drawn by Chart.js, which is part of the page.
[[nodiscard]] std::string html_of(const PipelineReport& report, const std::vector<PipelineSample>& samples);

}  // namespace procrun::cli
