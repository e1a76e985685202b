#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "pipes/message_socket.hpp"
#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/pipeline/stage_io.hpp"
#include "procrun/pipeline/stage_process.hpp"

namespace procrun {

/// What a function stage says of its own end; nullopt where it could not: it was killed, or called exit(3).
struct FunctionStageReply {
    std::optional<Outcome> outcome;
    std::optional<ValueTraffic> traffic;
};

/// A function stage, which runs in a process forked for it: the process, and the socket on which the reply comes.
class FunctionStage {
public:
    /// What the fork needs in addition to the StageStart that every stage has.
    struct Fork {
        const StageFunction& function;
        StageIo::Channels channels;
        /// Closes the ends of other stages that the child has inherited. Called in the child; async-signal-safe (I7).
        std::function<void()> close_others;
    };

    /// Pre:    `text` has limits and a name only.
    /// Throws: std::system_error -- EAGAIN, EMFILE, ENOMEM, ECHILD.
    [[nodiscard]] static FunctionStage start(const StageText& text, const StageStart& how, Fork fork);

    [[nodiscard]] StageProcess take_process() { return std::move(process_); }
    /// Reads what the process has sent.
    /// Pre: the process has ended.
    [[nodiscard]] FunctionStageReply reply();

private:
    FunctionStage(StageProcess process, pipes::MessageSocket socket)
        : process_(std::move(process)), socket_(std::move(socket)) {}

    StageProcess process_;
    pipes::MessageSocket socket_;
};

/// Makes a forked child a stage: it joins the process group, and gets `standard` as its descriptors 0, 1 and 2. Returns
/// 0 or an errno. Async-signal-safe.
[[nodiscard]] int become_stage(const StageStart& how) noexcept;
/// Puts a child into its group from the parent's side. Parent and child both do it, because either may be first.
/// Pre: the child has not been reaped.
void join_group(pid_t child, pid_t group) noexcept;

}  // namespace procrun
