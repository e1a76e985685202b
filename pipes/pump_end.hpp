#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pipes/pipe.hpp"
#include "pipes/pump.hpp"
#include "pipes/pump_engine.hpp"
#include "vmcow/sys/fd.hpp"

namespace pipes {

/// What kind of thing a descriptor is of, as far as moving bytes goes.
enum class EndKind {
    pipe,    ///< spliced and teed
    file,    ///< always ready: a regular file, /dev/null
    socket,  ///< written with send(2), the only call that can be told not to wait there
    device,  ///< a terminal and the like
};

/// Bytes that are on their way through a buffer, because splice(2) refuses an end.
class CopyBuffer {
public:
    [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {memory_.data() + begin_, end_ - begin_}; }
    /// Reads into the buffer. Pre: it is empty.
    ssize_t read_from(int fd);
    void drop(std::size_t bytes) noexcept { begin_ += bytes; }

private:
    std::vector<std::byte> memory_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

/// The end of a flow that bytes come from. Whatever it is, `pipe` is a pipe with what has come of it.
class Source {
public:
    /// Throws: std::system_error -- EBADF; EMFILE for what is no pipe. The descriptor is closed.
    explicit Source(vmcow::sys::UniqueFd fd);

    /// Brings bytes of what is no pipe into the pipe. Returns whether any came.
    bool fill();
    [[nodiscard]] int pipe() const noexcept;
    /// Bytes in the pipe. Whether there were none is what `watch` goes by: what comes between the two is not missed.
    [[nodiscard]] std::size_t available() noexcept;
    /// Nothing is in the pipe and nothing more will come. Pre: `available` was 0 after the last wait.
    [[nodiscard]] bool is_at_end() const noexcept;
    [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(fd_); }

    /// So many were taken out of the pipe.
    void taken(std::size_t bytes) noexcept { report_.bytes += bytes; }
    void close(PumpEngine& engine, EndState state, int error = 0) noexcept;
    /// Watches for bytes, if `available` was 0: else it would never be quiet.
    void watch(std::vector<Watch*>& watches);
    [[nodiscard]] EndReport& report() noexcept { return report_; }

private:
    void fill_by_copy();

    vmcow::sys::UniqueFd fd_;
    EndKind kind_;
    std::optional<Pipe> own_;  // for what is no pipe
    CopyBuffer buffer_;
    bool refuses_splice_ = false;
    bool ready_ = false;   // of what is no pipe: a read would not wait
    bool at_end_ = false;  // of what is no pipe
    bool empty_ = false;   // `available` was 0
    int error_ = 0;
    Watch bytes_;
    EndReport report_;
};

/// The end of a flow that bytes go to. What is no pipe has one of ours before it, and so has a pipe that gets bytes out
/// of memory: a write(2) to it could wait, and O_NONBLOCK would be seen by all who share it.
class Sink {
public:
    using Clock = PumpEngine::Clock;

    /// Throws: as Source.
    explicit Sink(vmcow::sys::UniqueFd fd);

    [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(fd_); }
    /// Found full at the last try, and not reported to have room since.
    [[nodiscard]] bool is_blocked() const noexcept { return blocked_; }
    /// Since when it has been full without taking a byte.
    [[nodiscard]] std::optional<Clock::time_point> blocked_since() const noexcept { return blocked_since_; }
    /// All that it was given has left our pipe.
    [[nodiscard]] bool is_flushed() const noexcept { return staged_ == 0 && buffer_.empty(); }
    /// Bytes may come straight out of a pipe or a file now, without overtaking others.
    [[nodiscard]] bool can_take() const noexcept {
        return is_open() && !blocked_ && (kind_ != EndKind::pipe || is_flushed());
    }

    /// Each takes up to `bytes`, which are there. Returns how many, 0 when it is full or has failed.
    std::size_t take_by_splice(int pipe, std::size_t bytes);
    std::size_t take_by_tee(int pipe, std::size_t bytes);
    std::size_t take_of_file(int file, std::uint64_t offset, std::size_t bytes);
    /// Throws: std::system_error -- EMFILE: no pipe of ours.
    std::size_t take_of_memory(std::span<const std::byte> bytes);

    /// Moves on what lies in our pipe; looks whether the other side is still there. Returns whether anything moved.
    bool flush();
    void close(PumpEngine& engine, EndState state, int error = 0) noexcept;
    /// Watches for the other side going away, and for room if that is missing. A large pipe that has just become full
    /// is left alone for a moment first, which the result tells the end of: woken for each page that is read, its
    /// reader would pay for waking the pump each time.
    [[nodiscard]] std::optional<Clock::time_point> watch(std::vector<Watch*>& watches);
    /// The errno of the call that has failed, or 0.
    [[nodiscard]] int error() const noexcept { return error_; }
    /// How it ends with that error.
    [[nodiscard]] EndState state_of_error() const noexcept;
    [[nodiscard]] EndReport& report() noexcept { return report_; }

private:
    [[nodiscard]] int entry() const noexcept;
    std::size_t took(ssize_t result, bool staged);
    [[nodiscard]] ssize_t move_on();
    [[nodiscard]] ssize_t move_on_by_copy();
    void note(ssize_t result) noexcept;

    vmcow::sys::UniqueFd fd_;
    EndKind kind_;
    bool refuses_splice_ = false;
    std::optional<Pipe> stage_;
    std::size_t staged_ = 0;  // bytes in our pipe
    CopyBuffer buffer_;
    bool blocked_ = false;
    std::optional<Clock::time_point> blocked_since_;
    bool large_ = false;    // a pipe that takes longer to be read than a rest lasts
    bool resting_ = false;  // full since a moment ago
    int error_ = 0;
    Watch room_;
    Watch gone_;
    EndReport report_;
};

}  // namespace pipes
