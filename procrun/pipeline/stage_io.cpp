#include "procrun/pipeline/stage_io.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <system_error>

#include "pipes/pump.hpp"
#include "procrun/process/poll_until.hpp"
#include "vmcow/arena.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace procrun {

using vmcow::sys::UniqueFd;

namespace {

UniqueFd duplicate(int fd) {
    UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) vmcow::sys::throw_errno("duplicate a stage's standard input or output");
    return copy;
}

/// Flushes stdio, so that what was printed comes before what is written past stdio.
void flush_printed() {
    if (std::fflush(stdout) != 0) vmcow::sys::throw_errno("write a stage's standard output");
}

}  // namespace

StageIo::StageIo(Channels channels)
    : givers_(std::move(channels.in)), join_(channels.join), bounds_(channels.bounds), wait_(std::move(channels.wait)) {
    for (BoundedSender& sender : channels.out) readers_.push_back({std::move(sender), {}, false});
    traffic_.changes.emplace();
}

// ---- bytes

std::size_t StageIo::read(std::span<std::byte> into) {
    const ssize_t got = vmcow::sys::retry_interrupted([&] { return ::read(STDIN_FILENO, into.data(), into.size()); });
    if (got < 0) vmcow::sys::throw_errno("read a stage's standard input");
    return static_cast<std::size_t>(got);
}

vmcow::Value<char[]> StageIo::read_all() {
    vmcow::Arena arena({.name = "received"});
    pipes::Pump pump;
    const std::size_t flow = pump.receive(duplicate(STDIN_FILENO), arena);
    const pipes::EndReport end = pump.run().flows[flow].ins[0];
    if (end.state != pipes::EndState::finished) {
        vmcow::sys::throw_error(end.error, "receive a stage's standard input");
    }
    return vmcow::Value<char[]>::from_arena(std::move(arena));
}

void StageIo::write(std::span<const std::byte> bytes) {
    flush_printed();
    vmcow::sys::write_all(STDOUT_FILENO, bytes, "a stage's standard output");
}

// ---- taking

void StageIo::require_type(std::uint64_t found, std::uint64_t wanted) {
    if (found == 0 || found == wanted) return;
    vmcow::sys::throw_error(EBADMSG, "take a value of another type than was given");
}

BoundedReceiver* StageIo::next_giver() {
    std::vector<pollfd> wanted;
    for (const BoundedReceiver& giver : givers_) wanted.push_back({.fd = giver.fd(), .events = POLLIN, .revents = 0});
    const auto open = std::find_if(wanted.begin(), wanted.end(), [](const pollfd& entry) { return entry.fd >= 0; });
    if (open == wanted.end()) return nullptr;
    if (join_ == pipes::Join::in_order) return &givers_[static_cast<std::size_t>(open - wanted.begin())];
    poll_until(wanted, Deadline::never(), "wait for a value");
    const auto ready =
        std::find_if(wanted.begin(), wanted.end(), [](const pollfd& entry) { return entry.revents != 0; });
    // In turn: a giver that always has a value does not keep the others out.
    const auto position = ready - wanted.begin();
    std::rotate(givers_.begin() + position, givers_.begin() + position + 1, givers_.end());
    return &givers_.back();
}

std::optional<vmcow::TypedImage> StageIo::take_any() {
    const ShownWait shown(wait_, ValueWait::takes);
    while (BoundedReceiver* giver = next_giver()) {
        if (auto value = giver->receive()) {
            ++traffic_.taken;
            return value;
        }
    }
    return std::nullopt;
}

// ---- giving

void StageIo::reader_gone() {
    (void)std::raise(SIGPIPE);
    vmcow::sys::throw_error(EPIPE, "give a value");
}

void StageIo::give_bytes(const vmcow::Snapshot& snapshot) {
    flush_printed();
    pipes::Pump pump;
    const std::size_t flow = pump.send_image(snapshot, 0, snapshot.extent_bytes(), duplicate(STDOUT_FILENO));
    const pipes::EndReport end = pump.run().flows[flow].outs[0];
    if (end.state == pipes::EndState::reader_gone) reader_gone();
    if (end.state != pipes::EndState::finished) vmcow::sys::throw_error(end.error, "write a value's bytes");
}

