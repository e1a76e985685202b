#include "procrun/cli/html_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "procrun/cli/chart_library.hpp"
#include "procrun/pipeline_text.hpp"
#include "vmcow/cli/human.hpp"

namespace procrun::cli {

namespace {

using Json = nlohmann::ordered_json;
using vmcow::cli::human_bytes;
using vmcow::cli::human_seconds;

/// Rates are those of so long at least: the bytes that a sample has may be 100 ms old.
constexpr double kRateSeconds = 0.4;

constexpr const char* kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>procrun run</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; color: #222; }
h1 { font-size: 1.3em; } h2 { font-size: 1.05em; margin: 2em 0 .4em; }
code { font-family: ui-monospace, monospace; font-size: .92em; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .92em; } th, td { padding: .25em .6em; text-align: right; white-space: nowrap; }
th { white-space: normal; } td:nth-child(2), td:last-child { white-space: normal; }
th { border-bottom: 2px solid #ccc; } td { border-bottom: 1px solid #eee; }
th:nth-child(-n+2), td:nth-child(-n+2), th:last-child, td:last-child { text-align: left; }
.verdict { background: #f4f6f8; border-left: 4px solid #4e79a7; padding: .6em 1em; }
.chart { position: relative; height: 20em; }
</style></head><body>
)";

/// Draws what is in the page's data.
constexpr const char* kScript = R"(
const data = JSON.parse(document.getElementById('data').textContent);
const colours = ['#4e79a7', '#f28e2b', '#59a14f', '#e15759', '#b07aa1', '#9c755f', '#76b7b2', '#edc948', '#ff9da7', '#bab0ac'];
const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
function bytes(n) {
  let unit = 0;
  while (n >= 1024 && unit + 1 < units.length) { n /= 1024; unit++; }
  return n.toFixed(unit ? 1 : 0) + ' ' + units[unit];
}
function overTime(id, key, format, most) {
  new Chart(document.getElementById(id), { type: 'line', data: { datasets: data.stages.map((name, i) => ({
      label: name, borderColor: colours[i % colours.length], backgroundColor: colours[i % colours.length],
      borderWidth: 1.5, pointRadius: 0, data: data.samples.map(s => ({ x: s.seconds, y: s[key][i] })) })) },
    options: { animation: false, maintainAspectRatio: false, parsing: false, normalized: true,
      interaction: { mode: 'index', intersect: false },
      plugins: { tooltip: { callbacks: { label: c => c.dataset.label + ': ' + format(c.parsed.y) } } },
      scales: { x: { type: 'linear', title: { display: true, text: 'seconds' } },
                y: { beginAtZero: true, max: most, ticks: { callback: format } } } } });
}
const kinds = [['running', '#59a14f'], ['blocked reading', '#4e79a7'], ['blocked writing', '#e15759'],
               ['waiting otherwise', '#bab0ac'], ['unknown', '#eeeeee']];
new Chart(document.getElementById('shares'), { type: 'bar',
  data: { labels: data.stages, datasets: kinds.map(([label, colour], k) => ({
    label, backgroundColor: colour, data: data.shares.map(s => 100 * s[k]) })) },
  options: { indexAxis: 'y', animation: false, maintainAspectRatio: false,
    plugins: { tooltip: { callbacks: { label: c => c.dataset.label + ': ' + c.parsed.x.toFixed(0) + ' %' } } },
    scales: { x: { stacked: true, max: 100, title: { display: true, text: '% of its life' } }, y: { stacked: true } } } });
overTime('written', 'written', n => bytes(n) + '/s');
overTime('read', 'read', n => bytes(n) + '/s');
overTime('memory', 'memory', bytes);
overTime('fill', 'fill', n => n.toFixed(0) + ' %', 100);
)";

std::string escaped(std::string_view text) {
    std::string html;
    for (const char c : text) {
        switch (c) {
            case '&':
                html += "&amp;";
                break;
            case '<':
                html += "&lt;";
                break;
            case '>':
                html += "&gt;";
                break;
            default:
                html += c;
        }
    }
    return html;
}

std::string name_of(const StageReport& stage, std::size_t index) {
    return fmt::format("{} {}", index + 1, stage.name.empty() ? stage.argv.front() : stage.name);
}

Json share_row(const StageShares& shares) {
    double known = 0;
    Json row = Json::array();
    for (const auto& share : {shares.running, shares.blocked_read, shares.blocked_write, shares.waiting}) {
        row.push_back(share.value_or(0));
        known += share.value_or(0);
    }
    row.push_back(known < 1 ? 1 - known : 0);
    return row;
}

Json rate(std::optional<std::uint64_t> now, std::optional<std::uint64_t> before, double seconds) {
    if (!now || !before || seconds <= 0) return {};
    return *now >= *before ? static_cast<double>(*now - *before) / seconds : 0.0;
}

/// What the charts show of one moment, one number a stage; null where it is unknown.
Json point_of(const PipelineSample& sample, const PipelineSample* before) {
    Json read = Json::array();
    Json written = Json::array();
    Json memory = Json::array();
    Json fill = Json::array();
    for (std::size_t i = 0; i < sample.stages.size(); ++i) {
        const StageView& view = sample.stages[i].view;
        const auto transferred = [&](const PipelineSample* of, std::uint64_t TransferredBytes::*which) {
            if (of == nullptr) return std::optional<std::uint64_t>(0);
            const auto& bytes = of->stages[i].view.transferred;
            return bytes ? std::optional((*bytes).*which) : std::nullopt;
        };
        const double seconds = sample.seconds - (before != nullptr ? before->seconds : 0);
        const auto rate_of = [&](std::uint64_t TransferredBytes::*which) {
            return rate(transferred(&sample, which), transferred(before, which), seconds);
        };
        read.push_back(rate_of(&TransferredBytes::read));
        written.push_back(rate_of(&TransferredBytes::written));
        memory.push_back(view.resident_bytes && sample.stages[i].running ? Json(*view.resident_bytes) : Json());
        const bool has_level = view.input && view.input->capacity_bytes > 0;
        fill.push_back(has_level ? Json(100.0 * static_cast<double>(view.input->queued_bytes) /
                                        static_cast<double>(view.input->capacity_bytes))
                                 : Json());
    }
    return {{"seconds", sample.seconds}, {"read", read}, {"written", written}, {"memory", memory}, {"fill", fill}};
}

std::string data_of(const PipelineReport& report, const std::vector<PipelineSample>& samples) {
    Json data = {{"stages", Json::array()}, {"shares", Json::array()}, {"samples", Json::array()}};
    for (std::size_t i = 0; i < report.stages.size(); ++i) {
        data["stages"].push_back(name_of(report.stages[i], i));
        data["shares"].push_back(share_row(report.stages[i].shares));
    }
    std::size_t before = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
        while (before + 1 < i && samples[i].seconds - samples[before + 1].seconds >= kRateSeconds) ++before;
        data["samples"].push_back(point_of(samples[i], i > 0 ? &samples[before] : nullptr));
    }
    std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
    // No word of a program ends the script element.
    for (std::size_t at = 0; (at = text.find('<', at)) != std::string::npos;) text.replace(at, 1, "\\u003c");
    return text;
}

template <class Value, class Format>
std::string cell(const std::optional<Value>& value, Format format) {
    return fmt::format("<td>{}</td>", value ? format(*value) : "?");
}

std::string rows_of(const PipelineReport& report) {
    const auto percent = [](double share) { return fmt::format("{:.0f} %", 100 * share); };
    std::string rows;
    for (std::size_t i = 0; i < report.stages.size(); ++i) {
        const StageReport& stage = report.stages[i];
        rows += fmt::format("<tr><td>{}</td><td><code>{}</code></td>", i + 1, escaped(quote_words(stage.argv)));
        rows += cell(stage.wall_seconds, human_seconds) + cell(stage.user_seconds, human_seconds) +
                cell(stage.system_seconds, human_seconds) + cell(stage.read_bytes, human_bytes) +
                cell(stage.written_bytes, human_bytes) + cell(stage.peak_bytes, human_bytes) +
                cell(stage.minor_faults, vmcow::cli::human_count) + cell(stage.shares.running, percent) +
                cell(stage.shares.blocked_read, percent) + cell(stage.shares.blocked_write, percent) +
                cell(stage.shares.waiting, percent);
        rows += fmt::format("<td>{}</td></tr>\n", escaped(stage.outcome.describe()));
    }
    return rows;
}

std::string chart(std::string_view id, std::string_view title) {
    return fmt::format("<h2>{}</h2><div class=\"chart\"><canvas id=\"{}\"></canvas></div>\n", title, id);
}

}  // namespace

