#include "pipes/pump/pump_end.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "pipes/pump/pump_calls.hpp"
#include "vmcow/sys/error.hpp"

namespace pipes {

using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;
using vmcow::sys::UniqueFd;

namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} << 10;
/// A reader cannot empty a pipe of this size while the pump rests: reading 1 MiB takes at least 150 µs.
constexpr int kLargePipeBytes = 1 << 20;
constexpr std::chrono::microseconds kRest{100};
/// More than any pipe holds, for a call that is to move as much as there is.
constexpr std::size_t kAll = std::size_t{1} << 30;

/// The kind of an end. Throws for an end with the access mode `refused`: it is open in the wrong direction.
EndKind kind_of(int fd, int refused) {
    struct stat status {};
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags == -1 || ::fstat(fd, &status) != 0) throw_errno("end " + std::to_string(fd) + " of a flow");
    if ((flags & O_ACCMODE) == refused || (flags & O_PATH) != 0) {
        throw_error(EBADF, "end " + std::to_string(fd) + " of a flow is open in the wrong direction");
    }
    if (S_ISFIFO(status.st_mode)) return EndKind::pipe;
    if (S_ISSOCK(status.st_mode)) return EndKind::socket;
    if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode) || S_ISDIR(status.st_mode)) return EndKind::file;
    constexpr unsigned kMemoryDevices = 1;  // /dev/null, zero, full: always ready, as files are
    const bool memory = S_ISCHR(status.st_mode) && major(status.st_rdev) == kMemoryDevices;
    return memory ? EndKind::file : EndKind::device;
}

/// Opens a pipe that only the pump has, so that no other program sees its O_NONBLOCK.
Pipe open_own_pipe() {
    Pipe own = Pipe::open();
    for (const int fd : {own.read_end().get(), own.write_end().get()}) {
        if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) throw_errno("set a pipe to O_NONBLOCK");
    }
    return own;
}

/// Opens the device a second time, with an O_NONBLOCK that no other program sees. Returns `fd` itself where the device
/// cannot be opened again.
UniqueFd open_again(UniqueFd fd) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
    UniqueFd again{::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)};
    return again ? std::move(again) : std::move(fd);
}

}  // namespace

ssize_t CopyBuffer::read_from(int fd) {
    VMCOW_ASSERT(empty() && "bytes in the buffer would be lost");
    memory_.resize(kBufferBytes);
    const ssize_t count = calls::read(fd, memory_);
    begin_ = 0;
    end_ = static_cast<std::size_t>(std::max<ssize_t>(count, 0));
    return count;
}

Source::Source(UniqueFd fd) : fd_(std::move(fd)), kind_(kind_of(fd_.get(), O_WRONLY)) {
    if (kind_ != EndKind::pipe) own_ = open_own_pipe();
    ready_ = kind_ == EndKind::file;
    bytes_ = {.fd = fd_.get(), .events = POLLIN};
}

int Source::pipe() const noexcept { return own_ ? own_->read_end().get() : fd_.get(); }

std::size_t Source::available() noexcept {
    int bytes = 0;
    if (::ioctl(pipe(), FIONREAD, &bytes) != 0) fail(errno);  // an empty pipe is no error
    empty_ = bytes == 0;
    return static_cast<std::size_t>(bytes);
}

