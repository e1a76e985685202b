#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tests/faults/scenario.hpp"
#include "tests/faults/strace_log.hpp"
#include "vmcow/sys/fd.hpp"

namespace faults {

/// The result of one run under strace.
struct Trial {
    std::optional<ProcessEnd> end;     ///< of the command itself; nullopt when it did not end
    std::vector<ProcessEnd> violent;   ///< the ends of processes that were ended by a signal
    std::vector<std::string> left;     ///< processes and files that are still there after the run
    std::vector<std::string> damaged;  ///< output files that are not whole
    std::string out;
    std::string err;
    bool reached = false;  ///< the fault was injected
    bool mute = false;     ///< the fault hit a write to standard error
    bool hung = false;
};

/// The directories of the programs and of the files of a scenario.
struct Place {
    std::filesystem::path programs;
    std::filesystem::path files;  ///< made by the setup; every run gets a copy
};

/// The command line of strace for a scenario, log and fault: type it to repeat the run.
[[nodiscard]] std::vector<std::string> strace_words(const Scenario& scenario, const Place& place,
                                                    const std::string& log, const Fault* fault);

/// Runs commands one after the other, each in a new directory that is removed afterwards.
///
/// The process becomes the subreaper of its descendants: every process that a run leaves behind is found, named and
/// killed.
/// Pre: the process has one thread and no other children.
class Runner {
public:
    explicit Runner(Place place);
    ~Runner();
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;

    /// Without a fault, records every call in `recording`.
    [[nodiscard]] Trial run(const Scenario& scenario, const Fault* fault, Recording* recording = nullptr);

private:
    [[nodiscard]] pid_t start(const std::vector<std::string>& words, const Scenario& scenario,
                              const std::filesystem::path& directory, int out, int err) const;
    void follow(pid_t strace, Trial& trial, Recording* recording);
    void read_log(Trial& trial, Recording* recording);
    void take_line(std::string_view line, Trial& trial, Recording* recording);
    void look_for_files(const Scenario& scenario, const std::filesystem::path& directory, Trial& trial) const;

    Place place_;
    std::filesystem::path scratch_;
    vmcow::sys::UniqueFd log_;
    std::string pending_;  // the last, unfinished line of the log
    pid_t first_ = 0;
    bool strace_ended_ = false;
};

}  // namespace faults
