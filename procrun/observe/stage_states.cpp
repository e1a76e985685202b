#include "procrun/observe/stage_states.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace procrun {

using std::chrono::nanoseconds;

namespace {

using Kind = BlockedCall::Kind;

constexpr int kCountsPerLife = 50;
constexpr int kSearchesPerLife = 2;  // where children have to be found among all processes, which is expensive
constexpr nanoseconds kShortestCount = std::chrono::milliseconds{2};
constexpr nanoseconds kLongestCount = std::chrono::milliseconds{100};
constexpr nanoseconds kDetailInterval = std::chrono::milliseconds{100};

double seconds(nanoseconds time) { return std::chrono::duration<double>(time).count(); }

bool is_named(const SharedGauge& gauge, const std::string& name) {
    return gauge && !name.empty() && gauge->name() == name;
}

bool is_pipe(const SharedGauge& gauge) { return gauge && gauge->is_pipe(); }

std::optional<PipeLevel> level_of(const SharedGauge& gauge) { return gauge ? gauge->level() : std::nullopt; }

}  // namespace

StageStates::StageStates(pid_t pid, StageStreams streams, Clock::time_point started, StageLookOptions options)
    : streams_(std::move(streams)),
      options_(options),
      started_(started),
      tasks_(pid, started, options.children_files),
      looked_at_(started),
      details_at_(started) {}

void StageStates::look(Clock::time_point now) {
    VMCOW_ASSERT(!stopped_ && "a stage that was stopped may have been reaped");
    const int counts = tasks_.has_children_files() ? kCountsPerLife : kSearchesPerLife;
    const nanoseconds count_interval = std::clamp((now - started_) / counts, kShortestCount, kLongestCount);
    if (now - tasks_.refreshed_at() >= count_interval) tasks_.refresh(now);
    if (now - details_at_ >= kDetailInterval) read_details(now);

    const std::size_t running_before = running_threads_;
    StageState state = seen_state();
    if (state == StageState::waiting && tasks_.refreshed_at() != now && tasks_.has_children_files()) {
        // The stage may be waiting for a process that it has started since the last count.
        tasks_.refresh(now);
        state = seen_state();
    }
    // A loaded machine delays a look until something has ended. So the state that is found stands for only half of the
    // time since the last look, and the state that the last look found for the other half.
    const double half = seconds(now - looked_at_) / 2;
    if (looks_ > 0) seen_.add(view_.state, running_before, half);
    seen_.add(state, running_threads_, looks_ > 0 ? half : 2 * half);
    view_.state = state;
    looked_at_ = now;
    if (state == StageState::unknown) return;
    ++looks_;
    if (state != StageState::running) ++asleep_looks_;
}

void StageStates::SeenSeconds::add(StageState state, std::size_t threads, double seconds) {
    switch (state) {
        case StageState::running:
            running += seconds;
            running_threads += seconds * static_cast<double>(threads);
            break;
        case StageState::blocked_read:
            blocked_read += seconds;
            break;
        case StageState::blocked_write:
            blocked_write += seconds;
            break;
        case StageState::waiting:
            waiting += seconds;
            break;
        case StageState::unknown:
            break;
    }
}

void StageStates::stop(Clock::time_point now) {
    VMCOW_ASSERT(!stopped_ && "a stage is stopped once");
    tasks_.finish(now);
    stopped_ = true;
}

void StageStates::read_details(Clock::time_point now) {
    view_.input = level_of(streams_.input);
    view_.transferred = tasks_.transferred();
    view_.resident_bytes = tasks_.resident_bytes();
    details_at_ = now;
}

StageState StageStates::seen_state() {
    running_threads_ = 0;
    if (options_.depth == StageLookOptions::Depth::levels) return state_of_pipes(false);
    bool reads = false;
    bool writes = false;
    bool waits = false;
    bool pipes_decide = false;
    bool unclear = false;
    for (StageTask& task : tasks_.tasks()) {
        const auto finding = find(task);
        if (!finding) continue;
        if (finding->state == StageState::running) ++running_threads_;
        reads = reads || finding->state == StageState::blocked_read;
        writes = writes || finding->state == StageState::blocked_write;
        waits = waits || finding->state == StageState::waiting;
        pipes_decide = pipes_decide || finding->pipes_decide;
        unclear = unclear || (finding->pipes_decide && finding->state == StageState::unknown);
    }
    if (running_threads_ > 0) return StageState::running;
    if (writes) return StageState::blocked_write;
    if (reads) return StageState::blocked_read;
    if (const StageState shown = shown_wait(); shown != StageState::unknown) return shown;
    if (pipes_decide) return state_of_pipes(!unclear);
    return waits ? StageState::waiting : state_of_pipes(false);
}