bool Source::is_at_end() const noexcept {
    if (error_ != 0) return true;
    VMCOW_ASSERT(empty_ && "available() has found the pipe empty");
    if (own_) return at_end_ && buffer_.empty();
    return (bytes_.found & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

bool Source::fill() {
    if (!own_ || !is_open()) return false;
    if (kind_ != EndKind::file && (bytes_.found & (POLLIN | POLLHUP | POLLERR)) != 0) ready_ = true;
    if (at_end_ && buffer_.empty()) return false;
    if (!ready_ && buffer_.empty()) return false;
    const std::size_t before = available();
    ssize_t count = -EINVAL;
    if (!refuses_splice_) count = calls::splice(fd_.get(), own_->write_end().get(), kAll);
    if (count == -EINVAL) {
        refuses_splice_ = true;
        fill_by_copy();
        return available() > before || at_end_;
    }
    if (count == 0) at_end_ = true;
    if (count < 0 && count != -EAGAIN) {
        error_ = static_cast<int>(-count);
        at_end_ = true;
    }
    // Unless the end is a file, the next call may wait: poll first.
    if (kind_ != EndKind::file && (count != -EAGAIN || before == 0)) {
        ready_ = false;
        bytes_.found = 0;
    }
    return count > 0 || at_end_;
}

void Source::fill_by_copy() {
    if (buffer_.empty() && ready_ && !at_end_) {
        const ssize_t count = buffer_.read_from(fd_.get());
        if (count <= 0 && count != -EAGAIN) {
            at_end_ = true;
            error_ = static_cast<int>(-count);
        }
        if (kind_ != EndKind::file) {
            ready_ = false;
            bytes_.found = 0;
        }
    }
    if (buffer_.empty()) return;
    const ssize_t written = calls::write(own_->write_end().get(), buffer_.bytes());
    if (written < 0 && written != -EAGAIN) fail(static_cast<int>(-written));
    if (written <= 0) return;  // our pipe is full
    buffer_.drop(static_cast<std::size_t>(written));
    report_.copied_bytes += static_cast<std::uint64_t>(written);
}

void Source::close(PumpEngine& engine, EndState state, int error) noexcept {
    if (!is_open()) return;
    engine.forget(bytes_);
    fd_.reset();
    own_.reset();
    report_.state = error_ != 0 ? EndState::failed : state;
    report_.error = error_ != 0 ? error_ : error;
}

void Source::watch(std::vector<Watch*>& watches) {
    if (is_open() && empty_) watches.push_back(&bytes_);
}

Sink::Sink(UniqueFd fd) : fd_(std::move(fd)), kind_(kind_of(fd_.get(), O_RDONLY)) {
    if (kind_ == EndKind::device) fd_ = open_again(std::move(fd_));
    refuses_splice_ = kind_ == EndKind::socket || kind_ == EndKind::device;
    if (kind_ != EndKind::pipe) stage_ = open_own_pipe();
    large_ = kind_ == EndKind::pipe && ::fcntl(fd_.get(), F_GETPIPE_SZ) >= kLargePipeBytes;
    room_ = {.fd = fd_.get(), .events = POLLOUT};
    gone_ = {.fd = fd_.get(), .events = 0};
}

int Sink::entry() const noexcept { return kind_ == EndKind::pipe ? fd_.get() : stage_->write_end().get(); }

/// Takes note of the result of a call that moves bytes towards the reader.
void Sink::note(ssize_t result) noexcept {
    if (result > 0) {
        blocked_ = false;
        blocked_since_.reset();
    } else if (result == -EAGAIN) {
        blocked_ = true;
        resting_ = large_ && !blocked_since_;
        if (!blocked_since_) blocked_since_ = Clock::now();
        room_.found = 0;
    } else if (result < 0) {
        error_ = static_cast<int>(-result);
    }
}

std::size_t Sink::took(ssize_t result, bool staged) {
    const auto count = static_cast<std::size_t>(std::max<ssize_t>(result, 0));
    if (!staged) {
        note(result);
        report_.bytes += count;
    } else if (result > 0) {
        staged_ += count;
    } else if (result != -EAGAIN) {  // -EAGAIN: our pipe is full, and `flush` has to make room
        note(result);
    }
    return count;
}

std::size_t Sink::take_by_splice(int pipe, std::size_t bytes) {
    return took(calls::splice(pipe, entry(), bytes), kind_ != EndKind::pipe);
}

std::size_t Sink::take_by_tee(int pipe, std::size_t bytes) {
    return took(calls::tee(pipe, entry(), bytes), kind_ != EndKind::pipe);
}

std::size_t Sink::take_of_file(int file, std::uint64_t offset, std::size_t bytes) {
    const ssize_t count = calls::splice_at(file, offset, entry(), bytes);
    return took(count == 0 ? -EIO : count, kind_ != EndKind::pipe);  // 0: the file has become shorter
}

std::size_t Sink::take_of_memory(std::span<const std::byte> bytes) {
    if (!stage_) stage_ = open_own_pipe();
    return took(calls::write(stage_->write_end().get(), bytes), true);
}

bool Sink::flush() {
    if (!is_open()) return false;
    if ((gone_.found & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        error_ = (gone_.found & POLLNVAL) != 0 ? EBADF : EPIPE;
        return true;
    }
    const bool rested = resting_ && blocked_since_ && Clock::now() >= *blocked_since_ + kRest;
    if (rested || (room_.found & (POLLOUT | POLLERR | POLLHUP)) != 0) blocked_ = false;
    if (rested) resting_ = false;
    room_.found = 0;
    if (is_flushed() || blocked_) return false;
    const ssize_t moved = move_on();
    note(moved);
    if (moved <= 0) return error_ != 0;
    report_.bytes += static_cast<std::uint64_t>(moved);
    return true;
}

ssize_t Sink::move_on() {
    if (!refuses_splice_) {
        const ssize_t moved = calls::splice(stage_->read_end().get(), fd_.get(), kAll);
        if (moved > 0) staged_ -= static_cast<std::size_t>(moved);
        if (moved != -EINVAL || kind_ == EndKind::pipe) return moved;
        refuses_splice_ = true;
    }
    return move_on_by_copy();
}

ssize_t Sink::move_on_by_copy() {
    if (buffer_.empty()) {
        const ssize_t count = buffer_.read_from(stage_->read_end().get());
        if (count <= 0) return count;
        staged_ -= static_cast<std::size_t>(count);
    }
    const ssize_t moved =
        kind_ == EndKind::socket ? calls::send(fd_.get(), buffer_.bytes()) : calls::write(fd_.get(), buffer_.bytes());
    if (moved <= 0) return moved == 0 ? -EIO : moved;
    buffer_.drop(static_cast<std::size_t>(moved));
    report_.copied_bytes += static_cast<std::uint64_t>(moved);
    return moved;
}

void Sink::close(PumpEngine& engine, EndState state, int error) noexcept {
    if (!is_open()) return;
    engine.forget(room_);
    engine.forget(gone_);
    fd_.reset();
    stage_.reset();
    report_.state = state;
    report_.error = error;
}

EndState Sink::state_of_error() const noexcept {
    return error_ == EPIPE || error_ == ECONNRESET ? EndState::reader_gone : EndState::failed;
}

std::optional<Sink::Clock::time_point> Sink::watch(std::vector<Watch*>& watches) {
    if (!is_open()) return std::nullopt;
    if (kind_ == EndKind::pipe || kind_ == EndKind::socket) watches.push_back(&gone_);
    if (!blocked_) return std::nullopt;
    if (resting_) return *blocked_since_ + kRest;
    watches.push_back(&room_);
    return std::nullopt;
}

}  // namespace pipes
