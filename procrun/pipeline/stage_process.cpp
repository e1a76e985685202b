#include "procrun/pipeline/stage_process.hpp"

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <utility>
#include <variant>

#include "procrun/call/program_arguments.hpp"
#include "procrun/process/poll_until.hpp"
#include "procrun/program.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

Program program_of(const StageText& text, const StageStart& how) {
    Program program(text.argv);
    program.die_with_parent().process_group(how.group);
    for (int fd = 0; fd < static_cast<int>(how.standard.size()); ++fd) {
        const int ours = how.standard.at(static_cast<std::size_t>(fd));
        if (ours != fd) program.descriptor(fd, ours);
    }
    for (const auto& [name, value] : text.variables) {
        value ? program.variable(name, *value) : program.without_variable(name);
    }
    if (text.directory) program.directory(*text.directory);
    if (text.limits.open_files) program.limit(RLIMIT_NOFILE, *text.limits.open_files);
    if (how.terminal_fd >= 0) program.foreground(how.terminal_fd);
    return program;
}

std::chrono::nanoseconds processor_time_of(const ExitRecord& record) {
    return std::chrono::nanoseconds(std::llround((record.user_seconds + record.system_seconds) * 1e9));
}

}  // namespace

std::variant<StageProcess, Outcome> StageProcess::start(Launcher& launcher, const StageText& text,
                                                        const StageStart& how) {
    const auto now = std::chrono::steady_clock::now();
    Program program = program_of(text, how);
    const UniqueFd values = how.values >= 0 ? connect_values(program, how.values, true) : UniqueFd();
    auto started = program.start(launcher);
    if (auto* refusal = std::get_if<Outcome>(&started)) return std::move(*refusal);
    StageProcess stage(std::get<Process>(std::move(started)), text, how, now);
    stage.peak_is_own_ = launcher.kind() == LauncherKind::small_process;
    return stage;
}

StageProcess::StageProcess(Process process, const StageText& text, const StageStart& how,
                           std::chrono::steady_clock::time_point started)
    : process_(std::move(process)),
      limits_(process_.pid(), text.limits),
      states_(process_.pid(), how.streams, started),
      started_(started),
      alone_(how.alone) {
    if (!alone_) transferred_ = TransferMeter(process_.pid());
}

Deadline StageProcess::next_look() const { return limits_.next_look(); }

void StageProcess::look_at_limits() {
    if (exceeded_ || !limits_.next_look().passed()) return;
    exceeded_ = limits_.exceeded();
    if (exceeded_) kill();
}

void StageProcess::told_to_stop(bool past_deadline) {
    if (process_.wait_ended(Deadline::in({}))) return;
    past_deadline_ = past_deadline;
    last_signal_ = SIGTERM;
}

void StageProcess::kill() {
    process_.signal(SIGKILL);
    last_signal_ = SIGKILL;
}

void StageProcess::reap(StageReport& report) {
    const auto now = std::chrono::steady_clock::now();
    report.wall_seconds = std::chrono::duration<double>(now - started_).count();
    states_.stop(now);
    report.shares = states_.shares();
    auto transferred = std::exchange(transferred_, {}).read();
    const ReapMeter reaped;
    ExitRecord record = process_.wait();
    if (alone_) transferred = reaped.read();
    if (transferred) {
        report.read_bytes = transferred->read;
        report.written_bytes = transferred->written;
    }
    if (record.outcome.kind != OutcomeKind::unknown) {
        report.user_seconds = record.user_seconds;
        report.system_seconds = record.system_seconds;
        report.minor_faults = record.minor_faults;
        report.major_faults = record.major_faults;
        if (peak_is_own_) report.peak_bytes = record.max_resident_bytes;
    }
    report.memory_limit_by = limits_.memory_limit_by();
    report.limits_unknown = limits_.unknown();
    report.outcome = outcome_of(record, report.written_bytes);
}

Outcome StageProcess::outcome_of(ExitRecord& record, std::optional<std::uint64_t> written) const {
    auto exceeded = exceeded_ ? exceeded_ : limits_.exceeded_at_end(processor_time_of(record), written);
    if (exceeded) return {.kind = OutcomeKind::limit_exceeded, .code = 0, .text = *std::move(exceeded)};
    if (!past_deadline_) return std::move(record.outcome);
    const bool signaled = record.outcome.kind == OutcomeKind::signaled;
    return {.kind = OutcomeKind::deadline_passed, .code = signaled ? record.outcome.code : last_signal_, .text = {}};
}

}  // namespace procrun
