#include "vmcow/cli/watch_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/watch_run.hpp"

namespace vmcow::cli {
namespace {

/// What stood behind "--".
std::optional<std::vector<std::string>>& words_behind_mark() {
    static std::optional<std::vector<std::string>> words;
    return words;
}

pid_t parse_pid(std::string_view text) {
    const std::uint64_t pid = parse_count(text, 1);
    if (pid > static_cast<std::uint64_t>(std::numeric_limits<pid_t>::max())) {
        throw std::invalid_argument(fmt::format("'{}' is too large for the number of a process", text));
    }
    return static_cast<pid_t>(pid);
}

struct CommandLine {
    WatchOptions options;
    std::vector<std::string> pids;
};

void run(CommandLine& line) {
    for (const std::string& text : line.pids) {
        try {
            line.options.pids.push_back(parse_pid(text));
        } catch (const std::invalid_argument& error) {
            throw Failure(error.what(), ExitCode::usage);
        }
    }
    if (const auto& words = words_behind_mark()) {
        if (!line.options.pids.empty()) {
            throw Failure("either processes or, behind --, a program: not both", ExitCode::usage);
        }
        if (words->empty()) throw Failure("behind -- stands no program", ExitCode::usage);
        line.options.program = *words;
        line.options.output.standard_output_taken = true;
    } else if (line.options.pids.empty()) {
        throw Failure("name the processes to watch, or a program behind --", ExitCode::usage);
    }
    WatchOptions& options = line.options;
    if (options.stacks.period || options.output.folded) options.stacks.wanted = true;
    options.stacks.with_children = options.tree || !options.program.empty();
    const int status = run_watch(line.options);
    if (status != 0) throw CLI::RuntimeError(status);
}

class WatchFormatter : public CLI::Formatter {
public:
    std::string make_usage(const CLI::App*, std::string) const override {
        return "Usage: vmcow watch [OPTIONS] PID...\n"
               "       vmcow watch [OPTIONS] -- PROGRAM [ARGUMENT...]\n";
    }
};

void add_outputs(CLI::App& verb, WatchOutputOptions& options) {
    constexpr const char* kGroup = "Reports; - is standard output";
    const auto add = [&](const char* name, std::optional<std::string>& path, const char* help) {
        verb.add_option(name, path, help)->type_name("FILE")->group(kGroup);
    };
    add("--ndjson", options.ndjson, "Each sample, one JSON object a line for each process, with its mappings");
    add("--csv", options.csv, "Each sample, one line for each process");
    add("--openmetrics", options.openmetrics, "The last sample as gauges for Prometheus; replaced at each sample");
    add("--json", options.json, "The whole watch as one document at the end, for vmcow report");
    add("--folded", options.folded, "The call chains of --stacks, which it implies, for a flame graph");
    add("--record", options.record,
        "What differs in copied pages, as writes for vmcow measure --trace; implies --bytes; NAME.csv is text");
    add("--html", options.html, "The whole watch as a page with charts at the end");
    verb.add_flag("--quiet", options.quiet, "Print no table and no lines")->group(kGroup);
}

constexpr const char* kFooter =
    "Of each process, by mapping and in sum: what is in memory; what is still shared with the process that it was\n"
    "forked from; what has been copied since, because one of the two wrote to it, and which one; what was allocated\n"
    "since; what is swapped out. A page that a process has copied for itself counts in each child that still has the\n"
    "old one, and in the sum of all once. No privilege is needed for one's own processes; with CAP_SYS_ADMIN the "
    "writer\n"
    "of each copy is known, else often. A table on a terminal, else a line for each sample.\n\n"
    "With a program behind --, all that it forks is watched too. Ctrl-C, SIGTERM, SIGHUP and --for end the watch, and\n"
    "with it the program: SIGTERM, and SIGKILL two seconds later.\n\n"
    "Exit status: 0 when the watch is over, however it ended; 1 where a process named could not be watched, a report\n"
    "not written or the budget exceeded; 2 for a wrong command line; 77 without /proc/PID/pagemap, and at the end of "
    "a\n"
    "watch with --stacks whose page faults could not be sampled. With a program its own status, or 128 + the signal\n"
    "that ended it or the watch; 0 if --for ended it; 1 if it could not be started.\n\n"
    "Example: vmcow watch $(pidof redis-server) --tree --interval 500ms --for 1m --bytes --json redis.json";

}  // namespace

int take_watched_program(int argc, const char* const* argv) {
    if (argc < 2 || std::string_view(argv[1]) != "watch") return argc;
    const char* const* const end = argv + argc;
    const char* const* const mark =
        std::find_if(argv, end, [](const char* word) { return std::string_view(word) == "--"; });
    if (mark == end) return argc;
    words_behind_mark().emplace(mark + 1, end);
    return static_cast<int>(mark - argv);
}

void add_watch_command(CLI::App& app) {
    const auto line = std::make_shared<CommandLine>();
    WatchOptions& options = line->options;
    CLI::App* verb = app.add_subcommand("watch", "Show what copy-on-write costs running processes and their children");
    verb->formatter(std::make_shared<WatchFormatter>());
    verb->add_option("PID", line->pids, "Processes to watch")->type_name("");
    verb->add_flag("--tree", options.tree, "Watch what they have forked and will fork, too");
    add_duration(*verb, "--interval", options.interval, "Between two looks")->default_str("1s");
    add_duration(*verb, "--for", options.duration, "Watch this long, not until all have ended");
    verb->add_flag("--bytes", options.bytes,
                   "Compare copied pages with what they are copies of: bytes changed, pages identical, amplification");
    verb->add_flag("--stacks", options.stacks.wanted,
                   "Which code copies: page faults as perf events, by function and line");
    add_count(*verb, "--stack-period", options.stacks.period,
              "Sample one of N page faults, 1 for each; without, up to 10000 a second of each thread", 1);
    add_size(
        *verb, "--limit", options.limit_bytes,
        "Tell when their memory will reach SIZE, if it grows as it does; without, the limit of their control group");
    const std::map<std::string, std::optional<sys::PageScanMethod>> scans = {
        {"auto", std::nullopt},
        {"pagemap_scan", sys::PageScanMethod::pagemap_scan},
        {"pagemap", sys::PageScanMethod::pagemap_bits}};
    add_choice(*verb, "--page-scan", options.page_scan, scans, "How pages are found")->default_str("auto");
    const std::map<std::string, bool> guides = {{"auto", true}, {"off", false}};
    add_choice(*verb, "--follow-faults", options.follow_faults, guides,
               "Look only where page faults were, where perf events tell; off: at all pages each time")
        ->default_str("auto");
    add_budget(*verb, options.budget);
    add_outputs(*verb, options.output);
    verb->footer(kFooter);
    verb->callback([line] { run(*line); });
}

}  // namespace vmcow::cli
