#include "procrun/cli/report_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string_view>
#include <vector>

#include "procrun/pipeline/pipeline_text.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"

namespace procrun::cli {

namespace {

constexpr std::size_t kColumns = 80;
constexpr std::size_t kLabelColumns = 5;  // "stage", "total"
constexpr std::array<std::string_view, 6> kQuantities{"wall", "user", "system", "read", "written", "peak"};

/// One line of the table: right-aligned quantities, then the outcome.
struct Row {
    std::string label;
    std::array<std::string, kQuantities.size()> quantities;
    std::string outcome;
    std::string heading;  ///< a line of its own above
    std::string shares;   ///< a line of its own below
    std::string values;   ///< a second line below, for a stage that values came by
};

std::size_t columns_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

/// The first `columns` characters of `text`; the last is "…" if some are left out.
std::string shortened(const std::string& text, std::size_t columns) {
    if (columns_of(text) <= columns) return text;
    std::size_t bytes = 0;
    for (std::size_t seen = 0; bytes < text.size(); ++bytes) {
        const bool begins = (static_cast<unsigned char>(text[bytes]) & 0xC0U) != 0x80U;
        if (begins && seen++ == columns - 1) break;
    }
    return text.substr(0, bytes) + "…";
}

std::string cell(const StageReport& stage, const std::optional<double>& seconds) {
    if (!stage.pid) return "-";
    return seconds ? vmcow::cli::human_seconds(*seconds) : "?";
}

std::string cell(const StageReport& stage, const std::optional<std::uint64_t>& bytes) {
    if (!stage.pid) return "-";
    return bytes ? vmcow::cli::human_bytes(*bytes) : "?";
}

/// `text` in lines that a terminal has room for, broken at blanks.
std::string wrapped(std::string text) {
    std::string lines;
    while (columns_of(text) > kColumns) {
        const std::size_t blank = text.rfind(' ', kColumns);
        if (blank == std::string::npos || blank == 0) break;
        lines += text.substr(0, blank) + "\n";
        text.erase(0, blank + 1);
    }
    return lines + text + "\n";
}

std::string percent(const std::optional<double>& share) { return share ? fmt::format("{:.0f} %", 100 * *share) : "?"; }

std::string shares_text(const StageShares& shares) {
    return fmt::format("running {}, blocked reading {}, writing {}, waiting {}", percent(shares.running),
                       percent(shares.blocked_read), percent(shares.blocked_write), percent(shares.waiting));
}

std::string values_text(const std::optional<StageValues>& values) {
    if (!values || *values == StageValues{}) return {};
    std::string text =
        fmt::format("values taken {}, given {}, passed on {}", values->taken, values->given, values->passed_on);
    if (values->given > 0) text += fmt::format(", new pages {}", values->new_pages);
    if (values->untaken > 0) text += fmt::format(", taken by nobody {}", values->untaken);
    return text;
}

nlohmann::ordered_json json_of(const std::optional<StageValues>& values) {
    if (!values) return {};
    return {{"taken", values->taken},
            {"given", values->given},
            {"passed_on", values->passed_on},
            {"new_pages", values->new_pages},
            {"untaken", values->untaken}};
}

Row row_of(const StageReport& stage, std::size_t number) {
    const std::string name = stage.name.empty() ? std::string() : stage.name + ": ";
    const std::string words = vmcow::cli::one_line(name + quote_words(stage.argv));
    return {.label = {},
            .quantities = {cell(stage, stage.wall_seconds), cell(stage, stage.user_seconds),
                           cell(stage, stage.system_seconds), cell(stage, stage.read_bytes),
                           cell(stage, stage.written_bytes), cell(stage, stage.peak_bytes)},
            .outcome = vmcow::cli::one_line(stage.outcome.describe()),
            .heading = shortened(fmt::format("{:<{}}  {}", number, kLabelColumns, words), kColumns),
            .shares = stage.pid ? shares_text(stage.shares) : std::string(),
            .values = values_text(stage.values)};
}

std::vector<Row> rows_of(const PipelineReport& report) {
    std::vector<Row> rows(1);
    rows.front().label = "stage";
    std::copy(kQuantities.begin(), kQuantities.end(), rows.front().quantities.begin());
    rows.front().outcome = "outcome";
    for (std::size_t i = 0; i < report.stages.size(); ++i) rows.push_back(row_of(report.stages[i], i + 1));
    Row& total = rows.emplace_back();
    total.label = "total";
    total.quantities.front() = vmcow::cli::human_seconds(report.wall_seconds);
    total.outcome = fmt::format("status {}", report.status);
    return rows;
}

template <class Value>
nlohmann::ordered_json json_of(const std::optional<Value>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

nlohmann::ordered_json memory_limit_by(const StageReport& stage) {
    return stage.memory_limit_by ? nlohmann::ordered_json(name_of(*stage.memory_limit_by)) : nlohmann::ordered_json();
}

}  // namespace

std::string table_of(const PipelineReport& report) {
    const std::vector<Row> rows = rows_of(report);
    std::array<std::size_t, kQuantities.size()> widths{};
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], columns_of(row.quantities[i]));
    }
    std::size_t outcome_columns = 0;
    for (const Row& row : rows) outcome_columns = std::max(outcome_columns, columns_of(row.outcome));
    // Two columns between two quantities, or one if a line would otherwise be wider than a terminal.
    constexpr std::size_t kTerminalColumns = 80;
    const std::size_t columns = std::accumulate(widths.begin(), widths.end(), kLabelColumns + outcome_columns);
    const std::size_t gap = columns + 2 * (widths.size() + 1) <= kTerminalColumns ? 2 : 1;
    std::string table;
    for (const Row& row : rows) {
        if (!row.heading.empty()) table += row.heading + "\n";
        table += fmt::format("{:<{}}", row.label, kLabelColumns);
        for (std::size_t i = 0; i < widths.size(); ++i) {
            table += fmt::format("{:{}}{:>{}}", "", gap, row.quantities[i], widths[i]);
        }
        table += fmt::format("{:{}}{}\n", "", gap, row.outcome);
        for (const std::string& line : {row.shares, row.values}) {
            if (!line.empty()) table += fmt::format("{:{}}{}\n", "", kLabelColumns + gap, line);
        }
    }
    for (std::size_t i = 0; i < report.stages.size(); ++i) {
        if (!is_excused(report.stages, i)) continue;
        table +=
            fmt::format("stage {}: SIGPIPE is no failure, because the stage that read from it ended well\n", i + 1);
    }
    if (!report.refused) table += wrapped(vmcow::cli::one_line(report.bottleneck.reason));
    return table;
}

