#include "procrun/pipeline/pipeline_run.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "pipes/pump.hpp"
#include "procrun/observe/transfer_meter.hpp"
#include "procrun/process/function_process.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/image/fork_lock.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

PipelineRun::PipelineRun(const std::deque<StageSpec>& specs, const PipelineRunOptions& options)
    : specs_(specs),
      options_(options),
      functions_(specs.size()),
      alone_(has_one_thread()),
      running_(specs.size(), 1, options) {
    result_.traffic_.resize(specs.size());
    result_.values_.resize(specs.size());
    for (const StageSpec& spec : specs) {
        VMCOW_ASSERT((spec.is_function() || !spec.text.argv.empty()) && "a program has a word");
        text_.stages.push_back(spec.text);
        StageReport& report = result_.report_.stages.emplace_back();
        report.argv = spec.text.argv;
        report.name = spec.text.name;
    }
    const std::vector<std::vector<std::size_t>> readers = readers_of(specs);
    for (std::size_t i = 0; i < readers.size(); ++i) result_.report_.stages[i].readers = readers[i];
}

PipelineResult PipelineRun::run() {
    require_sigchld("run a pipeline");
    PipelineReport& report = result_.report_;
    if (prepare()) start_all();
    if (report.refused) running_.stop_all();
    listen();
    if (pump_) report.stages.emplace_back().name = "pump";
    while (running_.running() > 0) wait_once();
    receive_rest();
    finish_values();
    if (pump_) take_pump_reply();
    take_replies();
    running_.end(!report.refused);
    report.stopped = report.stopped || running_.stopped();
    report.wall_seconds = running_.seconds();
    report.status = status_of(report.stages);
    if (report.status == 0 && !report.pump_failure.empty()) report.status = 1;
    report.bottleneck = bottleneck_of(report.stages);
    return std::move(result_);
}

// ---- starting

bool PipelineRun::prepare() {
    StartMaterial material = prepare_start(text_, options_);
    result_.report_.stopped = material.stopped;
    if (material.refusal) refuse(result_.report_, material.refusal->stage, std::move(material.refusal->outcome));
    files_ = std::move(material.files);
    return !result_.report_.refused;
}

bool PipelineRun::takes_part() const {
    VMCOW_ASSERT(wiring_.stages.size() == specs_.size() && "the wiring is open");
    const bool has_functions =
        std::any_of(specs_.begin(), specs_.end(), [](const StageSpec& spec) { return spec.is_function(); });
    return has_functions || wiring_.relay || !wiring_.flows.empty();
}

void PipelineRun::start_all() {
    // No other thread forks a process meanwhile that would keep our ends open. Lock order: before the launcher's mutex.
    std::unique_lock lock(vmcow::fork_lock());
    std::size_t next = 0;
    try {
        running_.begin_job();
        wiring_ = Wiring::open(specs_, options_);
        if (takes_part()) {
            pin_.emplace();
        } else {
            lock.unlock();  // an exec may take long, and threads that map an image would wait for it
        }
        for (; next < specs_.size(); ++next) {
            if (auto outcome = start_stage(next)) {
                refuse(result_.report_, next, *std::move(outcome));
                break;
            }
        }
        if (!result_.report_.refused && !wiring_.flows.empty()) start_pump();
    } catch (const std::system_error& error) {
        const std::size_t last = specs_.size() - 1;
        refuse(result_.report_, std::min(next, last), not_started(error));
    }
    wiring_.stages.clear();
    wiring_.flows.clear();
    files_.clear();
}

std::optional<Outcome> PipelineRun::start_stage(std::size_t index) {
    StageEnds ends = wiring_.take_ends(index, options_);
    const StageFiles files = std::move(files_[index]);
    StageReport& report = result_.report_.stages[index];
    report.pipe_bytes = ends.pipe_bytes;
    const StandardDescriptors inherited{ends.in ? ends.in.get() : STDIN_FILENO,
                                        ends.out ? ends.out.get() : STDOUT_FILENO, STDERR_FILENO};
    const StandardDescriptors standard = redirected(inherited, text_.stages[index].redirections, files);
    StageStart how{.standard = standard,
                   .group = running_.group(),
                   .terminal_fd = index == 0 ? running_.terminal_to_hand_over() : -1,
                   .values = ends.values ? ends.values.get() : -1,
                   .streams = streams_of(standard, inherited, {.input = ends.in_gauge, .output = ends.out_gauge}),
                   .alone = alone_};
    if (specs_[index].is_function()) {
        if (!ends.takes.empty() || !ends.gives.empty()) how.streams.values = make_value_wait();
        return start_function(index, how, ends);
    }
    auto started = StageProcess::start(launcher_of(options_), text_.stages[index], how);
    if (auto* refusal = std::get_if<Outcome>(&started)) return std::move(*refusal);
    report.pid = std::get<StageProcess>(started).pid();
    running_.began(index, std::get<StageProcess>(std::move(started)));
    return std::nullopt;
}

