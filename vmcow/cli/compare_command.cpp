#include "vmcow/cli/compare_command.hpp"

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

#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/compare_output.hpp"
#include "vmcow/cli/compare_run.hpp"
#include "vmcow/cli/output_file.hpp"
#include "vmcow/cli/report_page.hpp"
#include "vmcow/cli/workload_options.hpp"

namespace vmcow::cli {
namespace {

/// "a,b,c", none of them empty or there twice.
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
    const std::vector<std::string>& known = measure::engine_names();
    if (std::find(known.begin(), known.end(), name) != known.end()) return std::string(name);
    throw std::invalid_argument(fmt::format("'{}' is no engine: {}", name, fmt::join(known, ", ")));
}

std::string parse_file(std::string_view text) {
    if (text.empty()) throw std::invalid_argument("no name of a file");
    return std::string(text);
}

void complete(CompareOptions& options, const CLI::App& verb) {
    if (options.trace) {
        const std::uint64_t writes = options.workload.writes;
        options.workload = with_trace(options.workload, *options.trace, verb.count("--size") > 0);
        if (verb.count("--writes") > 0) options.workload.writes = writes;
    }
    for (const std::uint64_t writes : options.sweep) {
        measure::Workload workload = options.workload;
        workload.writes = writes;
        require_valid(workload);
    }
    require_valid(options.workload);
    const auto refuse = [](const char* why) { throw Failure(why, ExitCode::usage); };
    if (!options.sweep.empty() && !options.json && options.html.empty()) {
        refuse("--sweep: what it finds is in --json and --html alone");
    }
    if (options.html == "-" && (options.json || options.csv == "-")) {
        refuse("--html - has standard output for itself");
    }
}

std::string page_of(const nlohmann::ordered_json& document) {
    const std::vector<ReportInput> inputs = {{.name = "compare", .document = document}};
    return report_page(inputs);
}

void run(CompareOptions& options, const CLI::App& verb) {
    complete(options, verb);
    require_kernel();
    // Before anything is measured: a result that cannot be written is not worth the work.
    std::optional<OutputFile> csv;
    std::optional<OutputFile> html;
    if (!options.csv.empty()) csv.emplace(options.csv);
    if (!options.html.empty()) html.emplace(options.html);
    const CompareResult result = run_compare(options);
    for (const std::string& warning : result.warnings) fmt::print(stderr, "vmcow compare: {}\n", one_line(warning));
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
        "Each engine builds the value, hands it to one child after the other, and lets each child write to what it has "
        "got:\n"
        "  deep-copy         a child gets a copy of all\n"
        "  whole-buffer      a counted buffer, which a child's first write copies as a whole\n"
        "  pages             a snapshot, of which the kernel copies the pages that are written\n"
        "  pages-resident    the same in a process that was called before: pages that it has copied are refreshed\n"
        "  moved             no copy: the caller gives the value away\n"
        "  block-8 ... 4096  a tree of blocks of so many bytes, of which a write copies one and the way to it\n"
        "  dedup             blocks of 256 bytes, of which equal ones are one\n"
        "\n"
        "Columns: hand over, a read and a write are of one child, a write with the copies that it causes; before and "
        "after\n"
        "are memory, of the value alone and with all that the children have; amplif. is bytes copied for each byte "
        "written.\n"
        "\n"
        "{}\n"
        "--peers runs the programs *.peer in DIR, in $VMCOW_PEERS, or beside the build, where scripts/peers puts them: "
        "arrays\n"
        "of PHP, lists of Python, Arc::make_mut and the vectors of the im crate of Rust. They do the same writes, have "
        "to\n"
        "read back the same, and tell their own times and memory; what they do not know is '?'.\n"
        "\n"
        "Exit status: 0; 1 where there is not enough memory or a file cannot be written; 2 for a wrong command line; "
        "77 "
        "where\n"
        "the kernel lacks what is needed.\n"
        "\n"
        "Example: vmcow compare --size 256M --writes 10000 --children 4 --html compare.html\n"
        "         vmcow compare --engines whole-buffer,block-256 --peers --sweep 1,100,10000 --json",
        pattern_help());
}

void add_output_options(CLI::App& verb, CompareOptions& options) {
    add_parsed(
        verb, "--sweep", options.sweep, "N,M",
        [](std::string_view text) {
            return parse_list<std::uint64_t>(text, [](std::string_view one) { return parse_count(one, 1); });
        },
        "Also with so many writes each, for the charts of where one engine overtakes another, in --json and --html");
    CLI::Option* const json = verb.add_flag("--json", options.json, "Print JSON instead of the table");
    add_parsed(verb, "--csv", options.csv, "FILE", parse_file,
               "Write a line for each engine to FILE; - is standard output")
        ->excludes(json);
    add_parsed(verb, "--html", options.html, "FILE", parse_file,
               "Write a page with charts to FILE, over 1, 10, 100 ... writes where --sweep does not say over which; "
               "- is standard output");
}

void add_peer_options(CLI::App& verb, CompareOptions& options) {
    CLI::Option* const peers = verb.add_option_function<std::string>(
        "--peers",
        [&options](const std::string& folder) {
            options.peers = true;
            if (!folder.empty()) options.peer_folder = folder;
        },
        "Also what other languages do, as far as it is installed");
    peers->type_name("[DIR]")->expected(0, 1);
    add_duration(verb, "--peer-timeout", options.peer_timeout, "How long each of them may take")
        ->default_str("60s")
        ->needs(peers);
}

}  // namespace

void add_compare_command(CLI::App& app) {
    const auto options = std::make_shared<CompareOptions>();
    CLI::App* verb = app.add_subcommand(
        "compare", "Hand the same value over in different ways, write to it, and show what each way costs");
    add_size(*verb, "--size", options->workload.size_bytes, "Bytes of the value")->default_str("64M");
    add_count(*verb, "--writes", options->workload.writes, "How many writes", 1)->default_str("100000");
    add_workload_options(*verb, options->workload, options->trace, "value");
    add_parsed(
        *verb, "--engines", options->engines, "A,B,C",
        [](std::string_view text) { return parse_list<std::string>(text, parse_engine); },
        "Which to compare; all of them");
    add_count(*verb, "--children", options->children, "How many get the value, one after the other", 1)
        ->default_str("1");
    add_peer_options(*verb, *options);
    add_output_options(*verb, *options);
    verb->footer(footer());
    verb->callback([options, verb] { run(*options, *verb); });
}

}  // namespace vmcow::cli
