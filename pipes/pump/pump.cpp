#include "pipes/pump.hpp"

#include <poll.h>
#include <sys/prctl.h>

#include <cerrno>
#include <exception>
#include <system_error>
#include <utility>

#include "pipes/pump/pump_engine.hpp"
#include "pipes/pump/pump_flow.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/process/signals.hpp"

namespace pipes {

using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

namespace {

/// After this many rounds without a wait, the stop descriptor and the deadline are looked at.
constexpr unsigned kRoundsBetweenLooks = 64;

}  // namespace

class Pump::Run {
public:
    explicit Run(PumpOptions options) : options_(std::move(options)) {}

    std::size_t add(std::unique_ptr<PumpFlow> flow) {
        flows_.push_back(std::move(flow));
        return flows_.size() - 1;
    }
    [[nodiscard]] std::size_t next_number() const noexcept { return flows_.size(); }
    [[nodiscard]] const PumpOptions& options() const noexcept { return options_; }

    PumpReport run() {
        VMCOW_ASSERT(!std::exchange(has_run_, true) && "a pump runs once");
        std::exception_ptr failure;
        vmcow::sys::start_without_signals([&] {
            try {
                run_here();
            } catch (...) {
                failure = std::current_exception();
            }
        }).join();
        const std::vector<std::unique_ptr<PumpFlow>> flows = std::move(flows_);  // its end closes what is still open
        if (failure) std::rethrow_exception(failure);
        for (const auto& flow : flows) report_.flows.push_back(flow->report());
        return std::move(report_);
    }

private:
    void run_here() {
        static_cast<void>(::prctl(PR_SET_TIMERSLACK, 1UL));  // without it a short wait takes half as long again
        // A ring is made in this thread, because the kernel's threads for it belong to its maker, and end with it.
        const std::unique_ptr<PumpEngine> engine = make_engine();
        Watch stop{.fd = options_.stop_fd, .events = POLLIN};
        const Closing closing{*this, *engine, stop};
        unsigned rounds = 0;
        for (;;) {
            const PumpStep step{*engine, PumpEngine::Clock::now(), options_.stall_limit};
            const Round round = move(step);
            if (round == Round::done) break;
            const bool can_stop = options_.stop_fd >= 0 || options_.deadline;
            if (round == Round::moved && (!can_stop || ++rounds % kRoundsBetweenLooks != 0)) continue;
            if (must_stop(step, stop, round)) break;
        }
    }

    /// Stops the flows however the run ends: a request that is left in the kernel would hold an end open.
    struct Closing {
        Run& run;
        PumpEngine& engine;
        Watch& stop;

        ~Closing() {
            for (const auto& flow : run.flows_) flow->stop(engine);
            engine.forget(stop);
        }
    };

    std::unique_ptr<PumpEngine> make_engine() {
        if (options_.way != PumpWay::poll) {
            try {
                std::unique_ptr<PumpEngine> ring = make_ring_engine();
                report_.way = PumpWay::io_uring;
                return ring;
            } catch (const std::system_error& error) {
                if (options_.way == PumpWay::io_uring) throw;
                report_.io_uring_error = error.code().value();
            }
        }
        report_.way = PumpWay::poll;
        return make_poll_engine();
    }

    enum class Round { done, moved, idle };

    /// Lets each flow move what it can.
    Round move(const PumpStep& step) {
        Round round = Round::done;
        for (const auto& flow : flows_) {
            if (flow->is_done()) continue;
            if (flow->step(step)) {
                round = Round::moved;
            } else if (round == Round::done) {
                round = Round::idle;
            }
        }
        return round;
    }

    /// Waits for something to happen, unless a flow has just moved bytes. Returns whether the run is to end early.
    bool must_stop(const PumpStep& step, Watch& stop, Round round) {
        PumpWait wait;
        if (round == Round::idle) {
            for (const auto& flow : flows_) {
                if (!flow->is_done()) flow->add_to(wait, step);
            }
        } else {
            wait.until = step.now;
        }
        wait.no_later_than(options_.deadline);
        if (stop.fd >= 0) wait.watches.push_back(&stop);
        VMCOW_ASSERT((!wait.watches.empty() || wait.until) && "a flow that waits says for what");
        step.engine.wait(wait.watches, wait.until);
        if (stop.found != 0) {
            report_.stop = PumpStop::stop_descriptor;
        } else if (options_.deadline && PumpEngine::Clock::now() >= *options_.deadline) {
            report_.stop = PumpStop::deadline;
        }
        return report_.stop != PumpStop::none;
    }

    PumpOptions options_;
    std::vector<std::unique_ptr<PumpFlow>> flows_;
    PumpReport report_;
    bool has_run_ = false;
};

Pump::Pump(PumpOptions options) : run_(std::make_unique<Run>(std::move(options))) {}
Pump::Pump(Pump&& other) noexcept = default;
Pump& Pump::operator=(Pump&& other) noexcept = default;
Pump::~Pump() = default;

std::size_t Pump::tee(UniqueFd in, std::vector<UniqueFd> outs) {
    return run_->add(make_tee_flow(std::move(in), std::move(outs), false, run_->options(), run_->next_number()));
}

std::size_t Pump::hold(UniqueFd in, UniqueFd out) {
    std::vector<UniqueFd> outs;
    outs.push_back(std::move(out));
    return run_->add(make_tee_flow(std::move(in), std::move(outs), true, run_->options(), run_->next_number()));
}

std::size_t Pump::join(std::vector<UniqueFd> ins, UniqueFd out, Join order) {
    return run_->add(make_join_flow(std::move(ins), std::move(out), order, run_->options(), run_->next_number()));
}

std::size_t Pump::send_image(const vmcow::Snapshot& snapshot, std::uint64_t offset, std::uint64_t bytes, UniqueFd out) {
    VMCOW_ASSERT(offset <= snapshot.extent_bytes() && bytes <= snapshot.extent_bytes() - offset &&
                 "the bytes lie within the extent");
    // A pipe refers to the pages of the file that was spliced into it. A page of the page store may be reused before
    // the pipe's reader has read it.
    const auto in_one_file = [](const vmcow::Snapshot& image) {
        const vmcow::FileState state = image.layers()->base().state();
        return image.layers()->is_base_alone() && state != vmcow::FileState::borrowed &&
               state != vmcow::FileState::stored;
    };
    const vmcow::Snapshot image = in_one_file(snapshot) ? snapshot : snapshot.flatten();
    const vmcow::ReadOnlyImage& base = image.layers()->base();
    return run_->add(
        make_send_flow(vmcow::sys::duplicate(base.fd()), base.file_offset() + offset, bytes, std::move(out)));
}

std::size_t Pump::send_image(UniqueFd sealed_memfd, std::uint64_t offset, std::uint64_t bytes, UniqueFd out) {
    const std::uint64_t there = vmcow::sys::file_bytes(sealed_memfd.get());
    if (!vmcow::sys::is_immutable(sealed_memfd.get())) throw_error(EINVAL, "send an image: the file is not sealed");
    if (offset > there || bytes > there - offset) throw_error(EINVAL, "send an image: the file is too short");
    return run_->add(make_send_flow(std::move(sealed_memfd), offset, bytes, std::move(out)));
}

std::size_t Pump::receive(UniqueFd in, vmcow::Arena& arena) {
    return run_->add(make_receive_flow(std::move(in), arena));
}

PumpReport Pump::run() { return run_->run(); }

}  // namespace pipes