std::optional<Outcome> PipelineRun::start_function(std::size_t index, const StageStart& how, StageEnds& ends) {
    FunctionStage::Fork fork{.function = specs_[index].function,
                             .channels = {.in = std::move(ends.takes),
                                          .out = std::move(ends.gives),
                                          .join = specs_[index].join,
                                          .bounds = specs_[index].bounds,
                                          .wait = how.streams.values},
                             .close_others = [&] {
                                 wiring_.close_all();
                                 ends.in.reset();
                                 ends.out.reset();
                                 for (StageFiles& files : files_) {
                                     for (UniqueFd& file : files) file.reset();
                                 }
                             }};
    functions_[index] = FunctionStage::start(text_.stages[index], how, std::move(fork));
    StageProcess process = functions_[index]->take_process();
    result_.report_.stages[index].pid = process.pid();
    running_.began(index, std::move(process));
    return std::nullopt;
}

// ---- the pump

std::string PipelineRun::name_of_stage(std::size_t index) const {
    const StageText& stage = text_.stages[index];
    return stage.name.empty() ? stage.argv.front() : stage.name;
}

void PipelineRun::start_pump() {
    auto [ours, theirs] = pipes::MessageSocket::pair();
    const StageFunction function = [this, &socket = theirs](StageIo&) { move_bytes(socket); };
    StageText text;
    text.name = "pump";
    const StageStart how{.group = running_.group(), .alone = alone_};
    pump_ = FunctionStage::start(text, how, {.function = function, .channels = {}, .close_others = [this] {
                                                 for (auto& output : wiring_.outputs) {
                                                     if (output) output->close();
                                                 }
                                                 if (wiring_.relay) wiring_.relay->close_all();
                                             }});
    notices_ = std::move(ours);
    running_.began(specs_.size(), pump_->take_process());
}

/// Moves the bytes, in the pump's process.
/// Throws: std::runtime_error -- which bytes did not arrive, and why.
void PipelineRun::move_bytes(pipes::MessageSocket& notices) {
    const std::vector<WiredFlow>& flows = wiring_.flows;
    const auto describe = [&](std::size_t flow, std::size_t end) {
        const std::string one = name_of_stage(flows[flow].stage);
        const std::string other = name_of_stage(flows[flow].others[end]);
        const bool is_tee = flows[flow].is_tee;
        return fmt::format("from '{}' to '{}'", is_tee ? one : other, is_tee ? other : one);
    };
    pipes::PumpOptions options;
    options.way = options_.pump_way;
    options.memory_bytes = options_.pump_memory_bytes;
    options.spill_directory = options_.spill_directory;
    options.notice = [&](const pipes::SpillNotice& notice) {
        const std::string text = fmt::format("bytes {} wait in a file in {}, because they are not read in this order",
                                             describe(notice.flow, notice.end), notice.directory);
        notices.send(std::as_bytes(std::span(text)), {});
    };
    pipes::Pump pump(std::move(options));
    for (WiredFlow& flow : wiring_.flows) {
        if (flow.holds) {
            pump.hold(std::move(flow.ins.front()), std::move(flow.outs.front()));
        } else if (flow.is_tee) {
            pump.tee(std::move(flow.ins.front()), std::move(flow.outs));
        } else {
            pump.join(std::move(flow.ins), std::move(flow.outs.front()), flow.join);
        }
    }
    const pipes::PumpReport report = pump.run();
    const auto is_well = [](const pipes::EndReport& end) {
        return end.state == pipes::EndState::finished || end.state == pipes::EndState::reader_gone;
    };
    for (std::size_t flow = 0; flow < flows.size(); ++flow) {
        const auto& [ins, outs, added_newlines] = report.flows[flow];
        const std::vector<pipes::EndReport>& several = flows[flow].is_tee ? outs : ins;
        for (std::size_t end = 0; end < several.size(); ++end) {
            if (is_well(several[end])) continue;
            throw std::runtime_error(fmt::format("bytes {}: {}", describe(flow, end), several[end].reason()));
        }
        // The end that all of these share comes last: when it fails, the others have only ended early.
        const pipes::EndReport& shared = (flows[flow].is_tee ? ins : outs).front();
        if (is_well(shared)) continue;
        throw std::runtime_error(fmt::format("bytes {} '{}': {}", flows[flow].is_tee ? "from" : "to",
                                             name_of_stage(flows[flow].stage), shared.reason()));
    }
}

// ---- what comes while the stages run

void PipelineRun::listen() {
    for (std::size_t i = 0; i < wiring_.outputs.size(); ++i) {
        if (!wiring_.outputs[i]) continue;
        result_.values_[i].emplace();
        attended_.push_back({wiring_.outputs[i]->fd(), [this, i](Attended& self) { receive_value(i, self); }});
    }
    if (notices_.fd()) {
        attended_.push_back({notices_.fd().get(), [this](Attended& self) { receive_notice(self); }});
    }
}

void PipelineRun::wait_once() {
    const std::size_t own = attended_.size();
    if (wiring_.relay) wiring_.relay->watch(attended_);
    running_.wait_once(result_.report_.stages, attended_);
    attended_.resize(own);
    move_values();
}

