#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "procrun/pipeline_sample.hpp"
#include "procrun/pipeline_text.hpp"

namespace procrun::cli {

/// What the stages do, on standard error while they do it: on a terminal one line for each, drawn again in place, and
/// one for the file that the first reads; otherwise one plain line for all every few seconds.
///
///     1 zcat words.gz          writing     512 KiB/s  12.3 MiB   3.0 MiB/s  70.1 MiB
///     2 sort                   running     3.0 MiB/s  70.1 MiB           0       0 B
///     words.gz: 42 % of 29.3 MiB, 12 s left
///
/// Rates are those of the last second. Bytes are those that went through read(2) and write(2); "?" where the kernel
/// does not tell.
class LiveDisplay {
public:
    /// `terminal`: whether standard error is one.
    LiveDisplay(const PipelineText& text, bool terminal);

    void show(const PipelineSample& sample);
    /// Takes the lines off the terminal again.
    void clear();

    /// How often it is worth showing something.
    [[nodiscard]] std::chrono::nanoseconds interval() const noexcept;

private:
    struct Point {
        double seconds;
        std::vector<TransferredBytes> transferred;
        std::uint64_t position;
    };

    [[nodiscard]] std::vector<std::string> lines_of(const PipelineSample& sample) const;
    [[nodiscard]] std::string line_of(const PipelineSample& sample, std::size_t index) const;
    [[nodiscard]] std::string plain_line_of(const PipelineSample& sample) const;
    [[nodiscard]] std::string input_line(const PipelineSample& sample) const;
    [[nodiscard]] double rate_of(std::uint64_t now, std::uint64_t before, double seconds) const;
    void remember(const PipelineSample& sample);

    std::vector<std::string> names_;
    bool terminal_;
    std::size_t drawn_ = 0;  ///< lines on the terminal that are ours
    std::deque<Point> points_;
};

/// "running", "reading", "writing", "waiting", "?", as lines for people have it.
[[nodiscard]] const char* short_name_of(StageState state) noexcept;

}  // namespace procrun::cli
