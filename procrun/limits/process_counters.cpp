#include "procrun/limits/process_counters.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/proc/file.hpp"
#include "vmcow/sys/proc/stat.hpp"

namespace procrun {
namespace {

using std::chrono::nanoseconds;
using vmcow::sys::proc_number;
using vmcow::sys::retry_interrupted;
using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;

/// /proc/PID/status of a process in many groups is longer than a page.
using Text = std::array<char, 16384>;

/// Reads a file of /proc from its beginning.
std::string_view read_again(int fd, Text& text) {
    const auto read = vmcow::sys::read_proc(fd, text);
    if (!read) throw_errno("read a process's counters");
    if (read->empty()) throw_error(ESRCH, "read a process's counters");
    if (read->size() == text.size()) throw_error(EMSGSIZE, "read a process's counters");
    return *read;
}

}  // namespace

ProcessCounters::ProcessCounters(pid_t pid) noexcept : pid_(pid), clock_error_(::clock_getcpuclockid(pid, &clock_)) {}

nanoseconds ProcessCounters::processor_time() const {
    timespec time{};
    // When the process has been reaped, its clock does not exist any more: EINVAL.
    if (clock_error_ != 0 || ::clock_gettime(clock_, &time) == -1) {
        throw_error(ESRCH, fmt::format("read the processor clock of process {}", pid_));
    }
    return std::chrono::seconds{time.tv_sec} + nanoseconds{time.tv_nsec};
}

void ProcessCounters::open(vmcow::sys::UniqueFd& fd, const char* name) const {
    if (fd) return;
    const std::string path = fmt::format("/proc/{}/{}", pid_, name);
    fd = vmcow::sys::UniqueFd(retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
    if (fd) return;
    const int error = errno;
    // ENOENT: the process is gone, and then reading its clock throws ESRCH, or /proc is not mounted.
    if (error == ENOENT) static_cast<void>(processor_time());
    throw_error(error, "open '" + path + "'");
}

std::uint64_t ProcessCounters::anonymous_bytes() {
    open(status_, "status");
    Text text;
    const std::string_view status = read_again(status_.get(), text);
    if (const auto resident_kib = proc_number(status, "RssAnon")) {
        return (*resident_kib + proc_number(status, "VmSwap").value_or(0)) * 1024;
    }
    const bool is_zombie = vmcow::sys::proc_field(status, "State").value_or("").starts_with('Z');
    if (is_zombie && proc_number(status, "Threads").value_or(1) > 1) {
        throw_error(ENODATA, fmt::format("memory of process {}, whose first thread has ended", pid_));
    }
    throw_error(ESRCH, fmt::format("memory of process {}", pid_));
}

std::uint64_t ProcessCounters::faults() {
    open(stat_, "stat");
    Text text;
    const auto stat = vmcow::sys::parse_process_stat(read_again(stat_.get(), text));
    if (!stat || (stat->state == 'Z' && stat->threads <= 1)) {
        throw_error(ESRCH, fmt::format("page faults of process {}", pid_));
    }
    return stat->page_faults;
}

std::vector<vmcow::PageCount> ProcessCounters::private_pages(const std::vector<vmcow::WritableRange>& ranges) {
    std::vector<vmcow::PageCount> counts;
    std::vector<vmcow::PageRun> runs;
    try {
        if (!scanner_) scanner_.emplace(pid_);
        for (const vmcow::WritableRange& range : ranges) {
            runs.clear();
            scanner_->private_pages(range.address, range.bytes, runs);
            counts.push_back(vmcow::sys::total_pages(runs));
        }
    } catch (const std::system_error&) {
        static_cast<void>(faults());  // throws ESRCH for a zombie, whose pagemap the kernel refuses with EACCES
        throw;
    }
    return counts;
}

}  // namespace procrun
