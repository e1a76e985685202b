#include <string.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
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

/// Bounds of what is read of a source at a time. More than may be held in memory would go to a file without need.
constexpr std::size_t kLeastChunkBytes = 4096;
constexpr std::size_t kMostChunkBytes = std::size_t{64} << 10;

/// One of several writers, and the bytes that have come from it and have not gone on.
struct Inlet {
    Source source;
    Backlog backlog;
    std::uint64_t complete_bytes = 0;  ///< by line: bytes of the backlog, up to the end of the last whole line

    [[nodiscard]] bool is_done() const noexcept { return !source.is_open() && backlog.empty(); }
};

/// What both orders have in common: several sources, their backlogs and one sink.
class JoinFlow : public PumpFlow {
public:
    JoinFlow(std::vector<UniqueFd> ins, UniqueFd out, const PumpOptions& options, std::size_t number)
        : sink_(std::move(out)),
          memory_bytes_(options.memory_bytes),
          chunk_(std::clamp(options.memory_bytes / 2, kLeastChunkBytes, kMostChunkBytes)) {
        inlets_.reserve(ins.size());
        for (UniqueFd& in : ins) {
            inlets_.push_back({Source(std::move(in)), Backlog(options, number, inlets_.size())});
        }
    }

    bool step(const PumpStep& step) final {
        bool moved = sink_.flush();
        for (Inlet& inlet : inlets_) moved |= inlet.source.fill();
        if (sink_.error() == 0) moved |= take_in(step);
        if (sink_.error() == 0) moved |= give_out(step);
        if (sink_.error() != 0) {
            end(step.engine, sink_.state_of_error(), sink_.error());
            return true;
        }
        const bool all_in =
            std::all_of(inlets_.begin(), inlets_.end(), [](const Inlet& inlet) { return inlet.is_done(); });
        if (!all_in || !sink_.is_flushed()) return moved;
        end(step.engine, EndState::finished, 0);
        return true;
    }

    [[nodiscard]] bool is_done() const noexcept final { return !sink_.is_open(); }

    void stop(PumpEngine& engine) noexcept final { end(engine, EndState::stopped, 0); }

    [[nodiscard]] FlowReport report() final {
        FlowReport report{.ins = {}, .outs = {sink_.report()}, .added_newlines = added_newlines_};
        for (Inlet& inlet : inlets_) {
            report.ins.push_back(inlet.source.report());
            inlet.backlog.report_to(report.ins.back());
        }
        return report;
    }

protected:
    /// Moves bytes of the sources into backlogs. Returns whether anything moved.
    virtual bool take_in(const PumpStep& step) = 0;
    /// Moves bytes on to the sink. Returns whether anything moved.
    virtual bool give_out(const PumpStep& step) = 0;

    /// Reads a chunk of a source into the source's backlog. Returns the bytes: none when the source has ended, nullopt
    /// when there is nothing to read now.
    std::optional<std::span<const std::byte>> read_chunk(Inlet& inlet, const PumpStep& step) {
        if (!inlet.source.is_open()) return std::nullopt;
        if (inlet.source.available() == 0) {
            if (!inlet.source.is_at_end()) return std::nullopt;
            inlet.source.close(step.engine, EndState::finished);
            return std::span<const std::byte>{};
        }
        const ssize_t count = calls::read(inlet.source.pipe(), chunk_);
        if (count < 0 && count != -EAGAIN) {
            inlet.source.close(step.engine, EndState::failed, static_cast<int>(-count));
            return std::span<const std::byte>{};
        }
        if (count <= 0) return std::nullopt;
        const auto bytes = std::span<const std::byte>(chunk_).first(static_cast<std::size_t>(count));
        inlet.source.taken(bytes.size());
        if (const int error = inlet.backlog.push(bytes); error != 0) fail(inlet, step, error);
        return bytes;
    }

    /// Gives the sink up to `bytes` of a backlog. Returns how many it took.
    std::size_t give_backlog(Inlet& inlet, std::uint64_t bytes, const PumpStep& step) {
        const std::span<const std::byte> front = inlet.backlog.front();
        if (front.empty() && inlet.backlog.error() != 0) fail(inlet, step, inlet.backlog.error());
        if (front.empty()) return 0;
        const std::size_t count = give_memory(front.first(std::min<std::uint64_t>(front.size(), bytes)), step);
        inlet.backlog.drop(count);
        return count;
    }

