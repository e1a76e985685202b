// fault_sweep --programs DIR --scenarios DIR --work DIR [--budget SECONDS] [NAME…] fails the system calls of the
// scenarios; scripts/faults runs it.
#include <fcntl.h>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "tests/faults/call_table.hpp"
#include "tests/faults/scenario.hpp"
#include "tests/faults/trial.hpp"
#include "tests/faults/verdict.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using namespace faults;
using vmcow::cli::Failure;
using Clock = std::chrono::steady_clock;

struct Options {
    std::filesystem::path programs;
    std::filesystem::path scenarios;
    std::filesystem::path work;
    unsigned budget_s = 0;  // 0: all faults
    unsigned jobs = 2;
    std::vector<std::string> names;
    std::string call;  // fail only this call; empty for all calls
};

/// A scenario, its output without a fault, and its outcomes under the faults.
struct Row {
    Scenario scenario;
    Place place;
    std::string right_output;
    FaultPlan plan;
    std::array<std::size_t, kOutcomes> counts{};
};

struct Task {
    std::size_t row;
    std::size_t fault;
};

bool is_chosen(const Scenario& scenario, const std::vector<std::string>& names) {
    return names.empty() || std::any_of(names.begin(), names.end(), [&](const std::string& name) {
               return name == scenario.name || name == scenario.words.front();
           });
}

void make_files(const Row& row) {
    std::filesystem::remove_all(row.place.files);
    std::filesystem::create_directories(row.place.files);
    for (const std::string& command : row.scenario.setup) {
        const std::string line = fmt::format("cd '{}' && PATH='{}':$PATH && {{ {}; }} 2>setup.err && rm setup.err",
                                             row.place.files.string(), row.place.programs.string(), command);
        if (std::system(line.c_str()) != 0) {  // NOLINT(cert-env33-c, concurrency-mt-unsafe): the scenario is a script
            throw Failure(fmt::format("{}: the setup failed: {}", row.scenario.name, command));
        }
    }
}

// strace reports here when ptrace(2) or seccomp(2) are forbidden.
void require_strace() {
    constexpr const char* kTry = "strace -f --seccomp-bpf -o /dev/null -e trace=getppid true >/dev/null 2>&1";
    if (std::system(kTry) == 0) return;  // NOLINT(cert-env33-c, concurrency-mt-unsafe): the one thread there is
    throw Failure("strace --seccomp-bpf does not work: install strace, or allow ptrace(2) and seccomp(2)",
                  vmcow::cli::ExitCode::missing_facility);
}

Row prepare(const Options& options, Scenario scenario) {
    const std::filesystem::path files = options.work / scenario.name;
    Row row{std::move(scenario), {options.programs, files}, {}, {}, {}};
    make_files(row);
    Runner runner(row.place);
    Recording recording(options.programs.string());
    Trial trial = runner.run(row.scenario, nullptr, &recording);
    row.right_output = trial.out;
    trial.reached = true;
    const Verdict verdict = judge(row.scenario, trial, row.right_output);
    if (verdict.outcome != Outcome::right) {
        throw Failure(fmt::format("{}: without a fault it is '{}': {}", row.scenario.name, name_of(verdict.outcome),
                                  verdict.detail));
    }
    row.plan = plan_faults(recording);
    if (!row.plan.unknown.empty()) {
        throw Failure(fmt::format("{}: calls that tests/faults/call_table.cpp does not have: {}", row.scenario.name,
                                  fmt::join(row.plan.unknown, " ")));
    }
    if (!options.call.empty()) {
        std::erase_if(row.plan.faults, [&](const Fault& fault) { return fault.call != options.call; });
    }
    return row;
}

// In the order of the golden ratio, every prefix of the list is spread evenly over all of it.
std::vector<Task> order_tasks(const std::vector<Row>& rows, bool spread) {
    std::vector<Task> tasks;
    for (std::size_t row = 0; row < rows.size(); ++row) {
        for (std::size_t fault = 0; fault < rows[row].plan.faults.size(); ++fault) tasks.push_back({row, fault});
    }
    if (!spread) return tasks;
    constexpr double kGolden = 0.6180339887498949;
    std::vector<double> keys(tasks.size());
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = std::fmod(static_cast<double>(i + 1) * kGolden, 1.0);
    std::vector<std::size_t> order(tasks.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return keys[a] < keys[b]; });
    std::vector<Task> spread_tasks(tasks.size());
    for (std::size_t i = 0; i < order.size(); ++i) spread_tasks[i] = tasks[order[i]];
    return spread_tasks;
}

Verdict try_fault(const Row& row, const Fault& fault) {
    Runner runner(row.place);
    return judge(row.scenario, runner.run(row.scenario, &fault), row.right_output);
}