std::string json_of(const PipelineReport& report) {
    using Json = nlohmann::ordered_json;
    Json stages = Json::array();
    for (const StageReport& stage : report.stages) {
        Json readers = Json::array();
        for (const std::size_t reader : stage.readers) readers.push_back(reader + 1);
        stages.push_back({{"name", stage.name.empty() ? Json() : Json(stage.name)},
                          {"argv", stage.argv},
                          {"pid", json_of(stage.pid)},
                          {"outcome",
                           {{"kind", name_of(stage.outcome.kind)},
                            {"code", stage.outcome.code},
                            {"text", stage.outcome.describe()}}},
                          {"wall_seconds", json_of(stage.wall_seconds)},
                          {"user_seconds", json_of(stage.user_seconds)},
                          {"system_seconds", json_of(stage.system_seconds)},
                          {"read_bytes", json_of(stage.read_bytes)},
                          {"written_bytes", json_of(stage.written_bytes)},
                          {"peak_bytes", json_of(stage.peak_bytes)},
                          {"running_share", json_of(stage.shares.running)},
                          {"blocked_read_share", json_of(stage.shares.blocked_read)},
                          {"blocked_write_share", json_of(stage.shares.blocked_write)},
                          {"waiting_share", json_of(stage.shares.waiting)},
                          {"minor_faults", json_of(stage.minor_faults)},
                          {"major_faults", json_of(stage.major_faults)},
                          {"copied_pages", json_of(stage.copied_pages)},
                          {"values", json_of(stage.values)},
                          {"readers", readers},
                          {"pipe_bytes", json_of(stage.pipe_bytes)},
                          {"memory_limit_by", memory_limit_by(stage)},
                          {"limits_unknown", stage.limits_unknown}});
    }
    const Json document = {{"status", report.status},
                           {"wall_seconds", report.wall_seconds},
                           {"attempts", report.attempts},
                           {"pump_failure", report.pump_failure.empty() ? Json() : Json(report.pump_failure)},
                           {"values", report.values.size()},
                           {"untaken_values", report.untaken_values},
                           {"bottleneck",
                            {{"stage", report.bottleneck.stage ? Json(*report.bottleneck.stage + 1) : Json()},
                             {"reason", report.bottleneck.reason}}},
                           {"stages", stages}};
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace procrun::cli
