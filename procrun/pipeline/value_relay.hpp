#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "procrun/outcome.hpp"
#include "procrun/pipeline/bounded_channel.hpp"
#include "procrun/pipeline/pipeline_report.hpp"
#include "procrun/pipeline/pipeline_stages.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/wire/snapshot_codec.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

/// Hands values from stage to stage where programs take part (vmcow/program_values.hpp). Each program has a connection
/// to this process and to no other stage:
///
///     program ── value ──▶ relay ──▶ what the next stages wait for      checked here: seals, sizes, indices (I3)
///             ── ask ────▶
///             ◀── value ──                                               one answer for each question, or the end
///
/// Values go by descriptor; their bytes are neither read nor copied here. Nothing is sent to a program that has not
/// asked. So an ordinary program has an idle socket and no file of a value, and no message waits for room.
///
/// A value that a program gives goes on at once. If a program gives none, the values that it was given go on when it
/// ends: always if it has not asked, and only with status 0 if it has. A program that closes its connection without
/// having asked, or after having given, counts as ended. A program that reads several stages gets all values of the
/// first one, then those of the second one …, or values as they come, as its `join` says.
///
/// A function that gives values to a program gets SIGPIPE when its values can no longer go on. It waits while
/// ProgramCall::kMaxResults of them have not been asked for. A program that has asked for none by then is refused,
/// because it may never ask. A program that has asked before may be slow, or may never ask again: `take_stalled`
/// reports it, and only the deadline of the pipeline ends it.
///
/// Threads: one.
class ValueRelay {
public:
    /// `stages` is the number of stages. `keeps`: values that nobody reads are kept for the caller.
    ValueRelay(std::size_t stages, bool keeps);
    ValueRelay(const ValueRelay&) = delete;
    ValueRelay& operator=(const ValueRelay&) = delete;
    ~ValueRelay();

    // ---- who reads whom; a program is added before those that read it

    /// Adds a program with our end of its connection. `to_caller`: the caller takes the values that it gives, whatever
    /// other readers it has.
    void add_program(std::size_t stage, vmcow::sys::UniqueFd socket, bool by_line, bool to_caller);
    void read_program(std::size_t stage, std::size_t writer);
    void read_function(std::size_t stage, std::size_t writer, BoundedReceiver values);
    void give_function(std::size_t writer, BoundedSender values);
    /// Gives these values to every program that reads no stage.
    void give_from_caller(std::span<const vmcow::TypedSnapshot> values);

    /// Closes all ends in a forked child. Async-signal-safe (I7).
    void close_all() noexcept;

    // ---- while the stages run

    /// Adds the descriptors that are to be waited for.
    void watch(std::vector<Attended>& attended);
    /// To be called after each wait: takes values and hands them on as far as this is possible without waiting. `runs`
    /// says whether a stage has not been reaped; `reports` says how the others have ended. Returns the programs that
    /// are refused (they have sent something that is no value, or more than ProgramCall::kMaxResults): they are to be
    /// killed, and their outcome is `refusal_of`.
    /// Throws: std::system_error -- when waiting itself fails.
    [[nodiscard]] std::vector<std::size_t> step(const std::function<bool(std::size_t)>& runs,
                                                std::span<const StageReport> reports);
    /// To be called after a step: the programs that have asked for no value for kStall while a stage waits because of
    /// that. Each program is returned once.
    [[nodiscard]] std::vector<std::size_t> take_stalled() { return std::exchange(stalled_, {}); }
    static constexpr std::chrono::seconds kStall{2};

    // ---- when all have ended

    /// Counts what has become of the values. No value moves after that.
    void finish(PipelineReport& report);
    [[nodiscard]] const std::optional<Outcome>& refusal_of(std::size_t stage) const;
    /// The values of a program that the caller takes or that nobody reads; empty for a stage that is no program.
    [[nodiscard]] std::deque<vmcow::TypedSnapshot> take_output(std::size_t stage);
    /// Why the values of a function could not be taken over; empty: they could.
    [[nodiscard]] const std::string& failure() const noexcept { return failure_; }

private:
    struct Given;
    struct Edge;
    struct Target;
    struct ProgramNode;
    using GivenPtr = std::shared_ptr<Given>;

    [[nodiscard]] ProgramNode& node_of(std::size_t stage);
    [[nodiscard]] GivenPtr given_by(std::size_t giver, vmcow::TypedSnapshot value);
    void take_messages(ProgramNode& program);
    void take_message(ProgramNode& program, vmcow::sys::Message message);
    void take_from_functions(ProgramNode& program);
    bool take_from_function(Edge& edge);
    void answer(ProgramNode& program);
    void end(ProgramNode& program, const Outcome& outcome);
    void hang_up(ProgramNode& program);
    void let_pass(ProgramNode& program);
    void pass_on(ProgramNode& program);
    void push(ProgramNode& program, const GivenPtr& value);
    void end_output(ProgramNode& program);
    [[nodiscard]] bool holds_up(const ProgramNode& program) const;
    void note_stall(ProgramNode& program);
    void refuse(ProgramNode& program, const std::system_error& error);
    static void flush(Target& target);

    /// How many values nobody took: of each stage, and last of the caller. Values are counted as they are destroyed.
    std::vector<std::uint64_t> untaken_;
    std::vector<std::unique_ptr<ProgramNode>> programs_;
    std::vector<std::size_t> refused_;  // since the last step began
    std::vector<std::size_t> stalled_;  // not yet returned by take_stalled
    std::string failure_;
    bool keeps_;
};

}  // namespace procrun
