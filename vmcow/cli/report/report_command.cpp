#include "vmcow/cli/report/report_command.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "vmcow/cli/kit/budget.hpp"
#include "vmcow/cli/kit/output_file.hpp"
#include "vmcow/cli/report/report_html.hpp"
#include "vmcow/cli/report/text_chart.hpp"

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
    if (options.title && !options.html) throw Failure("--title needs --html", ExitCode::usage);
    if (options.ascii && !options.text) throw Failure("--ascii needs --text", ExitCode::usage);
    if (options.text && options.html == "-") {
        throw Failure("--html - and --text cannot both have standard output", ExitCode::usage);
    }
    for (const std::string& file : options.files) {
        std::error_code neither;
        if (options.html && std::filesystem::equivalent(file, *options.html, neither)) {
            throw Failure(
                "--html '" + *options.html + "' would replace a document that is to be read; name another file",
                ExitCode::usage);
        }
    }
}

/// Titles, verdicts and notes; of several documents what sets them apart; then the main chart, of several documents the
/// one that they share.
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

/// Throws for the first document that exceeds the budget. Each document is checked by itself.
void hold_to_budget(const std::vector<ReportInput>& inputs, const Budget& budget) {
    const std::vector<Section> sections = sections_of(inputs);
    for (std::size_t i = 0; i < sections.size(); ++i) {
        const std::optional<std::string> complaint = budget.complaint(sections[i].spent);
        if (complaint) throw Failure("'" + inputs[i].name + "': " + *complaint);
    }
}

void run_report(const ReportOptions& options) {
    check(options);
    // Opened before anything is read: a result that cannot be written is not worth the work.
    std::optional<OutputFile> html;
    if (options.html) html.emplace(*options.html);
    std::vector<ReportInput> inputs;
    for (const std::string& file : options.files) inputs.push_back(read_report_input(file));
    if (html) html->write(report_html(inputs, options.title.value_or("")));
    if (options.text) write_stdout(text_of(inputs, options));
    if (options.has_budget) hold_to_budget(inputs, options.budget);
}

}  // namespace

void add_report_command(CLI::App& app) {
    const auto options = std::make_shared<ReportOptions>();
    CLI::App* verb = app.add_subcommand("report", "Draw charts of what measure, watch or compare wrote");
    verb->add_option("FILE", options->files,
                     "Documents of one kind: from --json of measure, watch or compare, or --ndjson of watch")
        ->required()
        ->type_name("");
    verb->add_option("--html", options->html,
                     "Write a page with charts to OUT; it needs no other file. - is standard output")
        ->type_name("OUT");
    verb->add_option("--title", options->title, "The title of the page; without it, the names of the documents")
        ->type_name("TEXT");
    verb->add_flag("--text", options->text, "Draw the main chart in the terminal");
    verb->add_flag("--ascii", options->ascii,
                   "Draw it with ASCII alone, which is the default if the locale has no UTF-8");
    CLI::Option* budget = add_budget(*verb, options->budget);
    verb->footer(
        "Example: vmcow report before.json after.json --html difference.html\n"
        "\n"
        "With two documents the report also shows their difference. With more it shows their figures side by side,\n"
        "or, if they are many, a row for each.\n"
        "\n"
        "You can add two members to a document, for example with jq. \"title\" is how the page names the document.\n"
        "\"own_figures\" are figures that the program counts itself; the page shows them beside what we counted:\n"
        "  \"own_figures\": [{\"name\": \"rdb_last_cow_size\", \"theirs_bytes\": 67506176, \"ours_bytes\": 66256896,\n"
        "                   \"note\": \"why they differ\"}]\n"
        "\n"
        "Exit status: 0; 1 if a document cannot be read, a result cannot be written or the budget is exceeded; 2 for\n"
        "a wrong command line.");
    verb->callback([options, budget] {
        options->has_budget = budget->count() > 0;
        run_report(*options);
    });
}

}  // namespace vmcow::cli
