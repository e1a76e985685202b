#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmcow/cli/kit/output_file.hpp"
#include "vmcow/cli/kit/stream_file.hpp"
#include "vmcow/cli/watch/watch_report.hpp"
#include "vmcow/cli/watch/watch_text.hpp"
#include "vmcow/meter/watch/forecast.hpp"
#include "vmcow/meter/watch/heat_map.hpp"

namespace vmcow::cli {

/// Where the reports of a watch go: paths, of which "-" is standard output.
struct WatchOutputOptions {
    std::optional<std::string> ndjson;
    std::optional<std::string> csv;
    std::optional<std::string> openmetrics;
    std::optional<std::string> json;
    std::optional<std::string> folded;
    std::optional<std::string> record;
    std::optional<std::string> html;
    bool quiet = false;
    bool standard_output_taken = false;  ///< a watched program has it, so the table goes to standard error
};

/// Writes the reports of a watch, while it goes on and at its end.
class WatchOutputs {
public:
    /// Checks now that all reports can be written. `watched`: processes that run already and may print on our terminal.
    /// Throws: std::system_error with the path -- it cannot be written; Failure -- two files on standard output.
    WatchOutputs(const WatchOutputOptions& options, std::span<const pid_t> watched);

    void take(const meter::FamilySample& sample, const meter::Outlook& outlook, const WatchCost& cost);
    /// At most 512 samples, evenly spread, with at most 64 mappings of each process; and the last sample.
    [[nodiscard]] std::vector<meter::FamilySample> samples() const;
    [[nodiscard]] std::vector<meter::HeatMap::Range> heat() const { return heat_.ranges(); }
    /// The processes that have ended; at most 256, those with the most copies.
    [[nodiscard]] std::vector<EndedProcess> ended() const;
    /// The sum over all processes, also those that have ended, of what each had when it was seen last.
    [[nodiscard]] const meter::PageFigures& all_seen() const noexcept { return all_seen_; }
    /// What the same processes would have copied in blocks of other sizes; nullopt if no page was compared.
    [[nodiscard]] std::optional<meter::WhatIf> what_if() const;
    /// Writes the reports of the end. Tries every file, because a full disk under one must not cost the others.
    /// Throws: std::system_error -- the first failure, also one of an earlier sample.
    void finish(const WatchReport& report);

private:
    template <class Action>
    void attempt(Action&& action);
    void stream(const meter::FamilySample& sample);
    void begin_csv();
    [[nodiscard]] bool others_print_on_terminal(std::span<const pid_t> watched) const;
    void keep(const meter::FamilySample& sample);
    void thin_out();
    void remember_each();
    [[nodiscard]] bool keeps_history() const noexcept { return json_ || html_; }

    WatchOutputOptions options_;
    std::optional<StreamFile> ndjson_;
    std::optional<StreamFile> csv_;
    bool csv_begun_ = false;
    std::optional<OutputFile> openmetrics_;
    std::optional<OutputFile> json_;
    std::optional<OutputFile> folded_;
    std::optional<OutputFile> record_;
    std::optional<OutputFile> html_;
    std::optional<WatchDisplay> display_;
    int text_fd_ = -1;
    std::vector<meter::FamilySample> kept_;
    std::optional<meter::FamilySample> last_;
    meter::PageFigures all_seen_;
    meter::PageFigures forgotten_;  ///< the sum of ended processes that are no longer kept
    std::optional<meter::BlockCounts> forgotten_blocks_;
    std::map<pid_t, EndedProcess> seen_last_;  ///< each process, running or ended, as it was seen last
    std::size_t mappings_kept_ = 0;
    std::uint64_t seen_ = 0;
    std::uint64_t stride_ = 1;
    meter::HeatMap heat_;
    std::exception_ptr failure_;
};

}  // namespace vmcow::cli