    std::size_t give_memory(std::span<const std::byte> bytes, const PumpStep& step) {
        if (sink_.is_blocked()) return 0;
        std::size_t count = 0;
        try {
            count = sink_.take_of_memory(bytes);
        } catch (const std::system_error& error) {
            end(step.engine, EndState::failed, error.code().value());
        }
        static_cast<void>(sink_.flush());
        return count;
    }

    [[nodiscard]] std::size_t chunk_bytes() const noexcept { return chunk_.size(); }

    Sink sink_;
    std::vector<Inlet> inlets_;
    std::size_t memory_bytes_;
    std::uint64_t added_newlines_ = 0;

private:
    /// Ends a writer whose bytes can no longer be held. They are lost, and the report of the end says so.
    static void fail(Inlet& inlet, const PumpStep& step, int error) noexcept {
        inlet.source.close(step.engine, EndState::spill_failed, error);
        inlet.source.report().state = EndState::spill_failed;
        inlet.source.report().error = error;
        inlet.backlog.clear();
        inlet.complete_bytes = 0;
    }

    void end(PumpEngine& engine, EndState state, int error) noexcept {
        for (Inlet& inlet : inlets_) {
            inlet.source.close(engine, state == EndState::failed ? EndState::reader_gone : state, error);
            inlet.backlog.clear();
        }
        sink_.close(engine, state, error);
    }

    std::vector<std::byte> chunk_;
};

/// One source after the other. When the current source has had nothing for longer than the stall_limit, the bytes of
/// the later ones are held: a program that writes to several of them may need that to go on.
class OrderedJoin final : public JoinFlow {
public:
    using JoinFlow::JoinFlow;

    void add_to(PumpWait& wait, const PumpStep& step) override {
        wait.no_later_than(sink_.watch(wait.watches));
        if (current_ >= inlets_.size() || sink_.is_blocked()) return;
        inlets_[current_].source.watch(wait.watches);
        if (!quiet_since_) return;
        if (const auto until = *quiet_since_ + step.stall_limit; until > step.now) return wait.no_later_than(until);
        for (std::size_t i = current_ + 1; i < inlets_.size(); ++i) inlets_[i].source.watch(wait.watches);
    }

private:
    bool take_in(const PumpStep& step) override {
        if (!quiet_since_ || step.now - *quiet_since_ < step.stall_limit) return false;
        bool moved = false;
        for (std::size_t i = current_ + 1; i < inlets_.size(); ++i) moved |= read_chunk(inlets_[i], step).has_value();
        return moved;
    }

    bool give_out(const PumpStep& step) override {
        while (current_ < inlets_.size() && inlets_[current_].is_done()) ++current_;
        if (current_ == inlets_.size()) return false;
        Inlet& inlet = inlets_[current_];
        if (!inlet.backlog.empty()) return give_backlog(inlet, inlet.backlog.bytes(), step) > 0;
        if (!inlet.source.is_open() || !sink_.can_take()) return false;
        const std::size_t available = inlet.source.available();
        if (available > 0) {
            quiet_since_.reset();
            const std::size_t count = sink_.take_by_splice(inlet.source.pipe(), available);
            inlet.source.taken(count);
            return count > 0;
        }
        if (inlet.source.is_at_end()) {
            inlet.source.close(step.engine, EndState::finished);
            quiet_since_.reset();
            return true;
        }
        if (!quiet_since_) quiet_since_ = step.now;
        return false;
    }

    std::size_t current_ = 0;
    std::optional<PumpEngine::Clock::time_point> quiet_since_;  // the current source has nothing, and the sink has room
};

/// Whole lines, of whichever source has one. Each source is read into its backlog, and the whole lines in it may go
/// out. The beginning of a line stays there until its end comes, however long the line becomes. Other sources go on.
class LineJoin final : public JoinFlow {
public:
    using JoinFlow::JoinFlow;

