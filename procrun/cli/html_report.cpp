#include "procrun/cli/html_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "procrun/pipeline/pipeline_text.hpp"
#include "vmcow/cli/kit/html_document.hpp"
#include "vmcow/cli/kit/human.hpp"

namespace procrun::cli {

namespace {

using Json = nlohmann::ordered_json;
using vmcow::cli::escape_html;
using vmcow::cli::human_bytes;
using vmcow::cli::human_seconds;

/// Rates are taken over at least so long, because the bytes of a sample may be 100 ms old.
constexpr double kRateSeconds = 0.4;

/// Draws the charts of the page's data.
constexpr const char* kScript = R"(
function overTime(id, key, format, most) {
  chart(id, () => ({ type: 'line', data: { datasets: data.stages.map((name, i) => ({
      label: name, borderColor: colour(i), backgroundColor: colour(i),
      borderWidth: 1.5, pointRadius: 0, data: data.samples.map(s => ({ x: s.seconds, y: s[key][i] })) })) },
    options: { parsing: false, normalized: true, interaction: { mode: 'index', intersect: false },
      plugins: { tooltip: { callbacks: { label: c => c.dataset.label + ': ' + format(c.parsed.y) } } },
      scales: { x: { type: 'linear', title: { display: true, text: 'seconds' } },
                y: { beginAtZero: true, max: most, ticks: { callback: format },
                     afterBuildTicks: most ? undefined : byteTicks } } } }));
}
const kinds = [['running', () => colour(2)], ['blocked reading', () => colour(0)], ['blocked writing', () => colour(3)],
               ['waiting otherwise', () => colour(9)], ['unknown', () => variable('--grid')]];
chart('shares', () => ({ type: 'bar',
  data: { labels: data.stages, datasets: kinds.map(([label, paint], k) => ({
    label, backgroundColor: paint(), data: data.shares.map(s => 100 * s[k]) })) },
  options: { indexAxis: 'y',
    plugins: { tooltip: { callbacks: { label: c => c.dataset.label + ': ' + c.parsed.x.toFixed(0) + ' %' } } },
    scales: { x: { stacked: true, max: 100, title: { display: true, text: '% of its life' } },
              y: { stacked: true } } } }));
overTime('written', 'written', n => bytes(n) + '/s');
overTime('read', 'read', n => bytes(n) + '/s');
overTime('memory', 'memory', bytes);
overTime('fill', 'fill', n => n.toFixed(0) + ' %', 100);
)";

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

/// What the charts show of one moment: a number for each stage, null if it is unknown.
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
    return data.dump(-1, ' ', false, Json::error_handler_t::replace);
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
        rows += fmt::format("<tr><td>{}</td><td class=\"text\"><code>{}</code></td>", i + 1,
                            escape_html(quote_words(stage.argv)));
        rows += cell(stage.wall_seconds, human_seconds) + cell(stage.user_seconds, human_seconds) +
                cell(stage.system_seconds, human_seconds) + cell(stage.read_bytes, human_bytes) +
                cell(stage.written_bytes, human_bytes) + cell(stage.peak_bytes, human_bytes) +
                cell(stage.minor_faults, vmcow::cli::human_count) + cell(stage.shares.running, percent) +
                cell(stage.shares.blocked_read, percent) + cell(stage.shares.blocked_write, percent) +
                cell(stage.shares.waiting, percent);
        rows += fmt::format("<td class=\"text\">{}</td></tr>\n", escape_html(stage.outcome.describe()));
    }
    return rows;
}

std::string chart(std::string_view id, std::string_view title, std::string_view classes = "card") {
    return fmt::format(
        "<section class=\"{}\"><h3>{}</h3><div class=\"chart\"><canvas id=\"{}\"></canvas></div></section>\n", classes,
        title, id);
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
    std::string body =
        fmt::format("<h1>A pipeline of {} in {}, status {}</h1>\n<p class=\"verdict\">{}</p>\n",
                    report.stages.size() == 1 ? "one stage" : fmt::format("{} stages", report.stages.size()),
                    human_seconds(report.wall_seconds), report.status, escape_html(report.bottleneck.reason));
    body +=
        "<div class=\"table\"><table><tr><th></th><th "
        "class=\"text\">program</th><th>wall</th><th>user</th><th>system</th>"
        "<th>read</th><th>written</th><th>peak memory</th><th>page "
        "faults</th><th>running</th><th>blocked<br>reading</th>"
        "<th>blocked<br>writing</th><th>waiting</th><th class=\"text\">outcome</th></tr>\n";
    body += rows_of(report) + "</table></div>\n<div class=\"cards\">\n";
    body += chart("shares", "What each stage did with its time", "card wide");
    body += chart("written", "Bytes written, a second") + chart("read", "Bytes read, a second");
    body += chart("memory", "Resident memory") + chart("fill", "How full the pipe is that a stage reads from");
    body += "</div>\n";
    return vmcow::cli::html_document(
        {.title = "procrun run", .body = body, .json = data_of(report, samples), .script = kScript});
}

}  // namespace procrun::cli
