#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pipes/pipe.hpp"
#include "pipes/pump/pump_engine.hpp"
#include "pipes/pump/pump_report.hpp"
#include "vmcow/sys/fd.hpp"

namespace pipes {

/// The kind of file that a descriptor refers to, as far as moving bytes is concerned.
enum class EndKind {
    pipe,    ///< spliced and teed
    file,    ///< always ready: a regular file, /dev/null
    socket,  ///< written with send(2): no other call can be told not to wait on a socket
    device,  ///< a terminal and the like
};

/// Bytes that are on their way through a buffer, because splice(2) refuses an end.
class CopyBuffer {
public:
    [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {memory_.data() + begin_, end_ - begin_}; }
    /// Reads into the buffer. Returns as calls::read.
    /// Pre: the buffer is empty.
    ssize_t read_from(int fd);
    void drop(std::size_t bytes) noexcept { begin_ += bytes; }

private:
    std::vector<std::byte> memory_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

/// The end of a flow that bytes come from. Whatever its kind, `pipe` is a pipe with the bytes that have come from it.
class Source {
public:
    /// Throws: std::system_error -- EBADF; EMFILE for an end that is no pipe. The descriptor is closed then.
    explicit Source(vmcow::sys::UniqueFd fd);

    /// Moves bytes of an end that is no pipe into the pipe. Returns whether any came, or the end of file.
    bool fill();
    [[nodiscard]] int pipe() const noexcept;
    /// Bytes in the pipe. Remembers for `watch` whether there were none, so that bytes that come between the two calls
    /// are not missed.
    [[nodiscard]] std::size_t available() noexcept;
    /// Whether the pipe is empty and nothing more will come, or a call has failed.
    /// Pre: `available` has returned 0 since the last wait.
    [[nodiscard]] bool is_at_end() const noexcept;
    [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(fd_); }

    /// Bytes cannot be got any more: `is_at_end` becomes true, and the report gets the error when the source is closed.
    void fail(int error) noexcept { error_ = error; }
    /// Counts bytes that were taken out of the pipe.
    void taken(std::size_t bytes) noexcept { report_.bytes += bytes; }
    void close(PumpEngine& engine, EndState state, int error = 0) noexcept;
    /// Watches for bytes, if `available` was 0. A pipe that has bytes would end every wait at once.
    void watch(std::vector<Watch*>& watches);
    [[nodiscard]] EndReport& report() noexcept { return report_; }

private:
    void fill_by_copy();

    vmcow::sys::UniqueFd fd_;
    EndKind kind_;
    std::optional<Pipe> own_;  // for an end that is no pipe
    CopyBuffer buffer_;
    bool refuses_splice_ = false;
    bool ready_ = false;   // for an end that is no pipe: a read would not wait
    bool at_end_ = false;  // for an end that is no pipe: the end of file has come
    bool empty_ = false;   // `available` was 0
    int error_ = 0;
    Watch bytes_;
    EndReport report_;
};

/// The end of a flow that bytes go to. An end that is no pipe has a pipe of ours before it. So has a pipe that gets
/// bytes out of memory: a write(2) to it could wait, and all programs that share it would see an O_NONBLOCK.
class Sink {
public:
    using Clock = PumpEngine::Clock;

    /// Throws: as Source.
    explicit Sink(vmcow::sys::UniqueFd fd);

    [[nodiscard]] bool is_open() const noexcept { return static_cast<bool>(fd_); }
    /// Whether the end was full at the last attempt, and no room has been reported since.
    [[nodiscard]] bool is_blocked() const noexcept { return blocked_; }
    /// Since when the end has been full without taking a byte; nullopt while it takes bytes.
    [[nodiscard]] std::optional<Clock::time_point> blocked_since() const noexcept { return blocked_since_; }
    /// Whether all bytes that the sink was given have left our pipe.
    [[nodiscard]] bool is_flushed() const noexcept { return staged_ == 0 && buffer_.empty(); }
    /// Whether bytes may come straight out of a pipe or a file now, without overtaking bytes in our pipe.
    [[nodiscard]] bool can_take() const noexcept {
        return is_open() && !blocked_ && (kind_ != EndKind::pipe || is_flushed());
    }

    /// Takes up to `bytes` out of a pipe, which has as many. Returns how many; 0 when the sink is full or has failed.
    std::size_t take_by_splice(int pipe, std::size_t bytes);
    /// Does as `take_by_splice`, but the bytes also stay in the pipe.
    std::size_t take_by_tee(int pipe, std::size_t bytes);
    /// Does as `take_by_splice`, but out of a file.
    std::size_t take_of_file(int file, std::uint64_t offset, std::size_t bytes);
    /// Copies up to all of `bytes` into our pipe. Returns how many; 0 when the pipe is full.
    /// Throws: std::system_error -- EMFILE: there is no descriptor for a pipe.
    std::size_t take_of_memory(std::span<const std::byte> bytes);

    /// Moves on the bytes in our pipe, and sees whether the other side is there. Returns if anything moved or failed.
    bool flush();
    void close(PumpEngine& engine, EndState state, int error = 0) noexcept;
    /// Watches for the other side going away, and for room if there is none. A large pipe that has just become full is
    /// left alone until the moment that is returned: if the pump woke for each page that is read, the reader would pay
    /// for waking it each time.
    [[nodiscard]] std::optional<Clock::time_point> watch(std::vector<Watch*>& watches);
    /// The errno of the call that has failed, or 0.
    [[nodiscard]] int error() const noexcept { return error_; }
    /// The state in which the sink ends with `error`.
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
    bool large_ = false;    // a pipe that cannot be read empty during a rest
    bool resting_ = false;  // became full a moment ago
    int error_ = 0;
    Watch room_;
    Watch gone_;
    EndReport report_;
};

}  // namespace pipes
