#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "pipes/pump/pump_options.hpp"
#include "pipes/pump/pump_report.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow {
class Arena;
class Snapshot;
}  // namespace vmcow

namespace pipes {

/// Moves bytes where one pipe between two programs is not enough: to several readers, from several writers, out of an
/// image, into an arena.
///
/// Bytes go from pipe to pipe by splice(2) and tee(2), without being copied. Before an end that is no pipe the pump
/// puts a pipe of its own. Bytes of an end that refuses splice(2) go through a buffer; the end's report counts them.
///
/// A slow reader holds its writer back. A reader that stands still while others could go on does not stop them: past
/// `stall_limit`, the bytes that it has not taken are held in memory and then in a file. So no order in which a program
/// reads its inputs or writes its outputs is a deadlock.
///
/// Ends:    belong to the pump, which closes each one as soon as it is done with it, so that the other side sees that.
///          The pump does not set them to O_NONBLOCK, because the programs that share them would see it. Only a disk,
///          or a terminal that cannot be opened again, may make the pump wait longer than its options say.
/// Threads: one. `run` starts another thread, in which no signal arrives (SIGPIPE, SIGXFSZ), and waits for its end.
/// Source:  splice(2), tee(2), pipe(7); io_uring(7), Linux 5.10.
class Pump {
public:
    explicit Pump(PumpOptions options = {});
    Pump(Pump&& other) noexcept;
    Pump& operator=(Pump&& other) noexcept;
    ~Pump();

    /// Each of the next functions adds a flow, takes its ends over and returns its number.
    /// Throws: std::system_error -- EBADF, also for a source that cannot be read and a sink that cannot be written;
    ///         EMFILE, ENFILE for an end that is no pipe. The ends are closed then.

    /// Sends everything from `in` to each of `outs`.
    /// Pre:  at least one reader.
    /// Cost: one call for each reader and chunk, whatever the size of the chunk.
    std::size_t tee(vmcow::sys::UniqueFd in, std::vector<vmcow::sys::UniqueFd> outs);
    /// Sends everything from `in` to `out`. A reader that stands still past `stall_limit` is taken to wait for
    /// something else, which the writer does only after it could go on writing. So the bytes that the reader has not
    /// taken are held, as they are for one of several readers.
    std::size_t hold(vmcow::sys::UniqueFd in, vmcow::sys::UniqueFd out);
    /// Sends everything from all of `ins` to `out`.
    ///
    /// Join::by_line copies each byte twice. A line of any length stays whole: it is held until its end has come, past
    /// `memory_bytes` in a file. A writer's last line may have no newline: one is added if another line follows, and
    /// none at the end of all.
    /// Pre: at least one writer.
    std::size_t join(std::vector<vmcow::sys::UniqueFd> ins, vmcow::sys::UniqueFd out, Join order);
    /// Sends `bytes` bytes of an image from `offset` on, without copying them. A snapshot that has pages beside its
    /// base, that lies in the page store, or whose owner may still write to it is copied once.
    /// Pre:    the bytes lie within the snapshot's extent.
    /// Throws: std::system_error -- also ENOMEM, for the copy.
    std::size_t send_image(const vmcow::Snapshot& snapshot, std::uint64_t offset, std::uint64_t bytes,
                           vmcow::sys::UniqueFd out);
    /// Sends `bytes` bytes, from `offset` on, of a memfd whose seals keep it from changing (I1).
    /// Throws: std::system_error -- also EINVAL: the file is not sealed, or is too short.
    std::size_t send_image(vmcow::sys::UniqueFd sealed_memfd, std::uint64_t offset, std::uint64_t bytes,
                           vmcow::sys::UniqueFd out);
    /// Appends everything from `in` to `arena`, read straight into the arena's memory. The arena stays the caller's,
    /// who must not touch it until `run` returns. `ins[0].bytes` of the report tells how much was received. ENOMEM
    /// (past the arena's reserve) and EFBIG end the flow; the bytes received before are in the arena. EBUSY: somebody
    /// else has read from `in`, and the image ends in zeros.
    std::size_t receive(vmcow::sys::UniqueFd in, vmcow::Arena& arena);

    /// Runs all flows, and returns when the last one has ended. May be called once.
    /// Throws: std::system_error -- EAGAIN when no thread can be started; with PumpWay::io_uring the errno with which
    ///         the kernel refuses it. All ends are closed then.
    [[nodiscard]] PumpReport run();

private:
    class Run;
    std::unique_ptr<Run> run_;
};

}  // namespace pipes
