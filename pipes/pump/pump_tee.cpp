#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

#include "pipes/pump/pump_backlog.hpp"
#include "pipes/pump/pump_calls.hpp"
#include "pipes/pump/pump_end.hpp"
#include "pipes/pump/pump_flow.hpp"
#include "vmcow/sys/error.hpp"

namespace pipes {
namespace {

using vmcow::sys::UniqueFd;

/// Each reader is given bytes from the front of the source's pipe by tee(2), which leaves them in the pipe. A reader
/// that has got them is *ahead* by so many bytes, and can get no more before the front has moved on. The front moves on
/// when the last reader that lacks these bytes takes them away by splice(2).
///
///     source's pipe   |front ....................|
///     reader 0         ############                 ahead
///     reader 1         ##########################   ahead
///     reader 2         (full)                       lacking: the front stays, or what it lacks is held for it
///
/// If a reader is full for longer than the stall_limit and another reader is ahead, the bytes that the full reader
/// lacks are read into its backlog. Until it has taken the whole backlog, it gets bytes in no other way, and it holds
/// the others back as before.
///
/// With `holds`, the writer goes on whatever its readers do: bytes are held even if no other reader is ahead.
class TeeFlow final : public PumpFlow {
public:
    TeeFlow(UniqueFd in, std::vector<UniqueFd> outs, bool holds, const PumpOptions& options, std::size_t number)
        : source_(std::move(in)), held_(kHoldBytes), holds_(holds) {
        outlets_.reserve(outs.size());
        for (UniqueFd& out : outs) {
            outlets_.push_back({Sink(std::move(out)), Backlog(options, number, outlets_.size())});
        }
    }

    bool step(const PumpStep& step) override {
        bool moved = source_.fill();
        for (Outlet& outlet : outlets_) moved |= serve(outlet, step);
        if (count_open() == 0) {
            source_.close(step.engine, EndState::reader_gone, EPIPE);
            return true;
        }
        if (source_.is_open()) {
            if (const std::size_t available = source_.available(); available > 0) {
                moved |= give(available, step);
            } else if (source_.is_at_end()) {
                source_.close(step.engine, EndState::finished);
                moved = true;
            }
        }
        if (!source_.is_open()) moved |= finish(step);
        return moved;
    }

    void add_to(PumpWait& wait, const PumpStep& step) override {
        source_.watch(wait.watches);
        for (Outlet& outlet : outlets_) {
            wait.no_later_than(outlet.sink.watch(wait.watches));
            const auto since = outlet.sink.blocked_since();
            if (!outlet.is_lacking() || !since || (least_ahead() == 0 && !holds_)) continue;
            if (const auto until = *since + step.stall_limit; until > step.now) wait.no_later_than(until);
        }
    }

    [[nodiscard]] bool is_done() const noexcept override {
        return !source_.is_open() && std::none_of(outlets_.begin(), outlets_.end(),
                                                  [](const Outlet& outlet) { return outlet.sink.is_open(); });
    }

    void stop(PumpEngine& engine) noexcept override {
        source_.close(engine, EndState::stopped);
        for (Outlet& outlet : outlets_) outlet.sink.close(engine, EndState::stopped);
    }

    [[nodiscard]] FlowReport report() override {
        FlowReport report{.ins = {source_.report()}, .outs = {}, .added_newlines = 0};
        for (Outlet& outlet : outlets_) {
            report.outs.push_back(outlet.sink.report());
            outlet.backlog.report_to(report.outs.back());
        }
        return report;
    }

private:
    static constexpr std::size_t kHoldBytes = std::size_t{64} << 10;

    struct Outlet {
        Sink sink;
        Backlog backlog;
        std::size_t ahead = 0;

        [[nodiscard]] bool is_lacking() const noexcept { return sink.is_open() && ahead == 0; }
        [[nodiscard]] bool is_stuck(const PumpStep& step) const noexcept {
            return sink.blocked_since() && step.now - *sink.blocked_since() >= step.stall_limit;
        }
    };

    [[nodiscard]] std::size_t count_open() const noexcept {
        return static_cast<std::size_t>(std::count_if(outlets_.begin(), outlets_.end(),
                                                      [](const Outlet& outlet) { return outlet.sink.is_open(); }));
    }
    [[nodiscard]] std::size_t count_lacking() const noexcept {
        return static_cast<std::size_t>(
            std::count_if(outlets_.begin(), outlets_.end(), [](const Outlet& outlet) { return outlet.is_lacking(); }));
    }

    /// By how many bytes the least advanced of the readers that are ahead is ahead; 0 when none is.
    [[nodiscard]] std::size_t least_ahead() const noexcept {
        std::size_t least = 0;
        for (const Outlet& outlet : outlets_) {
            if (!outlet.sink.is_open() || outlet.ahead == 0) continue;
            least = least == 0 ? outlet.ahead : std::min(least, outlet.ahead);
        }
        return least;
    }