void StageIo::give_any(const vmcow::TypedSnapshot& value) {
    if (readers_.empty()) {
        give_bytes(value.snapshot);
        ++traffic_.given;
        return;
    }
    for (Reader& reader : readers_) {
        if (!reader.sender.closed()) reader.held.emplace_back(value);
    }
    wait_and_hand_over();
}

bool StageIo::takes_arenas() const noexcept { return readers_.size() == 1 && readers_.front().sender.takes_arenas(); }

void StageIo::give_any(vmcow::TypedArena value) {
    VMCOW_ASSERT(takes_arenas() && "I3: a value is given away to a single reader, which may write to it");
    Reader& reader = readers_.front();
    if (!reader.sender.closed()) reader.held.emplace_back(std::move(value));
    wait_and_hand_over();
}

void StageIo::wait_and_hand_over() {
    wait_for_readers();
    if (std::all_of(readers_.begin(), readers_.end(), [](const Reader& reader) { return reader.sender.closed(); })) {
        reader_gone();
    }
}

void StageIo::hand_over(Reader& reader) {
    while (!reader.held.empty() && reader.sender.has_room()) {
        const bool is_moved = std::holds_alternative<vmcow::TypedArena>(reader.held.front());
        if (!reader.sender.send(std::move(reader.held.front()))) break;
        reader.held.pop_front();
        if (is_moved) ++traffic_.moved;
        reader.stands_still = false;
        ++traffic_.given;
    }
    if (reader.sender.closed()) reader.held.clear();
}

void StageIo::hand_over_all() {
    for (Reader& reader : readers_) hand_over(reader);
}

/// Returns when each reader has got all values, or stands still while another reader could go on. When no reader can go
/// on, the giver waits: it would gain nothing by keeping more values.
void StageIo::wait_for_readers() {
    const Deadline patience = Deadline::in(bounds_.stall_limit);
    while (true) {
        hand_over_all();
        const auto behind = [](const Reader& reader) { return reader.waits(); };
        if (std::none_of(readers_.begin(), readers_.end(), behind)) return;
        const bool another_goes_on = std::any_of(readers_.begin(), readers_.end(), [](const Reader& reader) {
            return reader.held.empty() && !reader.sender.closed();
        });
        if (another_goes_on && patience.passed()) {
            for (Reader& reader : readers_) reader.stands_still = reader.stands_still || reader.waits();
        }
        const bool all_stand_still = std::all_of(readers_.begin(), readers_.end(), [](const Reader& reader) {
            return !reader.waits() || reader.stands_still;
        });
        if (another_goes_on && all_stand_still) break;
        wait_for_any(another_goes_on ? patience : Deadline::never());
    }
    for (const Reader& reader : readers_) {
        traffic_.most_held = std::max<std::uint64_t>(traffic_.most_held, reader.held.size());
        if (reader.held.size() <= bounds_.held) continue;
        vmcow::sys::throw_error(
            EDQUOT, "keep more than " + std::to_string(bounds_.held) + " values for a reader that stands still");
    }
}

void StageIo::wait_for_any(Deadline until) {
    const ShownWait shown(wait_, ValueWait::gives);
    std::vector<pollfd> wanted;
    for (const Reader& reader : readers_) {
        if (reader.waits()) wanted.push_back({.fd = reader.sender.fd(), .events = POLLIN, .revents = 0});
    }
    poll_until(wanted, until, "wait for a reader of values");
}

void StageIo::finish() {
    const auto behind = [](const Reader& reader) { return reader.waits(); };
    for (BoundedReceiver& giver : givers_) giver.close();
    hand_over_all();
    while (std::any_of(readers_.begin(), readers_.end(), behind)) {
        // A reader that has got all values sees the end now, because others may be waiting for what it does then.
        for (Reader& reader : readers_) {
            if (reader.held.empty()) reader.sender.close();
        }
        wait_for_any(Deadline::never());
        hand_over_all();
    }
    for (Reader& reader : readers_) reader.sender.close();
}

}  // namespace procrun
