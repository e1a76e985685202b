#include "procrun/cli/live_display.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>

#include "vmcow/cli/kit/human.hpp"

namespace procrun::cli {

namespace {

using vmcow::cli::fitted;
using vmcow::cli::human_bytes;
using vmcow::cli::human_seconds;

constexpr double kRateSeconds = 1;
constexpr std::size_t kNameColumns = 24;
constexpr std::size_t kInputColumns = 80;
constexpr std::size_t kRowsBeside = 3;  // the heading, the file, and where the cursor stands

std::string rate_text(double bytes_per_second) {
    return human_bytes(static_cast<std::uint64_t>(std::max(0.0, bytes_per_second))) + "/s";
}

}  // namespace

const char* short_name_of(StageState state) noexcept {
    switch (state) {
        case StageState::running:
            return "running";
        case StageState::blocked_read:
            return "reading";
        case StageState::blocked_write:
            return "writing";
        case StageState::waiting:
            return "waiting";
        case StageState::unknown:
            break;
    }
    return "?";
}

LiveDisplay::LiveDisplay(const PipelineText& text, bool shared) : display_(STDERR_FILENO, shared) {
    for (const StageText& stage : text.stages) {
        names_.push_back(stage.name.empty() ? quote_words(stage.argv) : stage.name);
    }
}

std::chrono::nanoseconds LiveDisplay::interval() const noexcept {
    return display_.is_on_terminal() ? std::chrono::milliseconds{200} : std::chrono::seconds{2};
}

void LiveDisplay::show(const PipelineSample& sample) {
    display_.show([&](const vmcow::sys::TerminalSize& size) { return table_of(sample, size.rows); },
                  [&] { return plain_line_of(sample); });
    remember(sample);
}

void LiveDisplay::remember(const PipelineSample& sample) {
    Point point{sample.seconds, {}, sample.input ? sample.input->position : 0};
    for (const StageSample& stage : sample.stages) {
        point.transferred.push_back(stage.view.transferred.value_or(TransferredBytes{}));
    }
    points_.push_back(std::move(point));
    while (points_.size() > 2 && sample.seconds - points_[1].seconds > kRateSeconds) points_.pop_front();
}

double LiveDisplay::rate_of(std::uint64_t now, std::uint64_t before, double seconds) const {
    return seconds > 0 && now > before ? static_cast<double>(now - before) / seconds : 0;
}

std::string LiveDisplay::line_of(const PipelineSample& sample, std::size_t index) const {
    const StageSample& stage = sample.stages[index];
    const char* const state = stage.running ? short_name_of(stage.view.state) : "ended";
    std::string line =
        fmt::format("{:>2} {:<{}} {:<8}", index + 1, fitted(names_[index], kNameColumns), kNameColumns, state);
    if (!stage.view.transferred) return line + fmt::format("{:>12}{:>10}{:>12}{:>10}", "?", "?", "?", "?");
    const TransferredBytes now = *stage.view.transferred;
    const TransferredBytes before = points_.empty() ? TransferredBytes{} : points_.front().transferred[index];
    const double seconds = sample.seconds - (points_.empty() ? 0 : points_.front().seconds);
    return line + fmt::format("{:>12}{:>10}{:>12}{:>10}", rate_text(rate_of(now.read, before.read, seconds)),
                              human_bytes(now.read), rate_text(rate_of(now.written, before.written, seconds)),
                              human_bytes(now.written));
}

std::string LiveDisplay::input_line(const PipelineSample& sample) const {
    const FilePosition& input = *sample.input;
    const double share = input.bytes > 0 ? static_cast<double>(input.position) / static_cast<double>(input.bytes) : 0;
    const std::string name = std::filesystem::path(input.file).filename().string();
    std::string line = fmt::format("{}: {:.0f} % of {}", name, 100 * std::min(1.0, share), human_bytes(input.bytes));
    const std::uint64_t before = points_.empty() ? 0 : points_.front().position;
    const double rate =
        rate_of(input.position, before, sample.seconds - (points_.empty() ? 0 : points_.front().seconds));
    if (rate > 0 && input.position < input.bytes) {
        line += fmt::format(", {} left", human_seconds(static_cast<double>(input.bytes - input.position) / rate));
    }
    return line;
}

std::vector<std::string> LiveDisplay::table_of(const PipelineSample& sample, std::size_t rows) const {
    std::vector<std::string> lines;
    lines.push_back(fmt::format("{:>2} {:<{}} {:<8}{:>12}{:>10}{:>12}{:>10}", "", "stage", kNameColumns, "now", "reads",
                                "read", "writes", "written"));
    const std::size_t stages = sample.stages.size();
    const std::size_t room = rows > kRowsBeside ? rows - kRowsBeside : 1;
    const std::size_t shown = stages <= room ? stages : room - 1;
    for (std::size_t i = 0; i < shown; ++i) lines.push_back(line_of(sample, i));
    if (shown < stages) lines.push_back(fmt::format("   and {} more", stages - shown));
    if (sample.input) lines.push_back(input_line(sample));
    return lines;
}

std::string LiveDisplay::plain_line_of(const PipelineSample& sample) const {
    std::string line = fmt::format("procrun run: {}", human_seconds(sample.seconds));
    for (std::size_t i = 0; i < sample.stages.size(); ++i) {
        const StageSample& stage = sample.stages[i];
        line += fmt::format("; {} {} {}", i + 1, fitted(names_[i], kNameColumns),
                            stage.running ? short_name_of(stage.view.state) : "ended");
        if (!stage.view.transferred) continue;
        line += fmt::format(", read {}, written {}", human_bytes(stage.view.transferred->read),
                            human_bytes(stage.view.transferred->written));
    }
    if (sample.input) line += "; " + fitted(input_line(sample), kInputColumns);
    return line;
}

}  // namespace procrun::cli
