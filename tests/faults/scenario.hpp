#pragma once

#include <filesystem>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/faults/strace_log.hpp"

namespace faults {

/// A file that the command writes. When it is there, it must be whole.
struct OutputFile {
    std::string name;
    std::regex whole;
};

/// A command whose calls are failed one by one, and its permitted outcomes. It is read from a file of scripts/faults.d;
/// the README there describes the format.
struct Scenario {
    std::string name;
    std::vector<std::string> words;  ///< the command; our own programs are given without a path
    std::vector<std::string> setup;  ///< shell commands that make the files that the command reads
    std::string input;               ///< file for standard input; empty for /dev/null
    bool same_output = false;        ///< standard output must equal that of the run without a fault
    std::vector<std::regex> expected;
    std::vector<OutputFile> outputs;
    std::set<int> statuses;         ///< permitted exit statuses beside 0
    std::set<int> silent_statuses;  ///< those of them that need no line on standard error
    std::set<std::string> signals;  ///< that end one of its processes even without a fault
    std::ptrdiff_t most_lines = 1;  ///< the most that a failure may print on standard error
};

/// Throws: std::runtime_error that names file and line.
[[nodiscard]] Scenario read_scenario(const std::filesystem::path& file);

/// Splits at spaces; '…' keeps words together.
[[nodiscard]] std::vector<std::string> split_words(std::string_view text);

/// One fault, injected into one run.
struct Fault {
    std::string call;
    std::string error;  ///< empty: each process is killed at its call of that number
    unsigned number = 1;
    bool from_then_on = false;

    /// The argument of strace's --inject: "mmap:error=ENOMEM:when=3+".
    [[nodiscard]] std::string injection() const;
};

/// All faults of a scenario, in the order in which they are tried.
struct FaultPlan {
    std::vector<Fault> faults;
    std::size_t calls = 0;
    std::set<std::string> unknown;  ///< calls that neither table has
};
[[nodiscard]] FaultPlan plan_faults(const Recording& recording);

}  // namespace faults
