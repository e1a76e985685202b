#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "vmcow/cli/kit/human.hpp"
#include "vmcow/cli/measure/measure_formats.hpp"
#include "vmcow/cli/measure/what_if_formats.hpp"

namespace vmcow::cli {
namespace {

using meter::ViewRun;
using meter::Workload;

std::string bytes_or_unknown(const std::optional<std::uint64_t>& bytes) {
    return bytes ? human_bytes(*bytes) : "unknown";
}

std::string number_or_unknown(const std::optional<double>& number, const char* unit = "") {
    return number ? fmt::format("{:.4g}{}", *number, unit) : "?";
}

std::string residual_text(const std::optional<double>& residual) {
    return residual ? fmt::format("{:+.2f} σ", *residual) : "?";
}

std::string model_text(const meter::Expectation& expected, const std::optional<double>& residual) {
    const double blocks = expected.blocks;
    if (!expected.sigma) return fmt::format("{:.1f} pages, deviation unknown", blocks);
    if (*expected.sigma > 0) {
        const int digits = *expected.sigma < 1 ? 3 : 1;
        return fmt::format("{:.{}f} ± {:.{}f} pages (1 σ); measured: {:+.2f} σ from it", blocks, digits,
                           *expected.sigma, digits, *residual);
    }
    return fmt::format("{:.0f} pages exactly, {}", blocks, residual ? "as measured" : "which was not measured");
}

std::string identical_text(const ViewRun& run) {
    if (!run.figures.identical) return "unknown";
    return human_count(run.figures.identical->value) + " of these pages, in which nothing differs from the image";
}

std::string amplification_text(const ViewRun& run) {
    const std::optional<double> amplification = run.figures.amplification();
    return amplification ? fmt::format("{:.4g} bytes copied for each byte written", *amplification) : "unknown";
}

std::string time_text(const ViewRun& run) {
    std::string text = human_seconds(run.seconds);
    if (run.figures.copied.value == 0) return text;
    return text + ", " + human_seconds(run.seconds / static_cast<double>(run.figures.copied.value)) + " a page copied";
}

/// "100,000 writes of 8 B, uniform, seed 1"
std::string writes_text(const MeasureOptions& options) {
    const Workload& workload = options.workload;
    const std::string count = fmt::format("{} write{}", human_count(workload.writes), workload.writes == 1 ? "" : "s");
    if (options.trace) return fmt::format("{} of the trace '{}'", count, *options.trace);
    return fmt::format("{} of {}, {}{}, seed {}", count, human_bytes(workload.write_bytes), name_of(workload.pattern),
                       workload.aligned ? ", aligned" : "", workload.seed);
}

std::string headline(const MeasureOptions& options, const MeasureResult& result) {
    std::string where = "into a private view";
    if (!result.children.empty())
        where = fmt::format("in each of {} children at once, with seeds from there on, into a view", options.children);
    if (!result.levels.empty())
        where = fmt::format("in each of {} nested calls, with seeds from there on, into a view", options.levels);
    return fmt::format("{}, {} of an image of {} in {} pages\n\n", writes_text(options), where,
                       human_bytes(options.workload.size_bytes),
                       result.image_page_bytes() == kHugeBytes ? "2 MiB" : "4 KiB");
}

std::string row(std::string_view name, const std::string& value) { return fmt::format("  {:<16}{}\n", name, value); }

std::string totals(const MeasureOptions& options, const MeasureResult& result) {
    const ViewRun& run = result.total;
    const meter::CopyFigures& figures = run.figures;
    const std::uint64_t views = result.children.size() + result.levels.size();
    const std::uint64_t pages = pages_of(options.workload.size_bytes).value * (views == 0 ? 1 : views);
    std::string text = row("written", bytes_or_unknown(figures.logical_bytes));
    text += row("distinct", bytes_or_unknown(figures.distinct_bytes) + ", each address counted once");
    text += row("changed", bytes_or_unknown(figures.changed_bytes) + " differ from the image");
    text +=
        row("copied", fmt::format("{}: {} of {} pages, counted by {}", human_bytes(figures.copied_bytes()),
                                  human_count(figures.copied.value), human_count(pages), name_of(result.page_scan)));
    text += row("  model", model_text(run.expected, result.residual));
    text += row("  identical", identical_text(run));
    text += row("amplification", amplification_text(run));
    text += row("minor faults", human_count(run.minor_faults));
    text += row("page tables", bytes_or_unknown(figures.page_table_bytes) + " more");
    text += row("resident", bytes_or_unknown(figures.resident_bytes) + (views == 0 ? " of the view" : " of the views"));
    if (views > 0)
        text +=
            row("memory", bytes_or_unknown(result.memory_bytes()) + ": the image, all copies and their page tables");
    text += row("time", time_text(run));
    return text;
}

std::string runs_heading(std::string_view first) {
    return fmt::format("\n  {:>13}  {:>12}  {:>11}  {:>11}  {:>9}  {:>9}  {:>9}  {:>9}\n", first, "copied pages",
                       "copied", "changed", "identical", "amplif.", "to model", "time");
}

std::string run_line(const std::string& first, const ViewRun& run, const std::optional<double>& residual) {
    // σ is one column wide and two bytes long, which {fmt} knows.
    return fmt::format(
        "  {:>13}  {:>12}  {:>11}  {:>11}  {:>9}  {:>9}  {:>9}  {:>9}\n", first, human_count(run.figures.copied.value),
        human_bytes(run.figures.copied_bytes()), bytes_or_unknown(run.figures.changed_bytes),
        run.figures.identical ? human_count(run.figures.identical->value) : "?",
        number_or_unknown(run.figures.amplification()), residual_text(residual), human_seconds(run.seconds));
}

std::string children_text(const MeasureResult& result) {
    std::string text = runs_heading("child");
    for (std::size_t i = 0; i < result.children.size(); ++i) {
        text += run_line(std::to_string(i + 1), result.children[i], result.children[i].residual());
    }
    return text;
}

std::string levels_text(const MeasureResult& result) {
    std::string text = runs_heading("level");
    std::uint64_t placed = 0;
    for (std::size_t i = 0; i < result.levels.size(); ++i) {
        text += run_line(std::to_string(i + 1), result.levels[i].run, result.levels[i].residual());
        placed += result.levels[i].placed_written.value;
    }
    if (placed > 0) {
        text += fmt::format(
            "  {} more of the written pages had been copied before, when short runs of earlier levels were mapped\n",
            human_count(placed));
    }
    return text;
}

/// A line for each run, with room for the model's ± beside what was measured.
std::string sweep_text(const MeasureOptions& options, const MeasureResult& result) {
    std::string text = fmt::format("  {:>15}  {:>12}  {:>22}  {:>9}  {:>11}  {:>11}  {:>9}\n", "writes", "copied pages",
                                   "model", "from it", "copied", "changed", "amplif.");
    for (std::size_t i = 0; i < result.sweep.size(); ++i) {
        const ViewRun& run = result.sweep[i];
        const std::string model = fmt::format("{:.1f} ± {}", run.expected.blocks,
                                              run.expected.sigma ? fmt::format("{:.1f}", *run.expected.sigma) : "?");
        text += fmt::format("  {:>15}  {:>12}  {:>22}  {:>9}  {:>11}  {:>11}  {:>9}\n", human_count(options.writes[i]),
                            human_count(run.figures.copied.value), model, residual_text(run.residual()),
                            human_bytes(run.figures.copied_bytes()), bytes_or_unknown(run.figures.changed_bytes),
                            number_or_unknown(run.figures.amplification()));
    }
    return text;
}

std::string call_line(const char* name, const meter::ResidentCall& call) {
    return fmt::format(
        "  {:<8}{:>12} faults, {:>12} pages copied, {:>9}; then {} of {} changed pages refreshed in {} ({})\n", name,
        human_count(call.minor_faults), human_count(call.copied.value), human_seconds(call.seconds),
        human_count(call.refreshed.value), human_count(call.changed.value), human_seconds(call.restore_seconds),
        describe(call.preparation));
}

std::string resident_text(const meter::ResidentRun& run) {
    return fmt::format("\nthe same writes twice over a view that keeps its pages: {} faults saved, {} pages kept\n",
                       human_count(run.faults_saved()), human_count(run.resident.value)) +
           call_line("first", run.first) + call_line("again", run.again);
}

}  // namespace

std::string measure_text(const MeasureOptions& options, const MeasureResult& result) {
    std::string text = headline(options, result);
    if (result.sweep.empty()) text += totals(options, result);
    if (!result.children.empty()) text += children_text(result);
    if (!result.levels.empty()) text += levels_text(result);
    if (!result.sweep.empty()) text += sweep_text(options, result);
    if (result.resident) text += resident_text(*result.resident);
    const char* const whose = !result.children.empty() ? " of the first child"
                              : !result.levels.empty() ? " of the first level"
                                                       : "";
    text += fmt::format("\nhad the blocks been of another size, these changes{}{} would have cost\n", whose,
                        result.sweep.empty() ? "" : " of the last run");
    text += what_if_text(result.what_if, options.children);
    for (const std::string& note : result.notes) text += "note: " + note + "\n";
    return text;
}

}  // namespace vmcow::cli
