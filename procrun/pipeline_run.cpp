#include "procrun/pipeline_run.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "procrun/poll_until.hpp"
#include "procrun/stage_meter.hpp"
#include "vmcow/fork_lock.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

MixedRun::MixedRun(const std::deque<detail::MixedStage>& stages, const PipelineRunOptions& options)
    : added_(stages),
      options_(options),
      functions_(stages.size()),
      alone_(has_one_thread()),
      running_(stages.size(), 1, options) {
    result_.traffic_.resize(stages.size());
    result_.values_.resize(stages.size());
    for (const detail::MixedStage& stage : stages) {
        text_.stages.push_back(stage.text);
        shapes_.push_back({.is_function = stage.function != nullptr,
                           .reads = stage.reads,
                           .join = stage.join,
                           .to_caller = stage.to_caller,
                           .bounds = stage.bounds});
        StageReport& report = result_.report_.stages.emplace_back();
        report.argv = stage.text.argv;
        report.name = stage.text.name;
    }
    const std::vector<std::vector<std::size_t>> readers = readers_of(shapes_);
    for (std::size_t i = 0; i < readers.size(); ++i) result_.report_.stages[i].readers = readers[i];
}

PipelineResult MixedRun::run() {
    PipelineReport& report = result_.report_;
    if (prepare()) start_all();
    if (report.refused) running_.stop_all();
    listen();
    report.stages.emplace_back().name = "pump";
    while (running_.running() > 0) running_.wait_once(report.stages, attended_);
    receive_rest();
    take_pump_reply();
    report.stages.pop_back();
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

bool MixedRun::prepare() {
    StartMaterial material = prepare_start(text_, options_);
    result_.report_.stopped = material.stopped;
    if (material.refusal) refuse(result_.report_, material.refusal->stage, std::move(material.refusal->outcome));
    files_ = std::move(material.files);
    return !result_.report_.refused;
}

void MixedRun::start_all() {
    // Nobody is forked meanwhile who would keep our ends open.
    const std::scoped_lock lock(vmcow::fork_lock());
    std::size_t next = 0;
    try {
        running_.begin_job();
        wiring_ = Wiring::open(shapes_, options_.pipe_bytes);
        for (; next < shapes_.size(); ++next) {
            if (auto outcome = start_stage(next)) {
                refuse(result_.report_, next, *std::move(outcome));
                break;
            }
        }
        if (!result_.report_.refused && !wiring_.flows.empty()) start_pump();
    } catch (const std::system_error& error) {
        const std::size_t last = shapes_.size() - 1;
        refuse(result_.report_, std::min(next, last), not_started(error));
    }
    wiring_.stages.clear();
    wiring_.flows.clear();
    files_.clear();
}

std::optional<Outcome> MixedRun::start_stage(std::size_t index) {
    StageEnds ends = std::move(wiring_.stages[index]);
    StageReport& report = result_.report_.stages[index];
    report.pipe_bytes = ends.pipe_bytes;
    const StandardDescriptors inherited{ends.in ? ends.in.get() : STDIN_FILENO,
                                        ends.out ? ends.out.get() : STDOUT_FILENO, STDERR_FILENO};
    const StandardDescriptors standard = redirected(inherited, text_.stages[index].redirections, files_[index]);
    StageStart how{.standard = standard,
                   .group = running_.group(),
                   .terminal_fd = index == 0 ? running_.terminal_to_hand_over() : -1,
                   .values = options_.values,
                   .streams = streams_of(standard, inherited, {.input = ends.in_gauge, .output = ends.out_gauge}),
                   .alone = alone_};
    if (shapes_[index].is_function) {
        if (!ends.takes.empty() || !ends.gives.empty()) how.streams.values = make_value_wait();
        return start_function(index, how, ends);
    }
    auto started = StageProcess::start(launcher_of(options_), text_.stages[index], how);
    if (auto* refusal = std::get_if<Outcome>(&started)) return std::move(*refusal);
    report.pid = std::get<StageProcess>(started).pid();
    running_.began(index, std::get<StageProcess>(std::move(started)));
    return std::nullopt;
}

std::optional<Outcome> MixedRun::start_function(std::size_t index, const StageStart& how, StageEnds& ends) {
    FunctionStage::Fork fork{.function = added_[index].function,
                             .channels = {.in = std::move(ends.takes),
                                          .out = std::move(ends.gives),
                                          .join = shapes_[index].join,
                                          .bounds = shapes_[index].bounds,
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

std::string MixedRun::name_of_stage(std::size_t index) const {
    const StageText& stage = text_.stages[index];
    return stage.name.empty() ? stage.argv.front() : stage.name;
}

void MixedRun::start_pump() {
    auto [ours, theirs] = pipes::MessageSocket::pair();
    const StageFunction function = [this, &socket = theirs](StageIo&) { move_bytes(socket); };
    StageText text;
    text.name = "pump";
    const StageStart how{.group = running_.group(), .alone = alone_};
    pump_ = FunctionStage::start(text, how, {.function = function, .channels = {}, .close_others = [this] {
                                                 for (auto& output : wiring_.outputs) {
                                                     if (output) output->close();
                                                 }
                                             }});
    notices_ = std::move(ours);
    running_.began(shapes_.size(), pump_->take_process());
}

/// In the pump's process. Throws: std::runtime_error -- what became of the bytes that did not arrive.
void MixedRun::move_bytes(pipes::MessageSocket& notices) {
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
        if (flow.is_tee) {
            pump.tee(std::move(flow.ins.front()), std::move(flow.outs));
        } else {
            pump.join(std::move(flow.ins), std::move(flow.outs.front()), flow.join);
        }
    }
    const pipes::PumpReport report = pump.run();
    for (std::size_t flow = 0; flow < flows.size(); ++flow) {
        const std::vector<pipes::EndReport>& several =
            flows[flow].is_tee ? report.flows[flow].outs : report.flows[flow].ins;
        for (std::size_t end = 0; end < several.size(); ++end) {
            const pipes::EndState state = several[end].state;
            if (state == pipes::EndState::finished || state == pipes::EndState::reader_gone) continue;
            throw std::runtime_error(fmt::format("bytes {}: {}", describe(flow, end), several[end].reason()));
        }
    }
}

// ---- what comes while the stages run

void MixedRun::listen() {
    for (std::size_t i = 0; i < wiring_.outputs.size(); ++i) {
        if (!wiring_.outputs[i]) continue;
        result_.values_[i].emplace();
        attended_.push_back({wiring_.outputs[i]->fd(), [this, i](Attended& self) { receive_value(i, self); }});
    }
    if (notices_.fd()) {
        attended_.push_back({notices_.fd().get(), [this](Attended& self) { receive_notice(self); }});
    }
}

void MixedRun::receive_value(std::size_t index, Attended& attended) {
    BoundedReceiver& output = *wiring_.outputs[index];
    try {
        if (auto value = output.receive_snapshot()) result_.values_[index]->push_back(*std::move(value));
    } catch (const std::system_error& error) {
        fail(fmt::format("values from '{}': {}", name_of_stage(index), error.what()));
        output.close();
    }
    attended.fd = output.fd();
}

void MixedRun::receive_notice(Attended& attended) {
    const std::optional<pipes::Message> message = notices_.receive();
    if (!message) {
        attended.fd = -1;
    } else if (options_.on_notice) {
        options_.on_notice({reinterpret_cast<const char*>(message->bytes.data()), message->bytes.size()});
    }
}

/// What was sent before the stages ended. A process that they have left behind is not waited for.
void MixedRun::receive_rest() {
    for (Attended& attended : attended_) {
        while (attended.fd >= 0) {
            pollfd entry{.fd = attended.fd, .events = POLLIN, .revents = 0};
            if (poll_until({&entry, 1}, Deadline::in({}), "look for values") == 0) break;
            attended.attend(attended);
        }
    }
}

// ---- what came of them

void MixedRun::take_replies() {
    for (std::size_t i = 0; i < functions_.size(); ++i) {
        if (!functions_[i]) continue;
        FunctionStageReply reply = functions_[i]->reply();
        StageReport& report = result_.report_.stages[i];
        // How it was ended says more than what it could still send.
        if (reply.outcome && report.outcome.kind == OutcomeKind::exited) report.outcome = *std::move(reply.outcome);
        result_.traffic_[i] = reply.traffic;
        if (reply.traffic && reply.traffic->changes) report.copied_pages = reply.traffic->changes->copied.value;
    }
}

void MixedRun::take_pump_reply() {
    if (!pump_) return;
    Outcome outcome = result_.report_.stages.back().outcome;
    FunctionStageReply reply = pump_->reply();
    if (reply.outcome && outcome.kind == OutcomeKind::exited) outcome = *std::move(reply.outcome);
    if (!outcome.ok()) fail(outcome.kind == OutcomeKind::threw ? outcome.text : "the pump: " + outcome.describe());
}

void MixedRun::fail(const std::string& reason) {
    if (result_.report_.pump_failure.empty()) result_.report_.pump_failure = reason;
}

}  // namespace procrun
