#include "procrun/cli/live_display.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <system_error>

#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/human.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun::cli {

namespace {

using vmcow::cli::human_bytes;
using vmcow::cli::human_seconds;

constexpr double kRateSeconds = 1;
constexpr std::size_t kNameColumns = 24;
constexpr std::size_t kFallbackColumns = 80;

std::size_t terminal_columns() {
    winsize size{};
    const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : kFallbackColumns;
}

std::string rate_text(double bytes_per_second) {
    return human_bytes(static_cast<std::uint64_t>(std::max(0.0, bytes_per_second))) + "/s";
}

/// Every character takes one column: what is no ASCII becomes "?".
std::string fitted(const std::string& text, std::size_t columns) {
    std::string shown;
    for (const char c : vmcow::cli::one_line(text)) {
        if ((static_cast<unsigned char>(c) & 0xC0U) == 0x80U) continue;
        shown += static_cast<unsigned char>(c) < 0x80U ? c : '?';
    }
    if (shown.size() > columns) shown.resize(columns);
    return shown;
}

/// What nobody can read must not end the pipeline.
void print(const std::string& text) {
    try {
        vmcow::sys::write_all(STDERR_FILENO, std::as_bytes(std::span(text)), "standard error");
    } catch (const std::system_error&) {
    }
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

LiveDisplay::LiveDisplay(const PipelineText& text, bool terminal) : terminal_(terminal) {
    for (const StageText& stage : text.stages) {
        names_.push_back(stage.name.empty() ? quote_words(stage.argv) : stage.name);
    }
}

std::chrono::nanoseconds LiveDisplay::interval() const noexcept {
    return terminal_ ? std::chrono::milliseconds{200} : std::chrono::seconds{2};
}

void LiveDisplay::show(const PipelineSample& sample) {
    if (!terminal_) {
        print(plain_line_of(sample) + "\n");
    } else {
        std::string text = drawn_ > 0 ? fmt::format("\x1b[{}A", drawn_) : std::string();
        const std::vector<std::string> lines = lines_of(sample);
        for (const std::string& line : lines) text += "\r" + line + "\x1b[K\n";
        // What was drawn below this time's last line.
        if (lines.size() < drawn_) text += "\x1b[J";
        drawn_ = lines.size();
        print(text);
    }
    remember(sample);
}

void LiveDisplay::clear() {
    if (drawn_ > 0) print(fmt::format("\x1b[{}A\r\x1b[J", drawn_));
    drawn_ = 0;
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

std::vector<std::string> LiveDisplay::lines_of(const PipelineSample& sample) const {
    const std::size_t columns = terminal_columns();
    std::vector<std::string> lines;
    lines.push_back(fitted(fmt::format("{:>2} {:<{}} {:<8}{:>12}{:>10}{:>12}{:>10}", "", "stage", kNameColumns, "now",
                                       "reads", "read", "writes", "written"),
                           columns - 1));
    for (std::size_t i = 0; i < sample.stages.size(); ++i) lines.push_back(fitted(line_of(sample, i), columns - 1));
    if (sample.input) lines.push_back(fitted(input_line(sample), columns - 1));
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
    if (sample.input) line += "; " + fitted(input_line(sample), kFallbackColumns);
    return line;
}

}  // namespace procrun::cli