StageState StageStates::shown_wait() const noexcept {
    const ValueWait wait = streams_.values ? streams_.values->load(std::memory_order_relaxed) : ValueWait::none;
    if (wait == ValueWait::takes) return StageState::blocked_read;
    return wait == ValueWait::gives ? StageState::blocked_write : StageState::unknown;
}

/// What a thread does; nullopt when it has ended.
std::optional<StageStates::Finding> StageStates::find(StageTask& task) const {
    const bool by_call = options_.depth == StageLookOptions::Depth::calls;
    auto call = by_call ? task.call() : std::nullopt;
    const bool is_call = call.has_value();
    if (!call) call = task.scheduler_state();
    if (!call || call->kind == Kind::ended) return std::nullopt;
    switch (call->kind) {
        case Kind::none:
            return Finding{.state = StageState::running};
        case Kind::waits:
            return Finding{.state = StageState::waiting};
        case Kind::polls:
            return Finding{.state = StageState::waiting, .pipes_decide = true};
        default:
            return is_call ? find_by_descriptors(task, *call) : find_by_kernel_function(call->kind);
    }
}

StageStates::Finding StageStates::find_by_descriptors(const StageTask& task, const BlockedCall& call) const {
    if (call.kind == Kind::unclear) return {.pipes_decide = true};
    const auto name = [&](int fd) { return fd < 0 ? std::string() : name_of_descriptor(task.process_folder(), fd); };
    const bool reads_input = call.kind != Kind::writes && is_named(streams_.input, name(call.in));
    const bool writes_output = call.kind != Kind::reads && is_named(streams_.output, name(call.out));
    if (reads_input && writes_output) {
        const auto input = level_of(streams_.input);
        return {.state = input && input->empty() ? StageState::blocked_read : StageState::blocked_write};
    }
    if (reads_input) return {.state = StageState::blocked_read};
    if (writes_output) return {.state = StageState::blocked_write};
    return {.state = StageState::waiting};
}

/// Takes the pipe that a thread reads or writes for the stage's standard input or output, which it most often is.
StageStates::Finding StageStates::find_by_kernel_function(Kind kind) const {
    if (kind == Kind::reads && is_pipe(streams_.input)) return {.state = StageState::blocked_read};
    if (kind == Kind::writes && is_pipe(streams_.output)) return {.state = StageState::blocked_write};
    return {.pipes_decide = true};
}

/// The state by the levels of the pipes. Where neither pipe holds the stage up, it is waiting if the stage is known to
/// be `asleep`, and unknown otherwise.
StageState StageStates::state_of_pipes(bool asleep) {
    const auto input = level_of(streams_.input);
    view_.input = input;
    if (input && input->empty()) return StageState::blocked_read;
    const auto output = level_of(streams_.output);
    if (output && output->full()) return StageState::blocked_write;
    return asleep ? StageState::waiting : StageState::unknown;
}

std::optional<double> StageStates::running_share() const {
    const double seen = seen_.running + seen_.asleep();
    const double life = seconds(tasks_.refreshed_at() - started_);
    const auto busy = tasks_.busy();
    const bool looked = looks_ > 0 && seen > 0 && options_.depth != StageLookOptions::Depth::levels;
    if (!busy || life <= 0) return looked ? std::optional(seen_.running / seen) : std::nullopt;
    const double lower = std::min(seconds(busy->lower) / life, 1.0);
    const double upper = std::clamp(seconds(busy->upper) / life, lower, 1.0);
    if (looked && seen_.running > 0) {
        const double at_once = seen_.running_threads / seen_.running;
        const double counted = seconds(busy->counted) / at_once / life;
        const double found = std::max(seen_.running / seen, counted);
        const double uncounted = std::min(seconds(busy->upper - busy->counted) / life, 1.0);
        return std::clamp((1 - uncounted) * counted + uncounted * found, lower, upper);
    }
    if (looked) return lower;
    return lower == upper ? std::optional(lower) : std::nullopt;
}

StageShares StageStates::shares() const {
    StageShares shares;
    shares.life_seconds = seconds(tasks_.refreshed_at() - started_);
    shares.looks = looks_;
    shares.asleep_looks = asleep_looks_;
    shares.running = running_share();
    if (!shares.running || looks_ < kFewestLooks) return shares;
    const double rest = 1 - *shares.running;
    const double asleep = seen_.asleep();
    if (asleep > 0) {
        shares.blocked_read = rest * seen_.blocked_read / asleep;
        shares.blocked_write = rest * seen_.blocked_write / asleep;
        shares.waiting = rest * seen_.waiting / asleep;
    } else {
        // These looks would have found the stage asleep at its pipes if it had been asleep there for long.
        shares.blocked_read = 0;
        shares.blocked_write = 0;
        shares.waiting = rest;
    }
    return shares;
}

}  // namespace procrun
