#include "procrun/program_call.hpp"

#include <poll.h>
#include <signal.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <variant>

#include "procrun/call/program_arguments.hpp"
#include "procrun/limits/limit_watch.hpp"
#include "procrun/limits/process_counters.hpp"
#include "procrun/process.hpp"
#include "procrun/process/function_process.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/wire/snapshot_codec.hpp"

namespace procrun {
namespace {

using vmcow::TypedSnapshot;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

/// Collects the values that a program gives. The program is not trusted and may send anything (I3).
class Results {
public:
    /// Takes over the caller's end of the connection, and the record of the files that were sent as arguments.
    Results(UniqueFd socket, vmcow::SentFiles sent) : socket_(std::move(socket)), sent_(std::move(sent)) {}

    /// The descriptor to poll; -1 when no more values can come.
    [[nodiscard]] int fd() const noexcept { return socket_.get(); }

    /// Takes the values that have arrived, without waiting. Throws: std::system_error -- something is no value.
    void take_all() {
        while (socket_) {
            pollfd wanted{socket_.get(), POLLIN, 0};
            if (vmcow::sys::retry_interrupted([&] { return ::poll(&wanted, 1, 0); }) <= 0) return;
            take_message();
        }
    }

    [[nodiscard]] std::vector<TypedSnapshot> take_values() noexcept { return std::move(values_); }

private:
    void take_message() {
        std::optional<vmcow::sys::Message> message;
        try {
            message = vmcow::sys::receive_message(socket_.get());
        } catch (const std::system_error& error) {
            // The kernel reports once that the program has ended with its arguments unread, which it may do.
            if (error.code().value() == ECONNRESET) return;
            throw;
        }
        if (!message) return socket_.reset();
        std::vector<TypedSnapshot> values = vmcow::unpack_values(std::move(*message), &sent_);
        if (values.size() != 1) throw_error(EBADMSG, std::to_string(values.size()) + " values in one message");
        if (values_.size() == ProgramCall::kMaxResults) {
            throw_error(E2BIG, "more than " + std::to_string(values_.size()) + " values");
        }
        values_.push_back(std::move(values.front()));
    }

    UniqueFd socket_;
    vmcow::SentFiles sent_;
    std::vector<TypedSnapshot> values_;
};

Outcome lost(const std::system_error& error) {
    return {OutcomeKind::result_lost, error.code().value(), "take a result: " + text_of(error)};
}

/// Takes results until the program has ended. Returns nullopt then, and all that the program sent has been taken.
/// Returns an outcome when the program is to be killed.
std::optional<Outcome> wait_for_end(const Process& program, Results& results, Deadline deadline, LimitWatch& watch) {
    bool ended = false;
    while (!ended) {
        std::array<pollfd, 2> wanted{pollfd{results.fd(), POLLIN, 0}, pollfd{program.pidfd(), POLLIN, 0}};
        poll_until(wanted, earlier(deadline, watch.next_look()), "wait for a program");
        ended = wanted[1].revents != 0;
        try {
            results.take_all();  // after the check for the end, so that nothing sent in between is missed
        } catch (const std::system_error& error) {
            return lost(error);
        }
        if (ended) break;
        if (auto reason = watch.exceeded()) return Outcome{OutcomeKind::limit_exceeded, SIGKILL, std::move(*reason)};
        if (deadline.passed()) return Outcome{OutcomeKind::deadline_passed, SIGKILL, {}};
    }
    return std::nullopt;
}

/// Reaps a program that has ended, and says how it ended.
Outcome outcome_at_end(Process& program, const LimitWatch& watch) {
    const ExitRecord record = program.wait();
    const std::chrono::duration<double> used(record.user_seconds + record.system_seconds);
    const auto over = watch.exceeded_at_end(std::chrono::duration_cast<std::chrono::nanoseconds>(used), std::nullopt);
    return over ? Outcome{OutcomeKind::limit_exceeded, 0, *over} : record.outcome;
}

}  // namespace

ProgramCall& ProgramCall::argument(vmcow::Snapshot snapshot, std::uint64_t type) {
    arguments_.push_back({std::move(snapshot), type});
    return *this;
}

ProgramCall& ProgramCall::deadline(Deadline deadline) {
    deadline_ = deadline;
    return *this;
}

ProgramCall& ProgramCall::processor_time(std::chrono::nanoseconds most) {
    processor_time_ = most;
    return *this;
}

ProgramCall& ProgramCall::memory_bytes(std::uint64_t most) {
    memory_bytes_ = most;
    return *this;
}

CallResult<std::vector<TypedSnapshot>> ProgramCall::run() const {
    require_sigchld("run a program");
    const auto begin = Deadline::Clock::now();
    vmcow::SentFiles sent;
    Program program_with_values = program_;
    ProgramArguments given = give_arguments(program_with_values, arguments_, &sent);
    auto started = program_with_values.start();
    given.program_end.reset();
    CallCost cost;
    if (auto* const refusal = std::get_if<Outcome>(&started)) return {std::move(*refusal), cost, std::nullopt};
    Process& program = std::get<Process>(started);

    Results results(std::move(given.caller_end), std::move(sent));
    ProcessCounters counters(program.pid());
    if (memory_bytes_) cost.memory_limit_by = MemoryLimitBy::polling;
    LimitWatch watch(counters, {.processor_time = processor_time_, .memory_bytes = memory_bytes_}, {},
                     CallStart::forked);
    std::optional<Outcome> cut_short = wait_for_end(program, results, deadline_, watch);
    if (cut_short) program.kill_and_wait();
    Outcome outcome = cut_short ? std::move(*cut_short) : outcome_at_end(program, watch);
    VMCOW_ASSERT(!program && "I4: the program has been reaped");
    for (const std::string& reason : watch.unknown()) {
        cost.unwatched += (cost.unwatched.empty() ? "" : "; ") + reason;
    }
    cost.seconds = std::chrono::duration<double>(Deadline::Clock::now() - begin).count();
    if (!outcome.ok()) return {std::move(outcome), std::move(cost), std::nullopt};
    return {std::move(outcome), std::move(cost), results.take_values()};
}

CallResult<TypedSnapshot> ProgramCall::run_for_one() const {
    auto all = run();
    if (!all.ok()) return {all.outcome(), all.cost(), std::nullopt};
    const std::vector<TypedSnapshot>& values = all.value();
    if (values.size() == 1) return {all.outcome(), all.cost(), values.front()};
    const std::string count = values.empty() ? "no value" : std::to_string(values.size()) + " values";
    const int error = values.empty() ? ENODATA : EBADMSG;
    return {{OutcomeKind::result_lost, error, "take a result: the program gave " + count}, all.cost(), std::nullopt};
}

Outcome ProgramCall::misfit(const std::system_error& error) { return lost(error); }

void ProgramCall::require_type(std::uint64_t found, std::uint64_t wanted) {
    if (found == 0 || found == wanted) return;
    throw_error(EBADMSG, "it is of type " + std::to_string(found) + ", not of type " + std::to_string(wanted));
}

}  // namespace procrun
