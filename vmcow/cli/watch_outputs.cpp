#include "vmcow/cli/watch_outputs.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <initializer_list>
#include <span>
#include <system_error>

#include "vmcow/cli/command_line.hpp"
#include "vmcow/cli/report_input.hpp"
#include "vmcow/cli/report_page.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::cli {
namespace {

constexpr std::size_t kMostSamples = 512;
constexpr std::size_t kMostMappings = 64;  // of each process of a sample that is kept
constexpr std::size_t kMostEnded = 256;
constexpr std::size_t kMostMappingsKept = 1u << 18;

sys::UniqueFd open_stream(const std::string& path) {
    if (path != "-") return sys::open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY);
    sys::UniqueFd copy(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!copy) sys::throw_errno("standard output");
    return copy;
}

void add(std::optional<measure::BlockCounts>& sum, const std::optional<measure::BlockCounts>& more) {
    if (more) sum = sum.value_or(measure::BlockCounts()) += *more;
}

void write(const sys::UniqueFd& fd, const std::string& text, const std::string& path) {
    sys::write_all(fd.get(), std::as_bytes(std::span(text)), path);
}

}  // namespace

WatchOutputs::WatchOutputs(const WatchOutputOptions& options) : options_(options) {
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
    if (options.ndjson) ndjson_ = open_stream(*options.ndjson);
    if (options.csv) csv_ = open_stream(*options.csv);
    if (options.openmetrics) openmetrics_.emplace(*options.openmetrics);
    if (options.json) json_.emplace(*options.json);
    if (options.folded) folded_.emplace(*options.folded);
    if (options.record) record_.emplace(*options.record);
    if (options.html) html_.emplace(*options.html);
    if (csv_) write(csv_, csv_header(), *options_.csv);
    if (options.quiet) return;
    text_fd_ = on_standard_output > 0 ? STDERR_FILENO : STDOUT_FILENO;
    display_.emplace(text_fd_, ::isatty(text_fd_) == 1);
}

template <class Action>
void WatchOutputs::attempt(Action&& action) {
    try {
        action();
    } catch (const std::system_error&) {
        if (!failure_) failure_ = std::current_exception();
    }
}

void WatchOutputs::take(const measure::FamilySample& sample, const measure::Outlook& outlook, const WatchCost& cost) {
    // A stream that could not be written is given up; the watch goes on, and the end says it.
    const auto stream = [&](sys::UniqueFd& fd, const std::optional<std::string>& path, const std::string& text) {
        if (!fd) return;
        try {
            write(fd, text, *path);
        } catch (const std::system_error&) {
            if (!failure_) failure_ = std::current_exception();
            fd.reset();
        }
    };
    if (ndjson_) stream(ndjson_, options_.ndjson, ndjson_of(sample));
    if (csv_) stream(csv_, options_.csv, csv_of(sample));
    if (openmetrics_) attempt([&] { openmetrics_->write(openmetrics_of(sample, outlook, cost)); });
    if (display_) display_->show(sample, outlook);
    keep(sample);
}

void WatchOutputs::keep(const measure::FamilySample& sample) {
    if (sample.processes.empty()) return;
    last_ = sample;
    for (measure::ProcessSample& process : last_->processes) process.keep_most_copied(kMostMappings);
    remember_each();
    if (!keeps_history()) return;
    heat_.add(sample);
    if (seen_++ % stride_ == 0) {
        kept_.push_back(*last_);
        for (const measure::ProcessSample& process : last_->processes) mappings_kept_ += process.mappings.size();
    }
    if (kept_.size() > kMostSamples || (mappings_kept_ > kMostMappingsKept && kept_.size() > 2)) thin_out();
}

void WatchOutputs::remember_each() {
    for (const measure::ProcessSample& process : last_->processes) {
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

std::optional<measure::WhatIf> WatchOutputs::what_if() const {
    std::optional<measure::BlockCounts> blocks = forgotten_blocks_;
    for (const auto& [pid, each] : seen_last_) add(blocks, each.process.changed_blocks);
    if (!blocks) return std::nullopt;
    return measure::what_if(*blocks, blocks->changed_bytes());
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
    std::vector<measure::FamilySample> thinned;
    mappings_kept_ = 0;
    for (std::size_t i = 0; i < kept_.size(); i += 2) {
        for (const measure::ProcessSample& process : kept_[i].processes) mappings_kept_ += process.mappings.size();
        thinned.push_back(std::move(kept_[i]));
    }
    kept_ = std::move(thinned);
}

std::vector<measure::FamilySample> WatchOutputs::samples() const {
    std::vector<measure::FamilySample> samples = kept_;
    if (last_ && (samples.empty() || samples.back().elapsed < last_->elapsed)) samples.push_back(*last_);
    return samples;
}

void WatchOutputs::finish(const WatchReport& report) {
    if (display_) display_->clear();
    const std::string document = keeps_history() ? json_of(report) : std::string();
    if (json_) attempt([&] { json_->write(document); });
    if (html_) {
        const ReportInput input{.name = "vmcow watch", .document = ReportJson::parse(document)};
        attempt([&] { html_->write(report_page(std::span(&input, 1))); });
    }
    if (folded_) attempt([&] { folded_->write(report.folded); });
    // A trace without writes is none: the note says it, and what was there before stays.
    if (record_ && !report.trace.empty()) attempt([&] { record_->write(report.trace); });
    if (text_fd_ >= 0) {
        const std::string text = summary_of(report);
        attempt([&] {
            sys::write_all(text_fd_, std::as_bytes(std::span(text)),
                           text_fd_ == STDOUT_FILENO ? "standard output" : "standard error");
        });
    }
    if (failure_) std::rethrow_exception(failure_);
}

}  // namespace vmcow::cli