// One worker process. It writes a line for each task into the pipe.
[[noreturn]] void work(const std::vector<Row>& rows, const std::vector<Task>& tasks, std::atomic<std::size_t>& next,
                       Clock::time_point until, int pipe) {
    try {
        for (std::size_t i = 0; (i = next.fetch_add(1)) < tasks.size() && Clock::now() < until;) {
            const Row& row = rows[tasks[i].row];
            const Fault& fault = row.plan.faults[tasks[i].fault];
            Verdict verdict = try_fault(row, fault);
            // On a machine that others use too, anything may take 4 s once.
            const bool slow = verdict.outcome == Outcome::hang || verdict.outcome == Outcome::left;
            if (slow || verdict.tracer_failed) {
                const Verdict again = try_fault(row, fault);
                if (!is_bad(again.outcome)) {
                    verdict = {again.outcome, fmt::format("at first {}: {}", name_of(verdict.outcome), verdict.detail)};
                }
            }
            constexpr std::size_t kMostDetail = 1000;  // so that one write(2) takes the whole line
            const std::string line = fmt::format("{} {} {}\n", i, static_cast<int>(verdict.outcome),
                                                 vmcow::cli::one_line(verdict.detail).substr(0, kMostDetail));
            vmcow::sys::write_all(pipe, std::as_bytes(std::span(line)), "results");
        }
    } catch (const std::exception& error) {
        fmt::print(stderr, "fault_sweep: {}\n", error.what());
        _exit(1);
    }
    _exit(0);
}

std::string repeat_command(const Row& row, const Fault& fault) {
    std::string line =
        fmt::format("cd {} && PATH={}:$PATH TMPDIR=$PWD", row.place.files.string(), row.place.programs.string());
    for (const std::string& word : strace_words(row.scenario, row.place, "/tmp/log", &fault)) {
        const bool plain = word.find_first_of(" |<>&;*?()$\"\\+") == std::string::npos;
        line += plain ? " " + word : " '" + word + "'";
    }
    if (!row.scenario.input.empty()) line += " <" + row.scenario.input;
    return line;
}

class Report {
public:
    explicit Report(const std::filesystem::path& file) : file_(std::fopen(file.c_str(), "we")), path_(file) {
        if (file_ == nullptr) vmcow::sys::throw_errno("open '" + file.string() + "'");
    }
    ~Report() { static_cast<void>(std::fclose(file_)); }
    Report(const Report&) = delete;
    Report& operator=(const Report&) = delete;

    void add(Row& row, const Fault& fault, Outcome outcome, const std::string& detail) {
        ++row.counts.at(static_cast<std::size_t>(outcome));
        if (!is_bad(outcome) && detail.substr(0, 8) != "at first") return;
        const std::string text = fmt::format("{}: {}: {}: {}\n    {}\n", name_of(outcome), row.scenario.name,
                                             fault.injection(), detail, repeat_command(row, fault));
        fmt::print(file_, "{}", text);
        constexpr std::size_t kMostShown = 30;
        if (is_bad(outcome) && ++bad_ <= kMostShown) fmt::print("{}", text);
    }
    [[nodiscard]] std::size_t bad() const noexcept { return bad_; }

private:
    std::FILE* file_;
    std::filesystem::path path_;
    std::size_t bad_ = 0;
};

void collect(std::vector<Row>& rows, const std::vector<Task>& tasks, int pipe, Report& report) {
    std::FILE* const lines = fdopen(pipe, "r");
    if (lines == nullptr) vmcow::sys::throw_errno("fdopen the results");
    char* line = nullptr;
    std::size_t room = 0;
    while (getline(&line, &room, lines) > 0) {
        std::size_t index = 0;
        int outcome = 0;
        int used = 0;
        if (std::sscanf(line, "%zu %d %n", &index, &outcome, &used) < 2)
            continue;  // NOLINT(cert-err34-c): written above
        std::string detail(line + used);
        if (!detail.empty() && detail.back() == '\n') detail.pop_back();
        Row& row = rows.at(tasks.at(index).row);
        report.add(row, row.plan.faults.at(tasks.at(index).fault), static_cast<Outcome>(outcome), detail);
    }
    std::free(line);
    static_cast<void>(std::fclose(lines));
}

