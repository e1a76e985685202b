#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/arena.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"

namespace pipes {

/// What the pump asks the kernel with.
enum class PumpWay {
    automatic,  ///< io_uring, or poll where the kernel refuses it; the report says which and why
    io_uring,
    poll,
};

/// How bytes of several writers become one stream.
enum class Join {
    in_order,  ///< all of the first, then all of the second, as cat(1)
    by_line,   ///< whole lines, from whoever has one; each writer's lines stay in order
};

/// Said once for each end whose bytes have begun to go to a file.
struct SpillNotice {
    std::size_t flow;  ///< number of the flow, in the order in which they were added
    std::size_t end;   ///< of a tee the number of the reader, of a join that of the writer
    std::string directory;
    std::uint64_t held_bytes;  ///< in memory so far, when the file was opened
};

struct PumpOptions {
    PumpWay way = PumpWay::automatic;
    /// So long an end that is full may stand still before others go on without it.
    std::chrono::milliseconds patience{50};
    /// Held in memory for each end that others went on without; the rest is held in a file.
    std::size_t memory_bytes = std::size_t{1} << 20;
    /// Held in the file at one time, for each end. Past it the end fails with EDQUOT.
    std::uint64_t spill_bytes = std::numeric_limits<std::uint64_t>::max();
    /// Where files without a name are made; empty: $TMPDIR, or /tmp.
    std::string spill_directory{};
    /// Called while the pump stands still, in another thread than that of `run`. What it throws, `run` throws.
    std::function<void(const SpillNotice&)> notice{};
    /// A descriptor that ends the run when it becomes readable or its other side closes; -1: none. It stays the
    /// caller's.
    int stop_fd = -1;
    std::optional<std::chrono::steady_clock::time_point> deadline{};
};

/// How one end of a flow came to its end.
enum class EndState {
    finished,      ///< all bytes have gone through: end of file, or all that was to be sent was
    reader_gone,   ///< nobody reads there any more (EPIPE); for a source: at none of its readers
    stopped,       ///< by the stop descriptor or the deadline
    failed,        ///< a call failed with `error`
    spill_failed,  ///< what was to be held could not be: `error` is ENOSPC, EDQUOT, EFBIG, or what open(2) said
};

struct EndReport {
    EndState state = EndState::stopped;
    int error = 0;
    std::uint64_t bytes = 0;          ///< taken from a source, or that a sink has taken
    std::uint64_t copied_bytes = 0;   ///< of these, through a buffer, because splice(2) refuses this end
    std::uint64_t spilled_bytes = 0;  ///< that went through the file
    std::uint64_t held_bytes = 0;     ///< the most that was held in memory at one time

    /// "end of file", "reader gone", "stopped", or the errno's name and text, as in "ENOSPC: No space left on device".
    [[nodiscard]] std::string reason() const;
};

struct FlowReport {
    std::vector<EndReport> ins;
    std::vector<EndReport> outs;
    std::uint64_t added_newlines = 0;  ///< Join::by_line: between a last line without one and what came after it
};

enum class PumpStop { none, stop_descriptor, deadline };

struct PumpReport {
    PumpWay way = PumpWay::poll;  ///< never automatic
    int io_uring_error = 0;       ///< the errno with which io_uring was refused, or 0
    PumpStop stop = PumpStop::none;
    std::vector<FlowReport> flows;
};

/// Moves bytes where one pipe between two programs does not do: to several readers, from several writers, out of an
/// image, into an arena.
///
/// Bytes go from pipe to pipe by splice(2) and tee(2), without being copied; an end that is no pipe has a pipe of ours
/// before it, and one that refuses splice(2) goes through a buffer, which its report counts. A reader that reads slowly
/// holds its writer back. One that stands still while others could go on does not stop them: past `patience`, what it
/// has not taken is held in memory and then in a file, so that no order in which a program reads its inputs or writes
/// its outputs is a deadlock.
///
/// Ends:    are the pump's; each is closed as soon as it is done with, so that the other side sees it. They are not set
///          to O_NONBLOCK, which the programs that share them would see. Only a terminal that cannot be opened again,
///          or a disk, may make the pump wait longer than it says.
/// Threads: one; `run` starts one of its own, in which no signal arrives (SIGPIPE, SIGXFSZ), and ends it.
/// Source:  splice(2), tee(2), pipe(7); io_uring(7), Linux 5.10.
class Pump {
public:
    explicit Pump(PumpOptions options = {});
    Pump(Pump&& other) noexcept;
    Pump& operator=(Pump&& other) noexcept;
    ~Pump();

    /// Each adds a flow and returns its number. Throws: std::system_error -- EBADF, also for a source that cannot be
    /// read and a sink that cannot be written; EMFILE, ENFILE for an end that is no pipe. The ends are closed then.

    /// Everything from `in` to each of `outs`. Cost: a call for each reader and chunk, whatever its size.
    /// Pre: at least one reader.
    std::size_t tee(vmcow::sys::UniqueFd in, std::vector<vmcow::sys::UniqueFd> outs);
    /// Everything from all of `ins` to `out`.
    ///
    /// by_line copies each byte twice. A line of any length stays whole: until its end has come it is held, past
    /// `memory_bytes` in a file. A last line without a newline stays without one at the end of all; where another
    /// line follows, one is put between them.
    /// Pre: at least one writer.
    std::size_t join(std::vector<vmcow::sys::UniqueFd> ins, vmcow::sys::UniqueFd out, Join order);
    /// `bytes` of an image from `offset` on, without a copy of them. A snapshot that has deltas, or whose owner may
    /// still write to it, is copied once. Pre: they lie within its extent.
    /// Throws: std::system_error -- also ENOMEM, for that copy.
    std::size_t send_image(const vmcow::Snapshot& snapshot, std::uint64_t offset, std::uint64_t bytes,
                           vmcow::sys::UniqueFd out);
    /// The same out of a file that never changes (I1). Throws: std::system_error -- also EINVAL: it carries no seals,
    /// or is shorter.
    std::size_t send_image(vmcow::sys::UniqueFd sealed_memfd, std::uint64_t offset, std::uint64_t bytes,
                           vmcow::sys::UniqueFd out);
    /// Everything from `in` to the end of `arena`, read straight into its memory. The arena stays the caller's and is
    /// not touched until `run` returns; the bytes are those of the report's `ins[0]`. ENOMEM, past its reserve, and
    /// EFBIG end the flow; what was received is in the arena. EBUSY: someone else has read from `in`, and the image
    /// ends in zeros.
    std::size_t receive(vmcow::sys::UniqueFd in, vmcow::Arena& arena);

    /// Runs all flows to their end, and returns when the last one has come to it. Once.
    /// Throws: std::system_error -- EAGAIN: no thread; with PumpWay::io_uring what the kernel refuses it with. All ends
    /// are closed then.
    [[nodiscard]] PumpReport run();

private:
    class Run;
    std::unique_ptr<Run> run_;
};

}  // namespace pipes
