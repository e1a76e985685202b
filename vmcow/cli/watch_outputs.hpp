#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/cli/output_file.hpp"
#include "vmcow/cli/watch_display.hpp"
#include "vmcow/cli/watch_text.hpp"
#include "vmcow/measure/forecast.hpp"
#include "vmcow/measure/heat_map.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::cli {

/// Where a watch is to be reported.
struct WatchOutputOptions {
    std::optional<std::string> ndjson;
    std::optional<std::string> csv;
    std::optional<std::string> openmetrics;
    std::optional<std::string> json;
    std::optional<std::string> folded;
    std::optional<std::string> record;
    std::optional<std::string> html;
    bool quiet = false;
    bool standard_output_taken = false;  ///< by a program that is watched: the table goes to standard error
};

/// All that is written of a watch, while it goes on and at its end.
class WatchOutputs {
public:
    /// Finds out now what cannot be written. Throws: std::system_error -- with the path; Failure -- two files on
    /// standard output.
    explicit WatchOutputs(const WatchOutputOptions& options);

    void take(const measure::FamilySample& sample, const measure::Outlook& outlook, const WatchCost& cost);
    /// The samples that were kept, evenly spread: at most 512 of them, with at most 64 mappings of each process; and
    /// the last.
    [[nodiscard]] std::vector<measure::FamilySample> samples() const;
    [[nodiscard]] std::vector<measure::HeatMap::Range> heat() const { return heat_.ranges(); }
    /// Those of the processes that have ended, at most 256 with the most copies.
    [[nodiscard]] std::vector<EndedProcess> ended() const;
    /// The sum of what each process had when it was seen last, also of those that have ended.
    [[nodiscard]] const measure::PageFigures& all_seen() const noexcept { return all_seen_; }
    /// What would have been copied in blocks of other sizes, of the same processes; nothing where no page was compared.
    [[nodiscard]] std::optional<measure::WhatIf> what_if() const;
    /// Writes what is written at the end. Every file is tried: a full disk under one must not cost the others.
    /// Throws: std::system_error -- the first failure, also one from before.
    void finish(const WatchReport& report);

private:
    template <class Action>
    void attempt(Action&& action);
    void keep(const measure::FamilySample& sample);
    void thin_out();
    void remember_each();
    [[nodiscard]] bool keeps_history() const noexcept { return json_ || html_; }

    WatchOutputOptions options_;
    sys::UniqueFd ndjson_;
    sys::UniqueFd csv_;
    std::optional<OutputFile> openmetrics_;
    std::optional<OutputFile> json_;
    std::optional<OutputFile> folded_;
    std::optional<OutputFile> record_;
    std::optional<OutputFile> html_;
    std::optional<WatchDisplay> display_;
    int text_fd_ = -1;
    std::vector<measure::FamilySample> kept_;
    std::optional<measure::FamilySample> last_;
    measure::PageFigures all_seen_;
    measure::PageFigures forgotten_;  ///< of ended processes that are not kept
    std::optional<measure::BlockCounts> forgotten_blocks_;
    std::map<pid_t, EndedProcess> seen_last_;  ///< of each process, also while it is there
    std::size_t mappings_kept_ = 0;
    std::uint64_t seen_ = 0;
    std::uint64_t stride_ = 1;
    measure::HeatMap heat_;
    std::exception_ptr failure_;
};

}  // namespace vmcow::cli