    void add_to(PumpWait& wait, const PumpStep&) override {
        wait.no_later_than(sink_.watch(wait.watches));
        for (Inlet& inlet : inlets_) {
            if (wants_more(inlet)) inlet.source.watch(wait.watches);
        }
    }

private:
    /// Whether more is to be read from a source. A writer is held back when memory is full of its whole lines, but
    /// never for half a line, which can go out only after its end has come.
    [[nodiscard]] bool wants_more(const Inlet& inlet) const noexcept {
        return inlet.complete_bytes == 0 || inlet.backlog.bytes() + chunk_bytes() <= memory_bytes_;
    }

    bool take_in(const PumpStep& step) override {
        bool moved = false;
        for (Inlet& inlet : inlets_) {
            if (!wants_more(inlet)) continue;
            const auto bytes = read_chunk(inlet, step);
            if (!bytes) continue;
            moved = true;
            note_lines(inlet, *bytes);
        }
        return moved;
    }

    static void note_lines(Inlet& inlet, std::span<const std::byte> bytes) noexcept {
        const std::uint64_t held = inlet.backlog.bytes();
        if (!inlet.source.is_open()) {  // an unfinished last line is a line
            inlet.complete_bytes = held;
            return;
        }
        const void* const last = ::memrchr(bytes.data(), '\n', bytes.size());
        if (last == nullptr) return;
        const std::ptrdiff_t behind = bytes.data() + bytes.size() - 1 - static_cast<const std::byte*>(last);
        inlet.complete_bytes = held - static_cast<std::uint64_t>(behind);
    }

    bool give_out(const PumpStep& step) override {
        bool moved = false;
        // At most one turn for each source, in which it gives the whole lines that it has at the beginning of its turn.
        for (std::size_t turns = 0; turns < inlets_.size() && sink_.is_open(); ++turns) {
            Inlet& inlet = inlets_[turn_];
            if (left_in_turn_ == 0) {
                left_in_turn_ = inlet.complete_bytes;
                if (left_in_turn_ > 0 && !separate(step)) {
                    left_in_turn_ = 0;
                    return moved;
                }
            }
            moved |= give_turn(inlet, step);
            if (left_in_turn_ > 0) return moved;  // the sink is full
            turn_ = (turn_ + 1) % inlets_.size();
        }
        return moved;
    }

    /// Adds the newline that a writer's last line lacks, before anything follows. Returns false when the sink is full.
    bool separate(const PumpStep& step) {
        if (last_ == std::byte{'\n'}) return true;
        constexpr std::byte kNewline{'\n'};
        if (give_memory(std::span(&kNewline, 1), step) == 0) return false;
        last_ = kNewline;
        ++added_newlines_;
        return true;
    }

    bool give_turn(Inlet& inlet, const PumpStep& step) {
        bool moved = false;
        while (left_in_turn_ > 0) {
            const std::span<const std::byte> front = inlet.backlog.front();
            const std::byte last =
                front.empty() ? last_ : front[std::min<std::uint64_t>(front.size(), left_in_turn_) - 1];
            const std::size_t count = give_backlog(inlet, left_in_turn_, step);
            if (inlet.complete_bytes == 0) left_in_turn_ = 0;  // the backlog failed and is lost
            if (count == 0) return moved;
            left_in_turn_ -= count;
            inlet.complete_bytes -= count;
            last_ = left_in_turn_ == 0 ? last : kNoNewline;
            moved = true;
        }
        return moved;
    }

    static constexpr std::byte kNoNewline{};

    std::size_t turn_ = 0;
    std::uint64_t left_in_turn_ = 0;
    std::byte last_{'\n'};  // the last byte that went out; within a turn, any but a newline
};

}  // namespace

std::unique_ptr<PumpFlow> make_join_flow(std::vector<UniqueFd> ins, UniqueFd out, Join order,
                                         const PumpOptions& options, std::size_t number) {
    VMCOW_ASSERT(!ins.empty() && "a join has a writer");
    if (order == Join::by_line) return std::make_unique<LineJoin>(std::move(ins), std::move(out), options, number);
    return std::make_unique<OrderedJoin>(std::move(ins), std::move(out), options, number);
}

}  // namespace pipes