    /// Moves the front on by `bytes`, which by now the readers that were not ahead have got too.
    void advance(std::size_t bytes) noexcept {
        source_.taken(bytes);
        for (Outlet& outlet : outlets_) outlet.ahead -= std::min(outlet.ahead, bytes);
    }

    void end(Outlet& outlet, const PumpStep& step, EndState state, int error) noexcept {
        outlet.sink.close(step.engine, state, error);
        outlet.backlog.clear();
        outlet.ahead = 0;
    }

    /// Ends a reader whose last call has failed. Returns whether it has.
    bool end_if_failed(Outlet& outlet, const PumpStep& step) noexcept {
        if (!outlet.sink.is_open() || outlet.sink.error() == 0) return false;
        end(outlet, step, outlet.sink.state_of_error(), outlet.sink.error());
        return true;
    }

    /// Moves on the bytes that a reader was given earlier. Returns whether anything moved or ended.
    bool serve(Outlet& outlet, const PumpStep& step) {
        bool moved = outlet.sink.flush();
        while (outlet.sink.is_open() && outlet.sink.error() == 0 && !outlet.sink.is_blocked()) {
            const std::span<const std::byte> front = outlet.backlog.front();
            if (front.empty()) break;
            const std::size_t count = take_of_memory(outlet, front, step);
            outlet.backlog.drop(count);
            const bool flushed = outlet.sink.is_open() && outlet.sink.flush();
            moved |= count > 0 || flushed;
            if (count == 0 && !flushed) break;
        }
        if (outlet.sink.is_open() && outlet.backlog.error() != 0) {
            end(outlet, step, EndState::spill_failed, outlet.backlog.error());
            return true;
        }
        return end_if_failed(outlet, step) || moved;
    }

    std::size_t take_of_memory(Outlet& outlet, std::span<const std::byte> bytes, const PumpStep& step) {
        try {
            return outlet.sink.take_of_memory(bytes);
        } catch (const std::system_error& error) {
            end(outlet, step, EndState::failed, error.code().value());
            return 0;
        }
    }

    /// Gives the bytes at the front to all readers that can take them. Returns whether anything moved or ended.
    bool give(std::size_t available, const PumpStep& step) {
        bool moved = false;
        std::size_t lacking = count_lacking();
        for (Outlet& outlet : outlets_) {
            if (!outlet.is_lacking() || !outlet.sink.can_take() || !outlet.backlog.empty()) continue;
            const std::size_t least = least_ahead();
            std::size_t count = 0;
            if (lacking == 1) {
                count = outlet.sink.take_by_splice(source_.pipe(), least == 0 ? available : least);
                advance(count);
            } else {
                count = outlet.sink.take_by_tee(source_.pipe(), available);
                outlet.ahead = count;
            }
            const bool failed = end_if_failed(outlet, step);
            moved |= count > 0 || failed;
            if (lacking == 1) return moved;
            if (count > 0 || failed) --lacking;
        }
        return pass_by_the_stuck(lacking, available, step) || moved;
    }

    /// Lets the readers that are ahead go on, if all others stand still: the bytes that these lack are held for them.
    bool pass_by_the_stuck(std::size_t lacking, std::size_t available, const PumpStep& step) {
        std::size_t least = least_ahead();
        if (least == 0 && holds_) least = available;
        if (least == 0) return false;
        const bool all_stuck = std::all_of(outlets_.begin(), outlets_.end(), [&](const Outlet& outlet) {
            return !outlet.is_lacking() || outlet.is_stuck(step);
        });
        if (lacking > 0 && !all_stuck) return false;
        const ssize_t count = calls::read(source_.pipe(), std::span(held_).first(std::min(least, held_.size())));
        if (count < 0 && count != -EAGAIN) {
            source_.close(step.engine, EndState::failed, static_cast<int>(-count));
            return true;
        }
        if (count <= 0) return false;
        const auto bytes = std::span(held_).first(static_cast<std::size_t>(count));
        for (Outlet& outlet : outlets_) {
            if (!outlet.is_lacking()) continue;
            if (const int error = outlet.backlog.push(bytes); error != 0)
                end(outlet, step, EndState::spill_failed, error);
        }
        advance(bytes.size());
        return true;
    }

    /// Ends the readers that have got everything.
    bool finish(const PumpStep& step) noexcept {
        bool ended = false;
        for (Outlet& outlet : outlets_) {
            if (!outlet.sink.is_open() || !outlet.backlog.empty() || !outlet.sink.is_flushed()) continue;
            end(outlet, step, EndState::finished, 0);
            ended = true;
        }
        return ended;
    }

    Source source_;
    std::vector<Outlet> outlets_;
    std::vector<std::byte> held_;
    bool holds_;
};

}  // namespace

std::unique_ptr<PumpFlow> make_tee_flow(UniqueFd in, std::vector<UniqueFd> outs, bool holds, const PumpOptions& options,
                                        std::size_t number) {
    VMCOW_ASSERT(!outs.empty() && "a tee has a reader");
    return std::make_unique<TeeFlow>(std::move(in), std::move(outs), holds, options, number);
}

}  // namespace pipes
