#include "procrun/pipeline/pipeline_stages.hpp"

#include <poll.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "procrun/launcher.hpp"
#include "procrun/observe/input_progress.hpp"
#include "procrun/pipeline/pipeline_start.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace procrun {

PipelineStages::PipelineStages(std::size_t shown, std::size_t hidden, const PipelineOptions& options)
    : options_(options), stages_(shown + hidden) {
    sample_.stages.resize(shown);
}

void PipelineStages::begin_job() {
    if (options_.job_control) job_ = std::make_unique<TerminalJob>();
    if (options_.stop_strays) strays_ = std::make_unique<StrayProcesses>();
}

void PipelineStages::began(std::size_t index, StageProcess stage) {
    VMCOW_ASSERT(!stages_[index] && "a stage begins once");
    stages_[index] = std::move(stage);
    if (group_ == 0) group_ = stages_[index]->pid();
    if (job_) job_->began(group_);
    ++running_;
}

PipelineStages::Wanted PipelineStages::wanted(std::span<const Attended> others) const {
    Wanted wanted;
    wanted.until = earlier(stopping_ ? kill_at_ : options_.deadline, Deadline::at(pace_.next_look()));
    for (std::size_t i = 0; i < stages_.size(); ++i) {
        if (!stages_[i]) continue;
        wanted.entries.push_back({.fd = stages_[i]->pidfd(), .events = POLLIN, .revents = 0});
        wanted.indices.push_back(i);
        wanted.until = earlier(wanted.until, stages_[i]->next_look());
    }
    wanted.entries.push_back({.fd = job_ ? job_->fd() : -1, .events = POLLIN, .revents = 0});
    wanted.entries.push_back({.fd = stopping_ ? -1 : options_.stop_fd, .events = POLLIN, .revents = 0});
    for (const Attended& other : others)
        wanted.entries.push_back({.fd = other.fd, .events = other.events, .revents = 0});
    return wanted;
}

void PipelineStages::wait_once(std::span<StageReport> reports, std::span<Attended> others) {
    const Wanted wanted = this->wanted(others);
    std::vector<pollfd> entries = wanted.entries;
    poll_until(entries, wanted.until, "wait for a pipeline");
    const std::size_t stages = wanted.indices.size();
    if (entries[stages].revents != 0) attend_to_terminal();
    for (std::size_t k = 0; k < others.size(); ++k) {
        if (entries[stages + 2 + k].revents != 0) others[k].attend(others[k]);
    }
    for (std::size_t k = 0; k < stages; ++k) {
        const std::size_t index = wanted.indices[k];
        if (entries[k].revents != 0) {
            reap(index, reports[index]);
        } else {
            stages_[index]->look_at_limits();
        }
    }
    if (strays_) reap_strays();
    if (pace_.due(Clock::now())) look_at_states();
    if (entries[stages + 1].revents != 0) {
        stopped_ = true;
        stop_all();
    }
    check_deadlines();
}

void PipelineStages::look_at_states() {
    const auto before = thread_processor_time();
    for (auto& stage : stages_) {
        if (stage) stage->look_at_state(Clock::now());
    }
    if (options_.on_sample && next_sample_.passed()) {
        give_sample();
        next_sample_ = Deadline::in(options_.sample_every);
    }
    pace_.looked(Clock::now(), thread_processor_time() - before);
}

void PipelineStages::give_sample() {
    sample_.seconds = seconds();
    for (std::size_t i = 0; i < sample_.stages.size(); ++i) {
        sample_.stages[i].running = stages_[i].has_value();
        if (stages_[i]) sample_.stages[i].view = stages_[i]->view();
    }
    if (stages_.front()) {
        if (auto position = position_in_input(stages_.front()->pid())) sample_.input = std::move(position);
    }
    options_.on_sample(sample_);
}

void PipelineStages::end(bool with_sample) {
    VMCOW_ASSERT(running_ == 0 && "I4: a stage would be left behind");
    strays_.reset();
    job_.reset();
    if (options_.on_sample && with_sample) give_sample();
}

void PipelineStages::attend_to_terminal() {
    std::vector<pid_t> programs;
    for (const auto& stage : stages_) {
        if (stage) programs.push_back(stage->pid());
    }
    job_->attend(programs);
}

void PipelineStages::check_deadlines() {
    if (!stopping_ && options_.deadline.passed()) {
        past_deadline_ = true;
        stop_all();
    } else if (stopping_ && kill_at_.passed()) {
        signal_group(SIGKILL);
        for (auto& stage : stages_) {
            if (stage) stage->kill();
        }
        signal_strays(SIGKILL);
        kill_at_ = Deadline::never();
    }
}

void PipelineStages::stop_all() {
    for (auto& stage : stages_) {
        if (stage) stage->told_to_stop(past_deadline_);
    }
    if (running_ > 0) {
        signal_group(SIGTERM);
        signal_group(SIGCONT);
        signal_strays(SIGTERM);
    }
    stopping_ = true;
    kill_at_ = Deadline::in(options_.grace);
}

/// Pre: a process of the group has not been reaped; otherwise the number could be another group's.
void PipelineStages::signal_group(int number) const {
    VMCOW_ASSERT(group_ > 0 && "the first stage has begun");
    vmcow::sys::signal_group(group_, number);
}

void PipelineStages::signal_strays(int number) const {
    if (strays_) strays_->signal(number, group_, launcher_of(options_).pid());
}

void PipelineStages::reap_strays() const {
    strays_->reap_ended([this](pid_t pid) {
        const bool is_stage = std::any_of(stages_.begin(), stages_.end(),
                                          [&](const auto& stage) { return stage && stage->pid() == pid; });
        return is_stage || pid == launcher_of(options_).pid();
    });
}

void PipelineStages::reap(std::size_t index, StageReport& report) {
    --running_;
    // The last process of the group: as long as it is not reaped, the number is our group's.
    if (running_ == 0 && stopping_) {
        signal_group(SIGKILL);
        signal_strays(SIGKILL);
    }
    if (index < sample_.stages.size()) sample_.stages[index].view = stages_[index]->view();
    StageProcess ended = *std::exchange(stages_[index], std::nullopt);
    ended.reap(report);
}

}  // namespace procrun
