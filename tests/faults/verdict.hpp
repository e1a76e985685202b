#pragma once

#include <array>
#include <string>
#include <string_view>

#include "tests/faults/trial.hpp"

namespace faults {

enum class Outcome {
    right,        ///< status 0 and the right output
    said,         ///< a documented status, and a line that gives the reason
    killed,       ///< ended by the signal that was sent, and nothing is left behind
    not_reached,  ///< the call was not made this time
    wrong,        ///< status 0 and another output, or an output file that is not whole
    unclear,      ///< a failure without a line, with too many, or with a status that nothing documents
    crash,        ///< a signal that the program itself caused has ended a process
    hang,         ///< not ended within 4 s
    left,         ///< a process or a file is left behind
};
constexpr std::size_t kOutcomes = 9;

[[nodiscard]] std::string_view name_of(Outcome outcome) noexcept;
[[nodiscard]] bool is_bad(Outcome outcome) noexcept;

struct Verdict {
    Outcome outcome;
    std::string detail;          ///< one line, or empty
    bool tracer_failed = false;  ///< strace lost the program, which says nothing about the program
};

/// `right_output` is the output of the scenario without a fault.
[[nodiscard]] Verdict judge(const Scenario& scenario, const Trial& trial, const std::string& right_output);

}  // namespace faults
