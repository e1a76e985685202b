#include "vmcow/cli/report/report_section.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace vmcow::cli {
namespace {

/// Whether a byte continues a character of UTF-8.
bool continues(char c) { return (static_cast<unsigned char>(c) & 0xc0U) == 0x80U; }

/// The beginning of the character at `at`, so that a cut splits no character.
std::size_t boundary_at(const std::string& text, std::size_t at) {
    while (at > 0 && at < text.size() && continues(text[at])) --at;
    return at;
}

double block_of(const ReportJson& entry) {
    const MaybeNumber block = number_of(entry, "block_bytes");
    if (!block || *block <= 0) throw std::invalid_argument("'block_bytes' is no size");
    return *block;
}

/// `low`, raised above zero: a band that reaches zero would have no end on a logarithmic axis.
MaybeNumber above_zero(const MaybeNumber& low, const MaybeNumber& middle) {
    if (!low || !middle) return std::nullopt;
    return std::max(*low, *middle / 1000);
}

/// What the model expects for each block size, as amplification: bytes copied for each byte of `logical`.
Series model_series(const std::vector<ReportJson>& entries, double logical) {
    Series model{.name = "model ± 1 σ", .points = {}, .style = SeriesStyle::model};
    for (const ReportJson& entry : entries) {
        const MaybeNumber expected = number_of(entry, "expected_bytes");
        const MaybeNumber sigma = number_of(entry, "sigma_bytes");
        Point point{.x = block_of(entry), .y = expected ? MaybeNumber(*expected / logical) : std::nullopt};
        if (expected && sigma) {
            point.low = above_zero((*expected - *sigma) / logical, point.y);
            point.high = (*expected + *sigma) / logical;
        }
        model.points.push_back(point);
    }
    return model;
}

bool all_unknown(const Series& series) {
    return std::none_of(series.points.begin(), series.points.end(), [](const Point& point) { return point.y; });
}

/// The bytes that the amplification of `entries` is relative to; nullopt if no entry tells.
MaybeNumber base_bytes(const std::vector<ReportJson>& entries) {
    for (const ReportJson& entry : entries) {
        const MaybeNumber copied = number_of(entry, "copied_bytes");
        const MaybeNumber amplification = number_of(entry, "amplification");
        if (copied && amplification && *copied > 0 && *amplification > 0) return *copied / *amplification;
    }
    return std::nullopt;
}

Chart amplification_chart(const std::vector<ReportJson>& entries, const MaybeNumber& best) {
    Chart chart{.title = "Amplification against block size",
                .caption = "Bytes that would have been copied for each byte written, had the block been of this size.",
                .x = {"block size", Unit::bytes, true},
                .y = {"bytes copied for each byte written", Unit::times, true},
                .series = {},
                .marked_x = best};
    if (best) chart.caption += fmt::format(" ◆ the best block size: {}.", format_value(best, Unit::bytes));
    Series measured{.name = "from the bytes that changed", .points = {}};
    for (const ReportJson& entry : entries) {
        measured.points.push_back({.x = block_of(entry), .y = number_of(entry, "amplification")});
    }
    chart.series.push_back(std::move(measured));
    if (const MaybeNumber base = base_bytes(entries)) {
        Series model = model_series(entries, *base);
        if (!all_unknown(model)) chart.series.push_back(std::move(model));
    }
    return chart;
}

Chart bytes_chart(const std::vector<ReportJson>& entries, const MaybeNumber& best) {
    Chart chart{.title = "What a block size costs",
                .caption = "Copied bytes, what keeping track of blocks takes, and both together.",
                .x = {"block size", Unit::bytes, true},
                .y = {"bytes", Unit::bytes, true},
                .series = {},
                .marked_x = best};
    struct Line {
        const char* key;
        const char* name;
    };
    for (const Line& line : {Line{"copied_bytes", "copied"}, Line{"overhead_bytes", "bookkeeping"},
                             Line{"total_bytes", "in all"}, Line{"children_copied_bytes", "copied by all children"}}) {
        Series series{.name = line.name, .points = {}};
        for (const ReportJson& entry : entries) {
            series.points.push_back({.x = block_of(entry), .y = number_of(entry, line.key)});
        }
        if (!all_unknown(series)) chart.series.push_back(std::move(series));
    }
    return chart;
}

}  // namespace

void add_what_if(const ReportJson& document, Section& section) {
    std::vector<ReportJson> entries = objects_of(document, "what_if");
    if (entries.empty()) return;
    std::stable_sort(entries.begin(), entries.end(),
                     [](const ReportJson& a, const ReportJson& b) { return block_of(a) < block_of(b); });
    const MaybeNumber best = number_of(document, "best_block_bytes");
    section.charts.push_back(amplification_chart(entries, best));
    section.overlays.push_back(section.charts.back());
    Chart bytes = bytes_chart(entries, best);
    if (!bytes.series.empty()) section.charts.push_back(std::move(bytes));
}

std::string shortened(const std::string& text, std::size_t most) {
    if (text.size() <= most) return text;
    const std::size_t front = boundary_at(text, most / 2);
    const std::size_t back = boundary_at(text, text.size() - (most - most / 2 - 1));
    return text.substr(0, front) + "…" + text.substr(back);
}

BudgetFigures spent_of(const MaybeNumber& copied_bytes, const MaybeNumber& amplification,
                       const MaybeNumber& identical_share) {
    BudgetFigures spent{.copied_bytes = {}, .amplification = amplification, .identical_share = identical_share};
    if (copied_bytes && *copied_bytes >= 0 && *copied_bytes < 0x1p64) {
        spent.copied_bytes = static_cast<std::uint64_t>(*copied_bytes);
    }
    return spent;
}

std::string cell_of(const ReportJson& object, const char* key, Unit unit) {
    return format_value(number_of(object, key), unit);
}

Section section_of(const ReportInput& input) {
    Section section;
    switch (kind_of(input.document)) {
        case ReportKind::measure:
            section = measure_section(input.document);
            break;
        case ReportKind::watch:
            section = watch_section(input.document);
            break;
        case ReportKind::compare:
            section = compare_section(input.document);
            break;
    }
    // The user has chosen the title, so it comes before what the document is about.
    const std::string title = text_of(input.document, "title");
    if (!title.empty()) section.title = title + ": " + section.title;
    add_own_figures(input.document, section);
    section.notes = notes_of(input.document);
    section.notes.insert(section.notes.end(), input.notes.begin(), input.notes.end());
    return section;
}

}  // namespace vmcow::cli
