#pragma once

#include <cstdint>

#include <optional>
#include <string>
#include <vector>

#include "procrun/outcome.hpp"
#include "procrun/program/program_child.hpp"

namespace procrun::detail {

/// Owns the memory behind a ChildPlan. The strings of `argv_pointers` and `directory` lie in the Program.
struct ProgramPlan {
    std::vector<std::string> environment;
    std::vector<std::string> paths;
    std::vector<const char*> argv_pointers;
    std::vector<const char*> environment_pointers;
    std::vector<const char*> path_pointers;
    std::vector<DescriptorMove> moves;
    std::vector<ResourceLimit> limits;
    std::optional<pid_t> process_group;
    const char* directory = nullptr;
    int terminal = -1;

    /// The plan for a child of this process. It is valid while this object lives and is not moved.
    [[nodiscard]] ChildPlan for_child() noexcept;
};

/// Those of SIGHUP and the terminal's signals that this process ignores. A shell or nohup(1) has made it ignore them so
/// that the terminal, or the end of the terminal, does not reach it; they must not reach its programs either.
[[nodiscard]] std::uint64_t ignored_signals() noexcept;

/// Why the program of `plan` never ran.
[[nodiscard]] Outcome outcome_of(const StartFailure& failure, const ChildPlan& plan);

}  // namespace procrun::detail
