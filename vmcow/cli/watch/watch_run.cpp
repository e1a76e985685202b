#include "vmcow/cli/watch/watch_run.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "vmcow/cli/kit/child_program.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/stop_signals.hpp"
#include "vmcow/cli/watch/watch_report.hpp"
#include "vmcow/meter/watch/change_record.hpp"
#include "vmcow/meter/watch/forecast.hpp"
#include "vmcow/meter/watch/process_family.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/cgroup.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/process/prctl.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace vmcow::cli {
namespace {

using Clock = std::chrono::steady_clock;
using meter::FamilySample;

constexpr std::chrono::milliseconds kTick{200};  // within which the end of all processes is noticed
constexpr std::chrono::seconds kGrace{2};        // between SIGTERM and SIGKILL

sys::PageScanMethod choose_page_scan(const std::optional<sys::PageScanMethod>& wanted) {
    if (!wanted) return sys::best_page_scan();
    const int error = *wanted == sys::PageScanMethod::pagemap_scan ? sys::page_scan_error() : 0;
    if (error == 0) return *wanted;
    throw Failure(fmt::format("--page-scan: PAGEMAP_SCAN (Linux 6.7) is refused here: {}; choose auto or pagemap",
                              std::strerror(error)),
                  ExitCode::missing_facility);
}

void require_pagemap() {
    if (::access("/proc/self/pagemap", R_OK) == 0) return;
    throw Failure(
        fmt::format("this kernel lacks /proc/PID/pagemap (CONFIG_PROC_PAGE_MONITOR): {}", std::strerror(errno)),
        ExitCode::missing_facility);
}

double processor_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Watch {
public:
    explicit Watch(const WatchOptions& options)
        : options_(options),
          method_(choose_page_scan(options.page_scan)),
          outputs_(options.output, options.pids),
          family_({.look = {.method = method_},
                   .tree = options.tree || !options.program.empty(),
                   .bytes = options.bytes || options.output.record,
                   .record = options.output.record ? &record_ : nullptr,
                   .adopter = options.program.empty() ? std::nullopt : std::optional(::getpid()),
                   .follow_faults = options.follow_faults}),
          forecast_(options.limit_bytes) {
        if (options.stacks.wanted) stacks_.emplace(options.stacks);
    }

    int run();

private:
    void begin();
    void add_processes();
    void look(bool thorough = false);
    /// Waits for the next look; false when the watch is over.
    bool wait();
    void stop(int signal);
    void end_program();
    [[nodiscard]] bool program_runs() { return program_ && !program_->reap(); }
    [[nodiscard]] std::optional<Clock::time_point> earliest_end() const;
    [[nodiscard]] WatchCost cost() const;
    [[nodiscard]] WatchReport report();
    void add_stacks_and_trace(WatchReport& report);
    [[nodiscard]] std::vector<std::string> notes() const;

    const WatchOptions& options_;
    sys::PageScanMethod method_;
    StopSignals signals_;
    WatchOutputs outputs_;
    meter::ChangeRecord record_;
    meter::ProcessFamily family_;
    std::optional<WatchStacks> stacks_;
    meter::Forecast forecast_;
    std::optional<sys::ChildProgram> program_;
    Clock::time_point began_ = Clock::now();
    Clock::time_point next_look_ = began_;
    Clock::duration look_took_{};
    bool was_late_ = false;  ///< some looks took so long that the next one had to wait
    double processor_seconds_before_ = processor_seconds();
    std::optional<int> stopped_by_;
    bool refused_some_ = false;
};

void Watch::begin() {
    if (!options_.program.empty()) {
        if (const int error = sys::adopt_orphans(); error != 0) {
            sys::throw_error(error, "prctl PR_SET_CHILD_SUBREAPER");
        }
        program_.emplace(options_.program);
        try {
            family_.add(program_->pid(), true);
        } catch (const meter::NotWatchable& refusal) {
            // A program that has ended already leaves only its status to see.
            if (refusal.reason() == meter::NotWatchable::Reason::refused && program_runs()) throw;
        }
    } else {
        add_processes();
    }
    if (stacks_) stacks_->follow(family_);
    began_ = Clock::now();
}

void Watch::add_processes() {
    for (const pid_t pid : options_.pids) {
        try {
            family_.add(pid);
        } catch (const meter::NotWatchable& refusal) {
            refused_some_ = true;
            if (options_.pids.size() == 1) throw Failure(refusal.what());
            warn("vmcow watch", refusal.what());
        }
    }
    if (family_.size() == 0) throw Failure("none of these processes can be watched");
}

void Watch::look(bool thorough) {
    if (program_) sys::reap_orphans(program_->pid());
    if (stacks_) stacks_->before_look();
    const Clock::time_point began = Clock::now();
    const FamilySample sample = family_.look(thorough);
    look_took_ = Clock::now() - began;
    if (stacks_) stacks_->after_look(family_);
    if (sample.processes.empty()) return;
    std::optional<meter::Forecast::GroupLimit> group;
    if (!options_.limit_bytes) {
        if (auto memory = sys::cgroup_memory(sample.processes.front().pid)) {
            group = {std::move(memory->group), memory->limit_bytes, memory->used_bytes};
        }
    }
    forecast_.add(sample, group);
    outputs_.take(sample, forecast_.outlook(), cost());
}

std::optional<Clock::time_point> Watch::earliest_end() const {
    if (!options_.duration) return std::nullopt;
    return began_ + std::min<Clock::duration>(*options_.duration, std::chrono::hours{24 * 365 * 10});
}

bool Watch::wait() {
    const auto end = earliest_end();
    // After a look, the processes get at least as much time as the look took.
    const auto earliest = Clock::now() + look_took_;
    was_late_ = was_late_ || earliest > next_look_ + options_.interval;
    next_look_ = std::max(next_look_ + options_.interval, earliest);
    const auto until = end ? std::min(*end, next_look_) : next_look_;
    for (;;) {
        const bool program_ended = program_ && !program_runs();
        if (family_.size() == 0 && (!program_ || program_ended)) return false;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
        if (left <= 0) return !end || Clock::now() < *end;
        std::vector<pollfd> polled{pollfd{signals_.fd(), POLLIN, 0},
                                   pollfd{program_ && !program_ended ? program_->pidfd() : -1, POLLIN, 0}};
        if (stacks_) stacks_->add_to(polled);
        const std::int64_t tick = stacks_ ? stacks_->longest_wait().count() : kTick.count();
        const int most = static_cast<int>(std::min<std::int64_t>(left, tick));
        const int ready = ::poll(polled.data(), polled.size(), most);
        if (ready < 0 && errno != EINTR) sys::throw_errno("poll");
        if (stacks_) stacks_->take(polled);
        if (ready == 0 && family_.alive().empty()) return true;
        if (ready <= 0) continue;
        if (const auto signal = signals_.take()) {
            stopped_by_ = *signal;
            return false;
        }
        if (polled[1].revents != 0) return true;  // one more look, at the processes that it has left behind
    }
}

/// Ends the program and the processes that it has started, as far as they were seen.
void Watch::end_program() {
    if (!program_) return;
    const auto all_ended = [&] { return !program_runs() && sys::reap_orphans(program_->pid()); };
    const auto send = [&](int signal) {
        program_->send(signal);
        for (const pid_t pid : family_.alive()) {
            if (pid != program_->pid()) sys::signal_process(pid, signal);
        }
    };
    const auto ended_soon = [&] {
        for (const auto until = Clock::now() + kGrace; Clock::now() < until; ::usleep(10'000)) {
            if (all_ended()) return true;
        }
        return all_ended();
    };
    // A Ctrl-C typed at the terminal has reached the program already.
    if (stopped_by_ == SIGINT && ended_soon()) return;
    send(SIGTERM);
    if (ended_soon()) return;
    (void)family_.look();  // finds what was forked meanwhile
    send(SIGKILL);
    (void)ended_soon();
}

WatchCost Watch::cost() const {
    const meter::ScanCost& scans = family_.cost();
    WatchCost cost{.scans = scans,
                   .share_of_watcher = std::nullopt,
                   .share_of_target = std::nullopt,
                   .memory_bytes = sys::read_proc_bytes("/proc/self/status", "VmHWM").value_or(scans.memory_bytes)};
    const double seconds = std::chrono::duration<double>(Clock::now() - began_).count();
    if (seconds > 0) {
        cost.share_of_watcher = (processor_seconds() - processor_seconds_before_) / seconds;
        cost.share_of_target = scans.seconds / seconds;
    }
    return cost;
}

std::vector<std::string> Watch::notes() const {
    std::vector<std::string> notes = family_.notes();
    if (method_ == sys::PageScanMethod::pagemap_bits) {
        notes.push_back(
            sys::page_scan_error() == 0
                ? "pages were found by the bits of pagemap, as --page-scan asks: a page that was only read counts as "
                  "shared"
                : fmt::format("pages were found by the bits of pagemap: PAGEMAP_SCAN was refused: {}; a page that was "
                              "only read counts as shared",
                              std::strerror(sys::page_scan_error())));
    }
    if (was_late_) {
        notes.emplace_back(
            "looks took long for this --interval: each was followed by as much time without one, so there were fewer");
    }
    if (stacks_) {
        for (std::string& note : stacks_->notes()) notes.push_back(std::move(note));
    }
    if (options_.output.record) {
        if (record_.empty()) notes.emplace_back("--record: no copied page differs, so there is nothing to record");
        if (record_.pages_left_out() > 0) {
            notes.push_back(fmt::format("--record: {} pages are left out, because there are too many writes",
                                        record_.pages_left_out()));
        }
    }
    return notes;
}

void Watch::add_stacks_and_trace(WatchReport& report) {
    if (stacks_) {
        const std::string program = report.command.substr(0, report.command.find(' '));
        report.functions = stacks_->functions();
        report.with_functions = true;
        if (options_.output.folded) report.folded = stacks_->folded(program.empty() ? "program" : program);
    }
    if (!options_.output.record || record_.empty()) return;
    const meter::Trace trace = record_.trace();
    report.trace = options_.output.record->ends_with(".csv") ? trace.csv() : trace.binary();
}

WatchReport Watch::report() {
    std::string command;
    for (const std::string& word : options_.program) command += (command.empty() ? "" : " ") + word;
    WatchReport report{.command = std::move(command),
                       .interval_seconds = std::chrono::duration<double>(options_.interval).count(),
                       .method = name_of(method_),
                       .samples = outputs_.samples(),
                       .ended = outputs_.ended(),
                       .heat = outputs_.heat(),
                       .what_if = outputs_.what_if(),
                       .outlook = forecast_.outlook(),
                       .cost = cost(),
                       .notes = notes()};
    if (report.command.empty() && !report.samples.empty()) {
        report.command = report.samples.front().processes.front().command;
    }
    add_stacks_and_trace(report);
    return report;
}

int Watch::run() {
    begin();
    do look();
    while (wait());
    // A last look, for what was written since the one before.
    if (family_.size() > 0) look(true);
    const bool was_cut = stopped_by_ || program_runs() || family_.size() > 0;
    if (was_cut) end_program();
    outputs_.finish(report());
    const meter::PageFigures& all = outputs_.all_seen();
    options_.budget.require(
        {all.copied.bytes(), all.amplification(),
         all.identical && all.compared ? identical_share(all.identical->value, all.compared->value) : std::nullopt});
    // A missing facility decides the status only if nothing worse does.
    const int good = stacks_ && stacks_->was_refused() ? static_cast<int>(ExitCode::missing_facility) : 0;
    if (!program_) return refused_some_ ? static_cast<int>(ExitCode::failure) : good;
    if (stopped_by_) return 128 + *stopped_by_;
    const int status = was_cut ? 0 : program_->shell_status();
    return status == 0 ? good : status;
}

}  // namespace

int run_watch(const WatchOptions& options) {
    require_pagemap();
    return Watch(options).run();
}

}  // namespace vmcow::cli
