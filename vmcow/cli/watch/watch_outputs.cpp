#include "vmcow/cli/watch/watch_outputs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <system_error>
#include <utility>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/report/report_html.hpp"
#include "vmcow/cli/report/report_input.hpp"
#include "vmcow/cli/watch/watch_formats.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/terminal.hpp"

namespace vmcow::cli {
namespace {

constexpr std::size_t kMostSamples = 512;
constexpr std::size_t kMostMappings = 64;  // of each process of a sample that is kept
constexpr std::size_t kMostEnded = 256;
constexpr std::size_t kMostMappingsKept = 1u << 18;

void add(std::optional<meter::BlockCounts>& sum, const std::optional<meter::BlockCounts>& more) {
    if (more) sum = sum.value_or(meter::BlockCounts()) += *more;
}

}  // namespace

WatchOutputs::WatchOutputs(const WatchOutputOptions& options, std::span<const pid_t> watched) : options_(options) {
    int on_standard_output = options.standard_output_taken ? 1 : 0;
    for (const auto& path : {options.ndjson, options.csv, options.openmetrics, options.json, options.folded,
                             options.record, options.html}) {
        if (path == "-") ++on_standard_output;
    }
    if (on_standard_output > 1) {
        throw Failure(options.standard_output_taken ? "standard output is the program's: name a file instead of -"
                                                    : "two files cannot both be standard output",
                      ExitCode::usage);
    }
    if (options.ndjson) ndjson_.emplace(*options.ndjson);
    if (options.csv) csv_.emplace(*options.csv);
    if (options.openmetrics) openmetrics_.emplace(*options.openmetrics);
    if (options.json) json_.emplace(*options.json);
    if (options.folded) folded_.emplace(*options.folded);
    if (options.record) record_.emplace(*options.record);
    if (options.html) html_.emplace(*options.html);
    if (options.quiet) return;
    text_fd_ = on_standard_output > 0 ? STDERR_FILENO : STDOUT_FILENO;
    display_.emplace(text_fd_, others_print_on_terminal(watched));
}

/// Whether others than the table print on the terminal: a program that we start, which has our descriptors, a stream of
/// samples, or a watched process.
bool WatchOutputs::others_print_on_terminal(std::span<const pid_t> watched) const {
    const auto terminal = sys::terminal_device(text_fd_);
    if (!terminal) return false;
    const auto leads_there = [&](int fd) { return sys::terminal_device(fd) == terminal; };
    if (options_.standard_output_taken && (leads_there(STDOUT_FILENO) || leads_there(STDERR_FILENO))) return true;
    for (const auto& path : {options_.ndjson, options_.csv}) {
        if (!path) continue;
        if (*path == "-" ? leads_there(STDOUT_FILENO) : sys::may_lead_to_terminal(*path, *terminal)) return true;
    }
    return std::any_of(watched.begin(), watched.end(), [&](pid_t pid) {
        const std::string descriptors = fmt::format("/proc/{}/fd/", pid);
        return sys::may_lead_to_terminal(descriptors + "1", *terminal) ||
               sys::may_lead_to_terminal(descriptors + "2", *terminal);
    });
}

template <class Action>
void WatchOutputs::attempt(Action&& action) {
    try {
        action();
    } catch (const std::system_error&) {
        if (!failure_) failure_ = std::current_exception();
    }
}

void WatchOutputs::take(const meter::FamilySample& sample, const meter::Outlook& outlook, const WatchCost& cost) {
    stream(sample);
    if (openmetrics_) attempt([&] { openmetrics_->write(openmetrics_of(sample, outlook, cost)); });
    if (display_) display_->show(sample, outlook);
    keep(sample);
}

/// Writes the sample to --ndjson and --csv. A stream that fails is given up; the watch goes on, and `finish` throws.
void WatchOutputs::stream(const meter::FamilySample& sample) {
    if (ndjson_) attempt([&] { ndjson_->write(ndjson_of(sample)); });
    if (!csv_) return;
    attempt([&] {
        begin_csv();
        csv_->write(csv_of(sample));
    });
}

void WatchOutputs::begin_csv() {
    if (!std::exchange(csv_begun_, true)) csv_->write(csv_header());
}

void WatchOutputs::keep(const meter::FamilySample& sample) {
    if (sample.processes.empty()) return;
    last_ = sample;
    for (meter::ProcessSample& process : last_->processes) process.keep_most_copied(kMostMappings);
    remember_each();
    if (!keeps_history()) return;
    heat_.add(sample);
    if (seen_++ % stride_ == 0) {
        kept_.push_back(*last_);
        for (const meter::ProcessSample& process : last_->processes) mappings_kept_ += process.mappings.size();
    }
    if (kept_.size() > kMostSamples || (mappings_kept_ > kMostMappingsKept && kept_.size() > 2)) thin_out();
}

void WatchOutputs::remember_each() {
    for (const meter::ProcessSample& process : last_->processes) {
        seen_last_.insert_or_assign(process.pid, EndedProcess{last_->elapsed, process});
    }
    while (seen_last_.size() > last_->processes.size() + kMostEnded) {
        auto least = seen_last_.end();
        for (auto at = seen_last_.begin(); at != seen_last_.end(); ++at) {
            if (at->second.seen_until == last_->elapsed) continue;
            const auto copied = [](const auto& entry) { return entry->second.process.figures.copied; };
            if (least == seen_last_.end() || copied(at) < copied(least)) least = at;
        }
        forgotten_ += least->second.process.figures;
        add(forgotten_blocks_, least->second.process.changed_blocks);
        seen_last_.erase(least);
    }
    all_seen_ = forgotten_;
    for (const auto& [pid, each] : seen_last_) all_seen_ += each.process.figures;
}

std::optional<meter::WhatIf> WatchOutputs::what_if() const {
    std::optional<meter::BlockCounts> blocks = forgotten_blocks_;
    for (const auto& [pid, each] : seen_last_) add(blocks, each.process.changed_blocks);
    if (!blocks) return std::nullopt;
    return meter::what_if(*blocks, blocks->changed_bytes());
}

std::vector<EndedProcess> WatchOutputs::ended() const {
    std::vector<EndedProcess> ended;
    for (const auto& [pid, each] : seen_last_) {
        if (each.seen_until < last_->elapsed) ended.push_back(each);
    }
    return ended;
}

/// Drops every second sample, and from now on keeps only every second one.
void WatchOutputs::thin_out() {
    stride_ *= 2;
    std::vector<meter::FamilySample> thinned;
    mappings_kept_ = 0;
    for (std::size_t i = 0; i < kept_.size(); i += 2) {
        for (const meter::ProcessSample& process : kept_[i].processes) mappings_kept_ += process.mappings.size();
        thinned.push_back(std::move(kept_[i]));
    }
    kept_ = std::move(thinned);
}

std::vector<meter::FamilySample> WatchOutputs::samples() const {
    std::vector<meter::FamilySample> samples = kept_;
    if (last_ && (samples.empty() || samples.back().elapsed < last_->elapsed)) samples.push_back(*last_);
    return samples;
}

void WatchOutputs::finish(const WatchReport& report) {
    if (display_) display_->clear();
    if (ndjson_) attempt([&] { ndjson_->finish(); });
    if (csv_) {
        attempt([&] {
            begin_csv();
            csv_->finish();
        });
    }
    const std::string document = keeps_history() ? json_of(report) : std::string();
    if (json_) attempt([&] { json_->write(document); });
    if (html_) {
        const ReportInput input{.name = "vmcow watch", .document = ReportJson::parse(document)};
        attempt([&] { html_->write(report_html(std::span(&input, 1))); });
    }
    if (folded_) attempt([&] { folded_->write(report.folded); });
    // Without writes there is no trace: a note says so, and an old file stays.
    if (record_ && !report.trace.empty()) attempt([&] { record_->write(report.trace); });
    if (text_fd_ >= 0) {
        std::string text = summary_of(report);
        if (display_) text.insert(0, display_->line_break());
        attempt([&] {
            sys::write_all(text_fd_, std::as_bytes(std::span(text)),
                           text_fd_ == STDOUT_FILENO ? "standard output" : "standard error");
        });
    }
    if (failure_) std::rethrow_exception(failure_);
}

}  // namespace vmcow::cli
