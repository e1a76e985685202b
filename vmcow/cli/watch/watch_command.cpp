#include "vmcow/cli/watch/watch_command.hpp"

#include <fmt/format.h>

#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/watch/watch_run.hpp"

namespace vmcow::cli {
namespace {

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
            throw Failure("name either processes or, behind --, a program, not both", ExitCode::usage);
        }
        if (words->empty()) throw Failure("there is no program behind --", ExitCode::usage);
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
    add("--ndjson", options.ndjson, "Each sample: a line for each process, a JSON object with its mappings");
    add("--csv", options.csv, "Each sample: a line for each process");
    add("--openmetrics", options.openmetrics,
        "The last sample as gauges for Prometheus; FILE is replaced at each sample");
    add("--json", options.json, "The whole watch as one document for vmcow report, at the end");
    add("--folded", options.folded, "The call chains that led to copies, for a flame graph; implies --stacks");
    add("--record", options.record,
        "The bytes that differ in copied pages, as writes for vmcow measure --trace; implies --bytes.\n"
        "If FILE ends with .csv, it is text");
    add("--html", options.html, "The whole watch as a page with charts at the end");
    verb.add_flag("--quiet", options.quiet, "Print no table and no lines")->group(kGroup);
}

constexpr const char* kFooter =
    "Example: vmcow watch $(pidof redis-server) --tree --interval 500ms --for 1m --bytes --json redis.json\n\n"
    "Columns, for each process and for the sum; --ndjson, --json and --html have them for each mapping, too:\n"
    "  resident                   what is in memory, shared or not\n"
    "  shared                     what is still shared with the process that this one was forked from\n"
    "  copied                     what has been copied since the fork, because one of the two wrote to it\n"
    "  by child, by parent, by ?  shares of 'copied' by which of the two wrote, if that is known\n"
    "  new, swapped               what was allocated since the fork; what is swapped out\n"
    "  changed, identical, ampl.  with --bytes: bytes that differ; copies in which nothing differs; bytes copied for\n"
    "                             each byte that differs\n"
    "A page that a process has copied for itself counts in each child that still has the old page, but only once in\n"
    "the sum. You need no privilege to watch your own processes. With CAP_SYS_ADMIN the writer of every copy is\n"
    "known, without it often. A terminal on which no program prints shows a table; elsewhere lines are printed.\n\n"
    "You can follow --ndjson and --csv (tail -f) while they are written, if FILE is new or empty. A FILE that has\n"
    "content stays as it is, whatever happens, until the end, and is replaced then; so with the other reports.\n\n"
    "A program behind -- is started and watched, with all that it forks. Ctrl-C, SIGTERM, SIGHUP and --for end the\n"
    "watch and the program, which gets SIGTERM, and SIGKILL two seconds later.\n\n"
    "Exit status: 0 when the watch is over, however it ended; 1 if a named process could not be watched, a report\n"
    "could not be written or the budget is exceeded; 2 for a wrong command line; 77 without /proc/PID/pagemap, and\n"
    "at the end of a watch with --stacks whose page faults could not be sampled. With a program: its own status, or\n"
    "128 + the signal that ended it or the watch; 0 if --for ended it; 1 if it could not be started.";

}  // namespace

int take_watched_program(int argc, const char* const* argv) {
    if (argc < 2 || std::string_view(argv[1]) != "watch") return argc;
    return take_words_behind_mark(argc, argv);
}

void add_watch_command(CLI::App& app) {
    const auto line = std::make_shared<CommandLine>();
    WatchOptions& options = line->options;
    CLI::App* verb = app.add_subcommand("watch", "Show what copy-on-write costs running processes and their children");
    verb->formatter(std::make_shared<WatchFormatter>());
    verb->add_option("PID", line->pids, "Processes to watch")->type_name("");
    verb->add_flag("--tree", options.tree, "Also watch the processes that they have forked and will fork");
    add_duration(*verb, "--interval", options.interval, "Time between two looks at the processes")->default_str("1s");
    add_duration(*verb, "--for", options.duration, "Stop after TIME, and not only when all processes have ended");
    verb->add_flag(
        "--bytes", options.bytes,
        "Compare copied pages with their originals, to show bytes changed, pages identical and\namplification");
    verb->add_flag("--stacks", options.stacks.wanted,
                   "Show which functions and lines made the copies, from page faults sampled as perf events");
    add_count(*verb, "--stack-period", options.stacks.period,
              "Sample one of N page faults; implies --stacks. Without this flag, up to 10000 a second of\n"
              "each thread are sampled",
              1);
    add_size(*verb, "--limit", options.limit_bytes,
             "Forecast when memory will reach SIZE, at the rate at which it grows; without this flag, the\n"
             "limit of the control group");
    const std::map<std::string, std::optional<sys::PageScanMethod>> scans = {
        {"auto", std::nullopt},
        {"pagemap_scan", sys::PageScanMethod::pagemap_scan},
        {"pagemap", sys::PageScanMethod::pagemap_bits}};
    add_choice(*verb, "--page-scan", options.page_scan, scans,
               "How pages are found: by the ioctl PAGEMAP_SCAN, or by the bits of /proc/PID/pagemap")
        ->default_str("auto");
    const std::map<std::string, bool> guides = {{"auto", true}, {"off", false}};
    add_choice(
        *verb, "--follow-faults", options.follow_faults, guides,
        "auto: look only at pages near page faults, if perf events tell of them; off: look at all\npages each time")
        ->default_str("auto");
    add_budget(*verb, options.budget);
    add_outputs(*verb, options.output);
    verb->footer(kFooter);
    verb->callback([line] { run(*line); });
}

}  // namespace vmcow::cli