// False when a worker failed.
bool run_all(const Options& options, std::vector<Row>& rows, const std::vector<Task>& tasks, Report& report) {
    void* const shared =
        mmap(nullptr, sizeof(std::atomic<std::size_t>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) vmcow::sys::throw_errno("mmap of the counter");
    auto* const next = new (shared) std::atomic<std::size_t>(0);
    const auto until =
        options.budget_s == 0 ? Clock::time_point::max() : Clock::now() + std::chrono::seconds(options.budget_s);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) vmcow::sys::throw_errno("pipe2 for the results");
    std::fflush(nullptr);
    std::vector<pid_t> workers;
    for (unsigned i = 0; i < options.jobs; ++i) {
        const pid_t pid = fork();
        if (pid < 0) vmcow::sys::throw_errno("fork of a worker");
        if (pid == 0) {
            close(ends[0]);
            work(rows, tasks, *next, until, ends[1]);
        }
        workers.push_back(pid);
    }
    close(ends[1]);
    collect(rows, tasks, ends[0], report);
    bool whole = true;
    for (const pid_t pid : workers) {
        int status = 0;
        whole = waitpid(pid, &status, 0) == pid && status == 0 && whole;
    }
    return whole;
}

void print_table(const std::vector<Row>& rows, std::chrono::seconds took) {
    std::size_t name_width = 8;
    for (const Row& row : rows) name_width = std::max(name_width, row.scenario.name.size());
    fmt::print("\n{:<{}} {:>6} {:>7}", "scenario", name_width, "calls", "faults");
    for (std::size_t i = 0; i < kOutcomes; ++i) {
        if (static_cast<Outcome>(i) != Outcome::not_reached) fmt::print(" {:>7}", name_of(static_cast<Outcome>(i)));
    }
    std::size_t all_calls = 0;
    std::size_t all_faults = 0;
    std::size_t unreached = 0;
    std::array<std::size_t, kOutcomes> sums{};
    const auto print_counts = [](const auto& counts) {
        for (std::size_t i = 0; i < kOutcomes; ++i) {
            if (static_cast<Outcome>(i) != Outcome::not_reached) fmt::print(" {:>7}", counts[i]);
        }
    };
    for (const Row& row : rows) {
        const std::size_t missed = row.counts[static_cast<std::size_t>(Outcome::not_reached)];
        const std::size_t tried = std::accumulate(row.counts.begin(), row.counts.end(), std::size_t{0}) - missed;
        fmt::print("\n{:<{}} {:>6} {:>7}", row.scenario.name, name_width, row.plan.calls, tried);
        print_counts(row.counts);
        all_calls += row.plan.calls;
        all_faults += tried;
        unreached += missed;
        for (std::size_t i = 0; i < kOutcomes; ++i) sums[i] += row.counts[i];
    }
    fmt::print("\n{:<{}} {:>6} {:>7}", "all", name_width, all_calls, all_faults);
    print_counts(sums);
    fmt::print("\n\n{} scenarios, {} faults in {} s; {} more were not reached, because the call was not made again\n",
               rows.size(), all_faults, took.count(), unreached);
}

void sweep(const Options& options) {
    require_strace();
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(options.scenarios)) {
        if (entry.path().extension() == ".scenario") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    std::vector<Row> rows;
    const auto started = Clock::now();
    for (const std::filesystem::path& file : files) {
        Scenario scenario = read_scenario(file);
        if (is_chosen(scenario, options.names)) rows.push_back(prepare(options, std::move(scenario)));
    }
    if (rows.empty()) throw Failure("no scenario has such a name", vmcow::cli::ExitCode::usage);
    const std::vector<Task> tasks = order_tasks(rows, options.budget_s != 0);
    Report report(options.work / "findings");
    const bool whole = run_all(options, rows, tasks, report);
    print_table(rows, std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started));
    if (!whole) throw Failure("a worker process failed; its message is above");
    if (report.bad() > 0) {
        throw Failure(
            fmt::format("{} faults end badly; each is in {}", report.bad(), (options.work / "findings").string()));
    }
}

void print_left_out() {
    fmt::print("Nothing is failed at these calls; a process is killed at each of them but execve:\n");
    for (const LeftOut& row : calls_left_out()) fmt::print("  {:<16} {}\n", row.call, row.reason);
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    bool left_out = false;
    CLI::App app("Fails every system call of every scenario in turn, and kills at each.", "fault_sweep");
    app.add_option("--programs", options.programs, "Directory of the programs");
    app.add_option("--scenarios", options.scenarios, "Directory of the scenarios");
    app.add_option("--work", options.work, "Directory for the files of the scenarios and for the findings");
    app.add_option("--budget", options.budget_s, "Seconds for a sample of the faults (default: try all faults)");
    app.add_option("--jobs", options.jobs, "Number of runs at a time");
    app.add_option("--call", options.call, "Fail only this call");
    app.add_flag("--left-out", left_out, "Print the calls that are left out, and why");
    app.add_option("NAME", options.names, "Scenarios to run, by their name or by their program");
    app.callback([&] { left_out ? print_left_out() : sweep(options); });
    return vmcow::cli::run_main(app, argc, argv);
}
