#include "vmcow/cli/report_command.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "vmcow/cli/output_file.hpp"
#include "vmcow/cli/report_page.hpp"
#include "vmcow/cli/text_chart.hpp"

namespace vmcow::cli {
namespace {

struct ReportOptions {
    std::vector<std::string> files;
    std::optional<std::string> html;
    bool text = false;
    bool ascii = false;
};

void check(const ReportOptions& options) {
    if (!options.html && !options.text) throw Failure("say what is wanted: --html FILE or --text", ExitCode::usage);
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
        text += text_paragraph((inputs.size() > 1 ? inputs[i].name + ": " : "") + section.title, style);
        if (!section.verdict.empty()) text += text_paragraph(section.verdict, style);
        for (const std::string& note : section.notes) text += text_paragraph("note: " + note, style);
    }
    const std::vector<Chart> charts = inputs.size() > 1 ? overlaid(inputs, sections) : sections.front().charts;
    if (inputs.size() > 1) text += "\n" + text_table(comparison_of(inputs, sections), style);
    return charts.empty() ? text : text + "\n" + text_chart(charts.front(), style);
}

void run_report(const ReportOptions& options) {
    check(options);
    // Before anything is read: a result that cannot be written is not worth the work.
    std::optional<OutputFile> html;
    if (options.html) html.emplace(*options.html);
    std::vector<ReportInput> inputs;
    for (const std::string& file : options.files) inputs.push_back(read_report_input(file));
    if (html) html->write(report_page(inputs));
    if (options.text) write_stdout(text_of(inputs, options));
}

}  // namespace

void add_report_command(CLI::App& app) {
    const auto options = std::make_shared<ReportOptions>();
    CLI::App* verb = app.add_subcommand("report", "Draw what measure, watch or compare wrote, one document or several");
    verb->add_option("FILE", options->files,
                     "Documents of one kind: --json of measure, watch, compare; --ndjson of watch")
        ->required();
    verb->add_option("--html", options->html, "Write one page to OUT that needs nothing but itself")->type_name("OUT");
    verb->add_flag("--text", options->text, "Draw the main chart in the terminal");
    verb->add_flag("--ascii", options->ascii, "Draw it with ASCII alone, as where the locale has no UTF-8");
    verb->footer(
        "Of two documents the page also has the difference, of more their figures side by side.\n"
        "\n"
        "Example: vmcow report before.json after.json --html difference.html");
    verb->callback([options] { run_report(*options); });
}

}  // namespace vmcow::cli