void PipelineRun::move_values() {
    if (!wiring_.relay) return;
    const auto runs = [this](std::size_t stage) { return running_.runs(stage); };
    for (const std::size_t stage : wiring_.relay->step(runs, result_.report_.stages)) running_.kill_stage(stage);
    for (const std::size_t stage : wiring_.relay->take_stalled()) {
        if (!options_.on_notice) continue;
        options_.on_notice(
            fmt::format("values wait for stage {} '{}', which has asked for none for {} s: the stage that gives them "
                        "waits until it asks or ends",
                        stage + 1, name_of_stage(stage), ValueRelay::kStall.count()));
    }
}

/// Reports what became of the values that went through the relay, when all stages have ended.
void PipelineRun::finish_values() {
    if (!wiring_.relay) return;
    ValueRelay& relay = *wiring_.relay;
    PipelineReport& report = result_.report_;
    relay.finish(report);
    for (std::size_t i = 0; i < specs_.size(); ++i) {
        if (const auto& refusal = relay.refusal_of(i)) report.stages[i].outcome = *refusal;
        std::deque<vmcow::TypedSnapshot> output = relay.take_output(i);
        if (specs_[i].takes_values() && specs_[i].to_caller) {
            result_.values_[i] = std::move(output);
        } else {
            std::move(output.begin(), output.end(), std::back_inserter(report.values));
        }
    }
    if (!relay.failure().empty()) fail(relay.failure());
    if (options_.on_notice && !report.refused) tell_untaken();
}

void PipelineRun::tell_untaken() const {
    const auto count = [](std::uint64_t values) {
        return values == 1 ? std::string("a value") : fmt::format("{} values", values);
    };
    const PipelineReport& report = result_.report_;
    if (report.untaken_values > 0) {
        options_.on_notice(fmt::format("no stage has taken {} of the caller's", count(report.untaken_values)));
    }
    for (std::size_t i = 0; i < specs_.size(); ++i) {
        if (!report.stages[i].values || report.stages[i].values->untaken == 0) continue;
        options_.on_notice(fmt::format("nobody has taken {} that stage {} '{}' gave",
                                       count(report.stages[i].values->untaken), i + 1, name_of_stage(i)));
    }
}

void PipelineRun::receive_value(std::size_t index, Attended& attended) {
    BoundedReceiver& output = *wiring_.outputs[index];
    try {
        if (auto value = output.receive_snapshot()) result_.values_[index]->push_back(*std::move(value));
    } catch (const std::system_error& error) {
        fail(fmt::format("values from '{}': {}", name_of_stage(index), error.what()));
        output.close();
    }
    attended.fd = output.fd();
}

void PipelineRun::receive_notice(Attended& attended) {
    const std::optional<pipes::Message> message = notices_.receive();
    if (!message) {
        attended.fd = -1;
    } else if (options_.on_notice) {
        options_.on_notice({reinterpret_cast<const char*>(message->bytes.data()), message->bytes.size()});
    }
}

/// Receives what was sent before the stages ended. A process that they have left behind is not waited for.
void PipelineRun::receive_rest() {
    for (Attended& attended : attended_) {
        while (attended.fd >= 0) {
            pollfd entry{.fd = attended.fd, .events = POLLIN, .revents = 0};
            if (poll_until({&entry, 1}, Deadline::in({}), "look for values") == 0) break;
            attended.attend(attended);
        }
    }
}

// ---- how the stages ended

void PipelineRun::take_replies() {
    for (std::size_t i = 0; i < functions_.size(); ++i) {
        if (!functions_[i]) continue;
        FunctionStageReply reply = functions_[i]->reply();
        StageReport& report = result_.report_.stages[i];
        // If the stage was killed, that says more than a reply that it could still send.
        if (reply.outcome && report.outcome.kind == OutcomeKind::exited) report.outcome = *std::move(reply.outcome);
        result_.traffic_[i] = reply.traffic;
        if (reply.traffic && reply.traffic->changes) report.copied_pages = reply.traffic->changes->copied.value;
    }
}

/// Takes what the pump says of its own end.
/// Pre: there is a pump, and its report is the last.
void PipelineRun::take_pump_reply() {
    VMCOW_ASSERT(pump_ && result_.report_.stages.size() == specs_.size() + 1 && "the report of the pump is the last");
    Outcome outcome = result_.report_.stages.back().outcome;
    FunctionStageReply reply = pump_->reply();
    if (reply.outcome && outcome.kind == OutcomeKind::exited) outcome = *std::move(reply.outcome);
    // A deadline or a stop that has ended stages ends the pump with them: the outcomes of the stages say so.
    const auto& stages = result_.report_.stages;
    const bool with_stages = (outcome.kind == OutcomeKind::deadline_passed || outcome.kind == OutcomeKind::cancelled) &&
                             std::any_of(stages.begin(), std::prev(stages.end()),
                                         [&](const StageReport& stage) { return stage.outcome.kind == outcome.kind; });
    if (with_stages) return;
    if (!outcome.ok()) fail(outcome.kind == OutcomeKind::threw ? outcome.text : "the pump: " + outcome.describe());
}

void PipelineRun::fail(const std::string& reason) {
    if (result_.report_.pump_failure.empty()) result_.report_.pump_failure = reason;
}

}  // namespace procrun