void SampleHistory::add(const PipelineSample& sample) {
    if (seen_++ % every_ != 0) return;
    samples_.push_back(sample);
    if (samples_.size() < kMost) return;
    std::vector<PipelineSample> kept;
    for (std::size_t i = 0; i < samples_.size(); i += 2) kept.push_back(std::move(samples_[i]));
    samples_ = std::move(kept);
    every_ *= 2;
}

std::string html_of(const PipelineReport& report, const std::vector<PipelineSample>& samples) {
    std::string page = kHead;
    page += fmt::format("<h1>A pipeline of {} in {}, status {}</h1>\n<p class=\"verdict\">{}</p>\n",
                        report.stages.size() == 1 ? "one stage" : fmt::format("{} stages", report.stages.size()),
                        human_seconds(report.wall_seconds), report.status, escaped(report.bottleneck.reason));
    page +=
        "<table><tr><th></th><th>program</th><th>wall</th><th>user</th><th>system</th><th>read</th><th>written</th>"
        "<th>peak memory</th><th>page faults</th><th>running</th><th>blocked reading</th><th>blocked writing</th>"
        "<th>waiting</th><th>outcome</th></tr>\n";
    page += rows_of(report) + "</table>\n";
    page += chart("shares", "What each stage did with its time");
    page += chart("written", "Bytes written, a second") + chart("read", "Bytes read, a second");
    page += chart("memory", "Resident memory") + chart("fill", "How full the pipe is that a stage reads from");
    page += fmt::format("<script type=\"application/json\" id=\"data\">{}</script>\n", data_of(report, samples));
    page += fmt::format("<script>{}</script>\n<script>{}</script>\n</body></html>\n", chart_library(), kScript);
    return page;
}

}  // namespace procrun::cli
