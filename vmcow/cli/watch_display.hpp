#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "vmcow/cli/watch_text.hpp"
#include "vmcow/measure/forecast.hpp"
#include "vmcow/measure/watch_sample.hpp"

namespace vmcow::cli {

/// The table of a sample: a line for each process, for the mappings with the most copies, and for the forecast.
///
///     12.0 s      pid command        resident    shared    copied by child by parent   unknown       new   swapped
///               41234 redis-server    1.2 GiB         0         0        0         0         0         0         0
///               41250 redis-server    1.1 GiB 800.3 MiB 303.1 MiB      1 %      98 %       1 %   2.1 MiB         0
///     copied per second 25.1 MiB; limit 8.0 GiB (--limit) in 3 min 10 s
[[nodiscard]] std::vector<std::string> table_of(const measure::FamilySample& sample, const measure::Outlook& outlook,
                                                std::size_t most_processes);

/// One line for a sample, where there is no terminal.
[[nodiscard]] std::string line_of(const measure::FamilySample& sample, const measure::Outlook& outlook);

/// What is printed when the watch is over: the last table, the mappings with the most copies, what looking has cost.
[[nodiscard]] std::string summary_of(const WatchReport& report);

/// Draws the table of each sample over the one before, on a terminal.
class WatchDisplay {
public:
    /// `fd`: where it goes; `terminal`: whether that is one.
    WatchDisplay(int fd, bool terminal) : fd_(fd), terminal_(terminal) {}

    void show(const measure::FamilySample& sample, const measure::Outlook& outlook);
    /// Takes the table off the terminal again.
    void clear();

private:
    void print(const std::string& text) const;

    int fd_;
    bool terminal_;
    std::size_t drawn_ = 0;
};

}  // namespace vmcow::cli
