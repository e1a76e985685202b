#include "procrun/limits.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"

namespace procrun {
namespace {

using std::chrono::nanoseconds;
using vmcow::sys::retry_interrupted;
using vmcow::sys::throw_errno;
using vmcow::sys::throw_error;

constexpr nanoseconds kSoonestLook = std::chrono::milliseconds{1};
constexpr nanoseconds kLatestLook = std::chrono::milliseconds{10};

// ---- texts

/// Both numbers with as many decimals as it takes to tell them apart and to show the limit within half a percent.
std::string of_at_most(double used, double limit, int decimals, std::string_view unit) {
    constexpr int kMostDecimals = 9;
    for (;; ++decimals) {
        const std::string used_text = fmt::format("{:.{}f}", used, decimals);
        const std::string limit_text = fmt::format("{:.{}f}", limit, decimals);
        const bool shows_limit = std::abs(std::strtod(limit_text.c_str(), nullptr) - limit) <= limit * 0.005;
        if ((used_text != limit_text && shows_limit) || decimals == kMostDecimals) {
            return fmt::format("{} {} of at most {} {}", used_text, unit, limit_text, unit);
        }
    }
}

struct Unit {
    double size;
    const char* name;
};

Unit unit_of_bytes(std::uint64_t limit) {
    return limit < (1u << 20) ? Unit{1024.0, "KiB"} : Unit{1024.0 * 1024.0, "MiB"};
}

std::string processor_reason(std::uint64_t used_ns, std::uint64_t limit_ns) {
    const Unit unit = limit_ns < 10'000'000'000 ? Unit{1e6, "ms"} : Unit{1e9, "s"};
    return "processor time: " + of_at_most(static_cast<double>(used_ns) / unit.size,
                                           static_cast<double>(limit_ns) / unit.size, 0, unit.name);
}

std::string memory_reason(std::uint64_t used, std::uint64_t limit) {
    return fmt::format("memory: {} (polled)", bytes_of_at_most(used, limit));
}

std::string copied_reason(std::uint64_t used, std::uint64_t limit) {
    return fmt::format("copied pages: {} of at most {}", used, limit);
}

// ---- files of /proc/PID

using Text = std::array<char, 16384>;

/// The file's text as it is now.
std::string_view read_again(int fd, Text& text) {
    const ssize_t got = retry_interrupted([&] { return ::pread(fd, text.data(), text.size(), 0); });
    if (got < 0) throw_errno("read a process's counters");
    if (got == 0) throw_error(ESRCH, "read a process's counters");
    if (static_cast<std::size_t>(got) == text.size()) throw_error(EMSGSIZE, "read a process's counters");
    return {text.data(), static_cast<std::size_t>(got)};
}

std::optional<std::uint64_t> number_at(std::string_view text) {
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{}) return std::nullopt;
    return number;
}

/// What follows "NAME:" in /proc/PID/status.
std::optional<std::string_view> field(std::string_view status, std::string_view name) {
    const std::string start = fmt::format("\n{}:", name);
    const std::size_t found = status.find(start);
    if (found == std::string_view::npos) return std::nullopt;
    return status.substr(found + start.size());
}

std::optional<std::uint64_t> number_of(std::string_view status, std::string_view name) {
    const auto text = field(status, name);
    return text ? number_at(*text) : std::nullopt;
}

std::optional<std::uint64_t> count_of(const std::optional<nanoseconds>& limit) {
    if (!limit) return std::nullopt;
    return static_cast<std::uint64_t>(std::max(limit->count(), nanoseconds::rep{0}));
}

std::optional<std::uint64_t> count_of(const std::optional<vmcow::PageCount>& limit) {
    if (!limit) return std::nullopt;
    return limit->value;
}

std::uint64_t difference(std::uint64_t now, std::uint64_t before) noexcept { return now < before ? 0 : now - before; }

}  // namespace

std::string bytes_of_at_most(std::uint64_t used, std::uint64_t limit) {
    const Unit unit = unit_of_bytes(limit);
    return of_at_most(static_cast<double>(used) / unit.size, static_cast<double>(limit) / unit.size, 1, unit.name);
}

const char* name_of(MemoryLimitBy by) noexcept { return by == MemoryLimitBy::cgroup ? "cgroup" : "polling"; }

std::string cgroup_limit_reason(std::uint64_t memory_bytes) {
    const Unit unit = unit_of_bytes(memory_bytes);
    return fmt::format("memory: more than {:.1f} {} (cgroup)", static_cast<double>(memory_bytes) / unit.size,
                       unit.name);
}

// ---- ProcessCounters

ProcessCounters::ProcessCounters(pid_t pid) noexcept : pid_(pid), clock_error_(::clock_getcpuclockid(pid, &clock_)) {}

