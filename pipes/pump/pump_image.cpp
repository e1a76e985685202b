#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "pipes/pump/pump_calls.hpp"
#include "pipes/pump/pump_end.hpp"
#include "pipes/pump/pump_flow.hpp"
#include "vmcow/arena.hpp"

namespace pipes {
namespace {

using vmcow::sys::UniqueFd;

/// Sends bytes out of a file that does not change, so that the file's own pages can lie in the pipe.
class SendFlow final : public PumpFlow {
public:
    SendFlow(UniqueFd file, std::uint64_t offset, std::uint64_t bytes, UniqueFd out)
        : file_(std::move(file)), sink_(std::move(out)), offset_(offset), left_(bytes) {}

    bool step(const PumpStep& step) override {
        bool moved = sink_.flush();
        if (left_ > 0 && sink_.error() == 0 && sink_.can_take()) {
            const std::size_t count = sink_.take_of_file(file_.get(), offset_, std::min(left_, kMostBytes));
            offset_ += count;
            left_ -= count;
            in_.bytes += count;
            moved |= count > 0;
        }
        if (sink_.error() != 0) {
            end(step.engine, sink_.state_of_error(), sink_.error());
        } else if (left_ == 0 && sink_.is_flushed()) {
            end(step.engine, EndState::finished, 0);
        } else {
            return moved;
        }
        return true;
    }

    void add_to(PumpWait& wait, const PumpStep&) override { wait.no_later_than(sink_.watch(wait.watches)); }
    [[nodiscard]] bool is_done() const noexcept override { return !sink_.is_open(); }
    void stop(PumpEngine& engine) noexcept override { end(engine, EndState::stopped, 0); }
    [[nodiscard]] FlowReport report() override { return {.ins = {in_}, .outs = {sink_.report()}, .added_newlines = 0}; }

private:
    static constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;

    void end(PumpEngine& engine, EndState state, int error) noexcept {
        if (is_done()) return;
        in_.state = left_ == 0 ? EndState::finished : state;
        in_.error = left_ == 0 ? 0 : error;
        file_.reset();
        sink_.close(engine, state, error);
    }

    UniqueFd file_;
    Sink sink_;
    std::uint64_t offset_;
    std::uint64_t left_;
    EndReport in_;
};

/// Receives into an arena: extends it by as many bytes as lie in the pipe, then reads them into it.
class ReceiveFlow final : public PumpFlow {
public:
    ReceiveFlow(UniqueFd in, vmcow::Arena& arena) : source_(std::move(in)), arena_(arena) {}

    bool step(const PumpStep& step) override {
        const bool filled = source_.fill();
        if (const std::size_t available = source_.available(); available > 0) return take(available, step) || filled;
        if (!source_.is_at_end()) return filled;
        // Room is left when somebody else has read the bytes: the image is longer than what has come.
        source_.close(step.engine, room_.empty() ? EndState::finished : EndState::failed, room_.empty() ? 0 : EBUSY);
        return true;
    }

    void add_to(PumpWait& wait, const PumpStep&) override { source_.watch(wait.watches); }
    [[nodiscard]] bool is_done() const noexcept override { return !source_.is_open(); }
    void stop(PumpEngine& engine) noexcept override { source_.close(engine, EndState::stopped); }
    [[nodiscard]] FlowReport report() override { return {.ins = {source_.report()}, .outs = {}, .added_newlines = 0}; }

private:
    bool take(std::size_t available, const PumpStep& step) {
        if (room_.empty()) {
            try {
                room_ = {arena_.allocate(available, 1), available};
            } catch (const std::system_error& error) {
                source_.close(step.engine, EndState::failed, error.code().value());
                return true;
            }
        }
        const ssize_t count = calls::read(source_.pipe(), room_.first(std::min(available, room_.size())));
        if (count < 0 && count != -EAGAIN) {
            source_.close(step.engine, EndState::failed, static_cast<int>(-count));
            return true;
        }
        if (count <= 0) return false;
        room_ = room_.subspan(static_cast<std::size_t>(count));
        source_.taken(static_cast<std::size_t>(count));
        return true;
    }

    Source source_;
    vmcow::Arena& arena_;
    std::span<std::byte> room_;  // in the image, for bytes that were in the pipe and have not been read yet
};

}  // namespace

std::unique_ptr<PumpFlow> make_send_flow(UniqueFd file, std::uint64_t offset, std::uint64_t bytes, UniqueFd out) {
    return std::make_unique<SendFlow>(std::move(file), offset, bytes, std::move(out));
}

std::unique_ptr<PumpFlow> make_receive_flow(UniqueFd in, vmcow::Arena& arena) {
    return std::make_unique<ReceiveFlow>(std::move(in), arena);
}

}  // namespace pipes
