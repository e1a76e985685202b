#include "procrun/observe/transfer_meter.hpp"

#include <cstddef>

#include <fmt/format.h>

#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/proc/file.hpp"

namespace procrun {

using vmcow::sys::ProcText;
using vmcow::sys::try_open_proc;
using vmcow::sys::UniqueFd;

namespace {

struct Counters {
    TransferredBytes transferred;
    std::size_t text_bytes = 0;
};

/// Reads counters by one read(2), so that it is known what this adds to the reader's own counters.
std::optional<Counters> read_counters(const UniqueFd& fd) {
    ProcText room;
    const auto counters = fd ? vmcow::sys::read_proc(fd.get(), room) : std::nullopt;
    if (!counters) return std::nullopt;
    const auto read = vmcow::sys::proc_number(*counters, "rchar");
    const auto written = vmcow::sys::proc_number(*counters, "wchar");
    if (!read || !written) return std::nullopt;
    return Counters{.transferred = {.read = *read, .written = *written}, .text_bytes = counters->size()};
}

}  // namespace

TransferMeter::TransferMeter(pid_t pid) : fd_(try_open_proc(fmt::format("/proc/{}/io", pid))) {}

std::optional<TransferredBytes> TransferMeter::read() const {
    const auto counters = read_counters(fd_);
    return counters ? std::optional(counters->transferred) : std::nullopt;
}

ReapMeter::ReapMeter() {
    const auto counters = read_counters(try_open_proc("/proc/self/io"));
    if (!counters) return;
    before_ = counters->transferred;
    before_->read += counters->text_bytes;  // the read itself is counted, but only afterwards
}

std::optional<TransferredBytes> ReapMeter::read() const {
    const auto after = read_counters(try_open_proc("/proc/self/io"));
    if (!before_ || !after) return std::nullopt;
    return TransferredBytes{.read = after->transferred.read - before_->read,
                            .written = after->transferred.written - before_->written};
}

}  // namespace procrun