nanoseconds ProcessCounters::processor_time() const {
    timespec time{};
    // Of a process that was there once and has been reaped, the clock is no clock any more: EINVAL.
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
    // Either the process is missing, which its clock says too, or /proc is.
    if (error == ENOENT) static_cast<void>(processor_time());
    throw_error(error, "open '" + path + "'");
}

std::uint64_t ProcessCounters::anonymous_bytes() {
    open(status_, "status");
    Text text;
    const std::string_view status = read_again(status_.get(), text);
    if (const auto resident_kib = number_of(status, "RssAnon")) {
        return (*resident_kib + number_of(status, "VmSwap").value_or(0)) * 1024;
    }
    const std::string_view state = field(status, "State").value_or("");
    const bool is_zombie = state.substr(0, 2) == "\tZ";
    if (is_zombie && number_of(status, "Threads").value_or(1) > 1) {
        throw_error(ENODATA, fmt::format("memory of process {}, whose first thread has ended", pid_));
    }
    throw_error(ESRCH, fmt::format("memory of process {}", pid_));
}

std::uint64_t ProcessCounters::faults() {
    open(stat_, "stat");
    Text text;
    std::string_view rest = read_again(stat_.get(), text);
    // The name in parentheses may hold anything; behind it are the fields from the third on.
    rest.remove_prefix(std::min(rest.rfind(')') + 1, rest.size()));
    constexpr std::size_t kState = 3;
    constexpr std::size_t kMinorFaults = 10;
    constexpr std::size_t kMajorFaults = 12;
    constexpr std::size_t kThreads = 20;
    std::array<std::string_view, kThreads + 1> fields;
    for (std::size_t number = kState; number < fields.size(); ++number) {
        rest.remove_prefix(std::min(rest.find(' ') + 1, rest.size()));
        fields[number] = rest;
    }
    const bool is_zombie = fields[kState].substr(0, 1) == "Z";
    if (is_zombie && number_at(fields[kThreads]).value_or(0) <= 1) {
        throw_error(ESRCH, fmt::format("page faults of process {}", pid_));
    }
    return number_at(fields[kMinorFaults]).value_or(0) + number_at(fields[kMajorFaults]).value_or(0);
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
        static_cast<void>(faults());  // the pagemap of a zombie is refused, with EACCES: ESRCH is what is meant
        throw;
    }
    return counts;
}

// ---- LimitWatch

/// The number that `look` finds. One that cannot be had is said to be unknown, unless it is because the process ended.
template <class Look>
std::optional<std::uint64_t> LimitWatch::look_at(Watched& watched, Look&& look) {
    try {
        const std::uint64_t found = look();
        watched.unknown.clear();
        return found;
    } catch (const std::system_error& error) {
        if (error.code() != std::errc::no_such_process) watched.unknown = error.what();
        return std::nullopt;
    }
}

LimitWatch::LimitWatch(ProcessCounters& counters, const CallLimits& limits, std::vector<vmcow::WritableRange> images,
                       CallStart start)
    : counters_(&counters),
      images_(std::move(images)),
      processor_{"processor time", count_of(limits.processor_time), {}, 0, {}},
      memory_{"memory", limits.memory_bytes, {}, 0, {}},
      copied_{"copied pages", count_of(limits.copied_pages), {}, 0, {}},
      last_look_(Clock::now()),
      widest_(memory_.limit || copied_.limit ? kSoonestLook : kLatestLook),
      interval_(widest_) {
    const auto time_so_far = [&] { return static_cast<std::uint64_t>(counters.processor_time().count()); };
    processor_.before = start == CallStart::forked ? 0 : look_at(processor_, time_so_far);
    if (memory_.limit) memory_.before = look_at(memory_, [&] { return counters.anonymous_bytes(); });
    if (copied_.limit) begin_counting_copies(start);
    if (processor_.limit) pace_processor_time();
}

/// Where pages are kept, the faults are read before the pages: one that is copied in between is not missed later.
void LimitWatch::begin_counting_copies(CallStart start) {
    if (start == CallStart::forked) {
        copied_.before = 0;
        return;
    }
    const auto faults = look_at(copied_, [&] { return counters_->faults(); });
    if (!faults) return;
    faults_at_scan_ = *faults;
    copied_.before = 0;
    if (start == CallStart::remapped) return;
    copied_.before = look_at(copied_, [&] {
        const std::vector<vmcow::PageCount> now = counters_->private_pages(images_);
        for (std::size_t i = 0; i < images_.size(); ++i) images_[i].placed = now[i];
        return std::uint64_t{0};
    });
}

/// A page is copied in a fault: while there were too few faults since the last scan to break the limit, that scan's
/// result stands. (A count of the process's memory would not do instead, because it also falls.)
std::uint64_t LimitWatch::count_copies() {
    const std::uint64_t faults = counters_->faults();
    if (copied_.used + difference(faults, faults_at_scan_) <= *copied_.limit) return copied_.used;
    const std::vector<vmcow::PageCount> now = counters_->private_pages(images_);
    std::uint64_t copied = 0;
    for (std::size_t i = 0; i < images_.size(); ++i) copied += difference(now[i].value, images_[i].placed.value);
    faults_at_scan_ = faults;
    return copied;
}

