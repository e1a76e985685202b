#include "vmcow/cli/compare/compare_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vmcow/cli/compare/compare_formats.hpp"
#include "vmcow/cli/compare/compare_run.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/output_file.hpp"
#include "vmcow/cli/measure/workload_options.hpp"
#include "vmcow/cli/report/report_html.hpp"

namespace vmcow::cli {
namespace {

/// Parses a list such as "a,b,c". Rejects an item that is there twice; `parse` rejects an empty one.
template <class T, class Parse>
std::vector<T> parse_list(std::string_view text, Parse&& parse) {
    std::vector<T> all;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        T one = parse(text.substr(at, end - at));
        if (std::find(all.begin(), all.end(), one) != all.end()) {
            throw std::invalid_argument(fmt::format("'{}' is there twice", text.substr(at, end - at)));
        }
        all.push_back(std::move(one));
        at = end + 1;
    }
    return all;
}

std::string parse_engine(std::string_view name) {
    const std::vector<std::string>& known = meter::engine_names();
    if (std::find(known.begin(), known.end(), name) != known.end()) return std::string(name);
    throw std::invalid_argument(fmt::format("'{}' is no engine; there are: {}", name, fmt::join(known, ", ")));
}

std::string parse_file(std::string_view text) {
    if (text.empty()) throw std::invalid_argument("the name of a file is missing");
    return std::string(text);
}

void complete(CompareOptions& options, const CLI::App& verb) {
    if (options.trace) {
        const std::uint64_t writes = options.workload.writes;
        options.workload = with_trace(options.workload, *options.trace, verb.count("--size") > 0);
        if (verb.count("--writes") > 0) options.workload.writes = writes;
    }
    for (const std::uint64_t writes : options.sweep) {
        meter::Workload workload = options.workload;
        workload.writes = writes;
        require_valid(workload);
    }
    require_valid(options.workload);
    const auto refuse = [](const char* why) { throw Failure(why, ExitCode::usage); };
    if (!options.sweep.empty() && !options.json && options.html.empty()) {
        refuse("--sweep is shown by --json and --html alone; add one of them");
    }
    if (options.html == "-" && (options.json || options.csv == "-")) {
        refuse("--html - takes the whole standard output; write one of the outputs to a file");
    }
}

std::string page_of(const nlohmann::ordered_json& document) {
    const std::vector<ReportInput> inputs = {{.name = "compare", .document = document}};
    return report_html(inputs);
}

void run(CompareOptions& options, const CLI::App& verb) {
    complete(options, verb);
    require_kernel();
    // Opened before anything is measured: a result that cannot be written is not worth the work.
    std::optional<OutputFile> csv;
    std::optional<OutputFile> html;
    if (!options.csv.empty()) csv.emplace(options.csv);
    if (!options.html.empty()) html.emplace(options.html);
    const CompareResult result = run_compare(options);
    for (const std::string& warning : result.warnings) warn("vmcow compare", warning);
    const nlohmann::ordered_json document = compare_json(options, result);
    if (csv) csv->write(compare_csv(result));
    if (html) html->write(page_of(document));
    if (options.json) {
        write_stdout(document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n');
    } else if (options.csv != "-" && options.html != "-") {
        write_stdout(compare_text(options, result));
    }
}

std::string footer() {
    return fmt::format(
        "Example: vmcow compare --size 256M --writes 10000 --children 4 --html compare.html\n"
        "         vmcow compare --engines whole-buffer,block-256 --peers --sweep 1,100,10000 --json\n"
        "\n"
        "Each engine builds the value and hands it to one child after the other, which writes to it:\n"
        "  deep-copy         each child gets a copy of the whole value\n"
        "  whole-buffer      a counted buffer; the first write of a child copies it as a whole\n"
        "  pages             a snapshot; the kernel copies the pages that a child writes to\n"
        "  pages-resident    pages, in a process that was called before and refreshes the pages that it has copied\n"
        "  moved             no copy: the caller gives the value away\n"
        "  block-8 ... 4096  a tree of blocks of so many bytes; a write copies one block and the path to it\n"
        "  dedup             blocks of 256 bytes; blocks with equal content are kept once\n"
        "\n"
        "Columns: 'hand over', 'a read' and 'a write' are times of one child, a write with the copies that it causes.\n"
        "'before' is the memory of the value alone, 'after' that of the value and all that the children have.\n"
        "'amplif.' is bytes copied for each byte written.\n"
        "\n"
        "{}\n"
        "--peers runs the programs *.peer in DIR, in $VMCOW_PEERS, or beside the build, where scripts/peers puts\n"
        "them: arrays of PHP, lists of Python, Arc::make_mut and the vectors of the im crate of Rust. A peer does the\n"
        "same writes, has to read the same words back, and measures its own times and memory; '?' is what it does\n"
        "not know.\n"
        "\n"
        "Exit status: 0; 1 if there is too little memory, if two engines disagree, or if a file cannot be written; 2\n"
        "for a wrong command line; 77 if the kernel lacks what is needed.",
        pattern_help());
}

void add_output_options(CLI::App& verb, CompareOptions& options) {
    add_parsed(
        verb, "--sweep", options.sweep, "N,M",
        [](std::string_view text) {
            return parse_list<std::uint64_t>(text, [](std::string_view one) { return parse_count(one, 1); });
        },
        "Repeat with each of these numbers of writes, to show where one engine overtakes another;\n"
        "shown by --json and --html");
    CLI::Option* const json = verb.add_flag("--json", options.json, "Print JSON instead of the table");
    add_parsed(verb, "--csv", options.csv, "FILE", parse_file,
               "Write a line for each engine to FILE; - is standard output")
        ->excludes(json);
    add_parsed(verb, "--html", options.html, "FILE", parse_file,
               "Write a page with charts to FILE, over the writes of --sweep or over 1, 10, 100 ... writes;\n"
               "- is standard output");
}

void add_peer_options(CLI::App& verb, CompareOptions& options) {
    CLI::Option* const peers = verb.add_option_function<std::string>(
        "--peers",
        [&options](const std::string& folder) {
            options.peers = true;
            if (!folder.empty()) options.peer_folder = folder;
        },
        "Compare with programs in other languages, too, as far as they are there; see below");
    peers->type_name("[DIR]")->expected(0, 1);
    add_duration(verb, "--peer-timeout", options.peer_timeout, "How long each peer may take")
        ->default_str("60s")
        ->needs(peers);
}

}  // namespace

void add_compare_command(CLI::App& app) {
    const auto options = std::make_shared<CompareOptions>();
    CLI::App* verb = app.add_subcommand(
        "compare", "Hand the same value over in different ways, write to it, and show what each way costs");
    add_size(*verb, "--size", options->workload.size_bytes, "Size of the value")->default_str("64M");
    add_count(*verb, "--writes", options->workload.writes, "Number of writes", 1)->default_str("100000");
    add_workload_options(*verb, options->workload, options->trace, "value");
    add_parsed(
        *verb, "--engines", options->engines, "A,B,C",
        [](std::string_view text) { return parse_list<std::string>(text, parse_engine); },
        "The engines to compare; all, if not given");
    add_count(*verb, "--children", options->children, "How many children get the value, one after the other", 1)
        ->default_str("1");
    add_peer_options(*verb, *options);
    add_output_options(*verb, *options);
    verb->footer(footer());
    verb->callback([options, verb] { run(*options, *verb); });
}

}  // namespace vmcow::cli
