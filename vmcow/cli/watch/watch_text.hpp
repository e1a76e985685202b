#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "vmcow/cli/kit/status_display.hpp"
#include "vmcow/cli/watch/watch_report.hpp"
#include "vmcow/meter/watch/forecast.hpp"
#include "vmcow/meter/watch/watch_sample.hpp"

namespace vmcow::cli {

/// The table of a sample: a line for each of at most `most_processes`, for the sum of several, and for the forecast.
///
///          pid command           resident     shared     copied by child by parent     by ?        new    swapped
///        41234 redis-server       1.2 GiB          0          0        -         -        -          0          0
///        41250 redis-server       1.1 GiB  800.3 MiB  303.1 MiB    1.0 %    98.0 %    1.0 %    2.1 MiB          0
///              all                2.3 GiB  800.3 MiB  303.1 MiB    1.0 %    98.0 %    1.0 %    2.1 MiB          0
///     12.0 s; copied per second: 25.1 MiB; 2.3 GiB of 8.0 GiB (--limit), reached in 3 min 10 s
[[nodiscard]] std::vector<std::string> table_of(const meter::FamilySample& sample, const meter::Outlook& outlook,
                                                std::size_t most_processes);

/// A sample in one line, for where no table is drawn.
[[nodiscard]] std::string line_of(const meter::FamilySample& sample, const meter::Outlook& outlook);

/// What is printed at the end of a watch: the last table, the processes that have ended, the mappings and the functions
/// with the most copies, the cost of looking, and notes.
[[nodiscard]] std::string summary_of(const WatchReport& report);

/// Shows each sample. On a terminal where nobody else prints, each table is drawn over the one before; else samples are
/// lines.
class WatchDisplay {
public:
    /// `fd`: where samples are shown. `shared`: others print there too (StatusDisplay).
    WatchDisplay(int fd, bool shared) : display_(fd, shared) {}

    void show(const meter::FamilySample& sample, const meter::Outlook& outlook);
    /// Takes the table off the terminal again.
    void clear() { display_.clear(); }
    /// What has to be printed before a text that is to begin a line (StatusDisplay::line_break).
    [[nodiscard]] std::string line_break() noexcept { return display_.line_break(); }

private:
    StatusDisplay display_;
};

}  // namespace vmcow::cli