Deadline LimitWatch::next_look() const {
    if (!processor_.limit && !memory_.limit && !copied_.limit) return Deadline::never();
    return Deadline::at(last_look_ + interval_);
}

void LimitWatch::look_not_after(nanoseconds interval) {
    interval_ = std::min(interval_, std::max(interval, kSoonestLook));
}

/// At the soonest, the limit is reached when all processors work for this call.
void LimitWatch::pace_processor_time() {
    const auto left = static_cast<nanoseconds::rep>(difference(*processor_.limit, processor_.used));
    look_not_after(nanoseconds{left / std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L)});
}

/// Looks again at what has grown since the last look, and expects it to go on growing as fast.
template <class Look>
void LimitWatch::look_at_paced(Watched& watched, nanoseconds elapsed, Look&& look) {
    if (!watched.limit || !watched.before) return;
    const std::optional<std::uint64_t> now = look_at(watched, look);
    if (!now) return;
    const std::uint64_t used = difference(*now, *watched.before);
    const auto grown = static_cast<double>(difference(used, std::exchange(watched.used, used)));
    const auto left = static_cast<double>(difference(*watched.limit, used));
    const double reached_after = left / std::max(grown, 1.0) * static_cast<double>(elapsed.count());
    look_not_after(
        nanoseconds{static_cast<nanoseconds::rep>(std::min(reached_after, static_cast<double>(kLatestLook.count())))});
}

std::optional<std::string> LimitWatch::exceeded() {
    const nanoseconds elapsed = Clock::now() - std::exchange(last_look_, Clock::now());
    widest_ = std::min(widest_ * 2, kLatestLook);
    interval_ = widest_;
    if (processor_.limit) {
        if (const auto used = processor_time()) processor_.used = count_of(used).value();
        pace_processor_time();
        if (processor_.is_over()) return processor_reason(processor_.used, *processor_.limit);
    }
    look_at_paced(memory_, elapsed, [&] { return counters_->anonymous_bytes(); });
    if (memory_.is_over()) return memory_reason(memory_.used, *memory_.limit);
    look_at_paced(copied_, elapsed, [&] { return count_copies(); });
    if (copied_.is_over()) return copied_reason(copied_.used, *copied_.limit);
    return std::nullopt;
}

std::optional<std::string> LimitWatch::exceeded_at_end(std::optional<nanoseconds> processor_time,
                                                       std::optional<vmcow::PageCount> copied) const {
    const auto time = count_of(processor_time);
    if (time && processor_.limit && *time > *processor_.limit) return processor_reason(*time, *processor_.limit);
    if (copied && copied_.limit && copied->value > *copied_.limit) return copied_reason(copied->value, *copied_.limit);
    return std::nullopt;
}

std::optional<nanoseconds> LimitWatch::processor_time() const {
    if (!processor_.before) return std::nullopt;
    try {
        return counters_->processor_time() - nanoseconds{static_cast<nanoseconds::rep>(*processor_.before)};
    } catch (const std::system_error&) {
        return std::nullopt;  // it has been reaped
    }
}

std::vector<std::string> LimitWatch::unknown() const {
    std::vector<std::string> reasons;
    for (const Watched* watched : {&processor_, &memory_, &copied_}) {
        if (watched->limit && !watched->unknown.empty()) {
            reasons.push_back(fmt::format("{}: {}", watched->name, watched->unknown));
        }
    }
    return reasons;
}

// ---- OpenFilesLimit

OpenFilesLimit::OpenFilesLimit(std::optional<std::uint32_t> more) noexcept {
    if (!more) return;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == -1) {
        error_ = errno;
        return;
    }
    previous_ = limit.rlim_cur;
    if (*more >= previous_) return;
    rlim_t lowered = 0;
    for (std::uint32_t free = 0; lowered < previous_; ++lowered) {
        const bool is_free = ::fcntl(static_cast<int>(lowered), F_GETFD) == -1;
        // Open ones next to the last free one stay below the limit, which dup2(2) and poll(2) heed as well.
        if (is_free && free == *more) break;
        if (is_free) ++free;
    }
    if (lowered == previous_) return;
    limit.rlim_cur = lowered;
    in_force_ = ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
    if (!in_force_) error_ = errno;
}

OpenFilesLimit::~OpenFilesLimit() {
    if (!in_force_) return;
    // The function may have lowered the hard limit too, which the soft one cannot pass.
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == -1) return;
    limit.rlim_cur = std::min(previous_, limit.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

bool OpenFilesLimit::is_reason_of(const std::system_error& error) const noexcept {
    return in_force_ && error.code() == std::errc::too_many_files_open;
}

std::string OpenFilesLimit::reason(std::uint32_t more) { return fmt::format("open files: at most {}", more); }

}  // namespace procrun
