#pragma once

#include <signal.h>

#include <optional>
#include <string>
#include <vector>

#include "procrun/outcome.hpp"
#include "procrun/program_child.hpp"

namespace procrun::detail {

/// All signals of the calling thread wait while this lives, so that no handler of ours ever runs in a child that is
/// made meanwhile.
class BlockedSignals {
public:
    BlockedSignals();
    BlockedSignals(const BlockedSignals&) = delete;
    BlockedSignals& operator=(const BlockedSignals&) = delete;
    ~BlockedSignals();

private:
    sigset_t previous_{};
};

/// The memory behind a ChildPlan, for both ways of starting a program. What it points to outside lives in the Program.
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

    /// What a child of this process needs; valid while this lives and stays where it is.
    [[nodiscard]] ChildPlan for_child() noexcept;
};

/// Those of SIGHUP and the terminal's signals that this process ignores: what a shell or nohup(1) had us ignore, so
/// that the terminal or its end does not reach us, must not reach our programs.
[[nodiscard]] std::uint64_t ignored_signals() noexcept;

/// Why the program of `plan` never ran.
[[nodiscard]] Outcome outcome_of(const StartFailure& failure, const ChildPlan& plan);

}  // namespace procrun::detail
