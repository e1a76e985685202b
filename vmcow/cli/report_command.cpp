#include "vmcow/cli/report_command.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "vmcow/cli/budget.hpp"
#include "vmcow/cli/output_file.hpp"
#include "vmcow/cli/report_page.hpp"
#include "vmcow/cli/text_chart.hpp"

namespace vmcow::cli {
namespace {

struct ReportOptions {
    std::vector<std::string> files;
    std::optional<std::string> html;
    std::optional<std::string> title;
    bool text = false;
    bool ascii = false;
    Budget budget;
    bool has_budget = false;
};

void check(const ReportOptions& options) {
    if (!options.html && !options.text && !options.has_budget) {
        throw Failure("say what is wanted: --html FILE, --text or --budget LIMITS", ExitCode::usage);
    }
    if (options.title && !options.html) throw Failure("--title is about --html", ExitCode::usage);
    if (options.ascii && !options.text) throw Failure("--ascii is about --text", ExitCode::usage);
    if (options.text && options.html == "-") {
        throw Failure("--html - and --text cannot both have standard output", ExitCode::usage);
    }
    for (const std::string& file : options.files) {
        std::error_code neither;
        if (options.html && std::filesystem::equivalent(file, *options.html, neither)) {
            throw Failure("--html '" + *options.html + "' would replace what is to be read", ExitCode::usage);
        }
    }
}

/// The main chart, of several documents the one that they share, beneath what sets them apart.
std::string text_of(const std::vector<ReportInput>& inputs, const ReportOptions& options) {
    TextStyle style = style_of_stdout();
    style.ascii = style.ascii || options.ascii;
    const std::vector<Section> sections = sections_of(inputs);
    std::string text;
    for (std::size_t i = 0; i < sections.size(); ++i) {
        const Section& section = sections[i];
        text += text_paragraph(inputs.size() > 1 ? heading_of(inputs[i], section) : section.title, style);
        if (!section.verdict.empty()) text += text_paragraph(section.verdict, style);
        for (const std::string& note : section.notes) text += text_paragraph("note: " + note, style);
    }
    const std::vector<Chart> charts = inputs.size() > 1 ? overlaid(inputs, sections) : sections.front().charts;
    if (inputs.size() > 1) text += "\n" + text_table(comparison_of(inputs, sections), style);
    if (const std::optional<Table> own = own_figures_of(inputs, sections)) text += "\n" + text_table(*own, style);
    return charts.empty() ? text : text + "\n" + text_chart(charts.front(), style);
}

/// Each document by itself; the first that exceeds the budget is named.
void hold_to_budget(const std::vector<ReportInput>& inputs, const Budget& budget) {
    const std::vector<Section> sections = sections_of(inputs);
    for (std::size_t i = 0; i < sections.size(); ++i) {
        const std::optional<std::string> complaint = budget.complaint(sections[i].spent);
        if (complaint) throw Failure("'" + inputs[i].name + "': " + *complaint);
    }
}

void run_report(const ReportOptions& options) {
    check(options);
    // Before anything is read: a result that cannot be written is not worth the work.
    std::optional<OutputFile> html;
    if (options.html) html.emplace(*options.html);
    std::vector<ReportInput> inputs;
    for (const std::string& file : options.files) inputs.push_back(read_report_input(file));
    if (html) html->write(report_page(inputs, options.title.value_or("")));
    if (options.text) write_stdout(text_of(inputs, options));
    if (options.has_budget) hold_to_budget(inputs, options.budget);
}

}  // namespace

void add_report_command(CLI::App& app) {
    const auto options = std::make_shared<ReportOptions>();
    CLI::App* verb = app.add_subcommand("report", "Draw what measure, watch or compare wrote, one document or several");
    verb->add_option("FILE", options->files,
                     "Documents of one kind: --json of measure, watch, compare; --ndjson of watch")
        ->required();
    verb->add_option("--html", options->html, "Write one page to OUT that needs nothing but itself")->type_name("OUT");
    verb->add_option("--title", options->title, "What the page is called, instead of by its documents")
        ->type_name("TEXT");
    verb->add_flag("--text", options->text, "Draw the main chart in the terminal");
    verb->add_flag("--ascii", options->ascii, "Draw it with ASCII alone, as where the locale has no UTF-8");
    CLI::Option* budget = add_budget(*verb, options->budget);
    verb->footer(
        "Of two documents the page also has the difference, of more their figures side by side, of many a row for "
        "each.\n"
        "Two members may be added to a document, as with jq: \"title\", what the page calls it, and \"own_figures\", "
        "what\n"
        "the program counts itself, which is shown beside what was counted of it:\n"
        "  \"own_figures\": [{\"name\": \"rdb_last_cow_size\", \"theirs_bytes\": 67506176, \"ours_bytes\": 66256896,\n"
        "                   \"note\": \"why they differ\"}]\n"
        "\n"
        "Example: vmcow report before.json after.json --html difference.html");
    verb->callback([options, budget] {
        options->has_budget = budget->count() > 0;
        run_report(*options);
    });
}

}  // namespace vmcow::cli
