#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "pipes/message_socket.hpp"
#include "procrun/pipeline_text.hpp"
#include "procrun/stage_io.hpp"
#include "procrun/stage_process.hpp"

namespace procrun {

/// What a function stage runs.
using StageFunction = std::function<void(StageIo&)>;

/// What came of a function stage, as it has told itself; nullopt where it could not: it was killed, or called exit(3).
struct FunctionStageReply {
    std::optional<Outcome> outcome;
    std::optional<ValueTraffic> traffic;
};

/// A function stage that runs in a process forked for it: its process, and the socket on which its reply comes.
class FunctionStage {
public:
    /// How it is forked, beside what a program is started with.
    struct Fork {
        const StageFunction& function;
        StageIo::Channels channels;
        /// Closes what the child has inherited of its neighbours' ends. Called in the child; async-signal-safe (I7).
        std::function<void()> close_others;
    };

    /// Pre: `text` has limits and a name only. Throws: std::system_error -- EAGAIN, EMFILE, ENOMEM, ECHILD.
    [[nodiscard]] static FunctionStage start(const StageText& text, const StageStart& how, Fork fork);

    [[nodiscard]] StageProcess take_process() { return std::move(process_); }
    /// Reads what the process has sent. Pre: it has ended.
    [[nodiscard]] FunctionStageReply reply();

private:
    FunctionStage(StageProcess process, pipes::MessageSocket socket)
        : process_(std::move(process)), socket_(std::move(socket)) {}

    StageProcess process_;
    pipes::MessageSocket socket_;
};

/// In a forked child: joins the process group, makes `standard` its descriptors 0, 1 and 2. 0 or an errno.
/// Async-signal-safe.
[[nodiscard]] int become_stage(const StageStart& how) noexcept;
/// The same group, said by the parent: whoever comes first. Pre: the child has not been reaped.
void join_group(pid_t child, pid_t group) noexcept;

}  // namespace procrun
