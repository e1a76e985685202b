#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "procrun/observe/pipeline_sample.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "vmcow/cli/kit/status_display.hpp"

namespace procrun::cli {

/// Shows on standard error what the stages do. On a terminal where no stage prints, a table is drawn in place, with a
/// line for each stage and one for the file that the first stage reads. Elsewhere, one plain line for all stages is
/// printed every few seconds.
///
///     1 zcat words.gz          writing     512 KiB/s  12.3 MiB   3.0 MiB/s  70.1 MiB
///     2 sort                   running     3.0 MiB/s  70.1 MiB           0       0 B
///     words.gz: 42 % of 29.3 MiB, 12 s left
///
/// Rates are those of the last second. Bytes are those that went through read(2) and write(2); "?" if the kernel does
/// not tell them.
class LiveDisplay {
public:
    /// `shared`: others print on the terminal that standard error leads to (StatusDisplay).
    LiveDisplay(const PipelineText& text, bool shared);

    void show(const PipelineSample& sample);
    /// Takes the lines off the terminal again.
    void clear() { display_.clear(); }
    /// What has to be printed before a text that is to begin a line (StatusDisplay::line_break).
    [[nodiscard]] std::string line_break() noexcept { return display_.line_break(); }

    /// The time between two samples that are worth showing.
    [[nodiscard]] std::chrono::nanoseconds interval() const noexcept;

private:
    struct Point {
        double seconds;
        std::vector<TransferredBytes> transferred;
        std::uint64_t position;
    };

    [[nodiscard]] std::vector<std::string> table_of(const PipelineSample& sample, std::size_t rows) const;
    [[nodiscard]] std::string line_of(const PipelineSample& sample, std::size_t index) const;
    [[nodiscard]] std::string plain_line_of(const PipelineSample& sample) const;
    [[nodiscard]] std::string input_line(const PipelineSample& sample) const;
    [[nodiscard]] double rate_of(std::uint64_t now, std::uint64_t before, double seconds) const;
    void remember(const PipelineSample& sample);

    std::vector<std::string> names_;
    vmcow::cli::StatusDisplay display_;
    std::deque<Point> points_;
};

/// A state in one word for people: "running", "reading", "writing", "waiting" or "?".
[[nodiscard]] const char* short_name_of(StageState state) noexcept;

}  // namespace procrun::cli
