#include "vmcow/cli/watch/watch_stacks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/meter/stacks/lineage_judge.hpp"

namespace vmcow::cli {
namespace {

constexpr std::chrono::milliseconds kPatience{100};
constexpr std::chrono::milliseconds kBlindPatience{20};  // if nothing tells that a ring fills

meter::FaultSampler::Options sampler_options(const WatchStacksOptions& options) {
    meter::FaultSampler::Options sampler;
    sampler.events.period = options.period.value_or(0);
    sampler.with_children = options.with_children;
    return sampler;
}

std::uint64_t now_ns() {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
}

const char* hint_for(int error) {
    switch (error) {
        case EACCES:
        case EPERM:
            return " (kernel.perf_event_paranoid above 2, seccomp, or a process of somebody else)";
        case ENOENT:
        case ENOSYS:
        case EOPNOTSUPP:
            return " (a kernel without CONFIG_PERF_EVENTS)";
        case EMFILE:
            return " (a descriptor is needed for each thread and processor)";
        default:
            return "";
    }
}

std::string place_of(const meter::CodeName& name) {
    if (!name.file) return name.object;
    const std::string file = name.file->substr(name.file->find_last_of('/') + 1);
    return name.line ? fmt::format("{}:{}", file, *name.line) : file;
}

}  // namespace

WatchStacks::WatchStacks(const WatchStacksOptions& options)
    : sampler_(sampler_options(options)), sampled_(!options.period || *options.period > 1) {}

void WatchStacks::note_refusal(pid_t pid, int error) {
    const std::string text = fmt::format("--stacks: page faults of process {} cannot be sampled: {}{}", pid,
                                         std::strerror(error), hint_for(error));
    if (refusals_.empty()) warn("vmcow watch", text);
    constexpr std::size_t kMostRefusals = 8;
    if (refusals_.size() < kMostRefusals) refusals_.push_back(text);
}

void WatchStacks::follow(const meter::ProcessFamily& family) {
    const std::vector<pid_t> members = family.members();
    std::erase_if(asked_, [&](pid_t pid) { return !std::binary_search(members.begin(), members.end(), pid); });
    for (const pid_t pid : members) {
        if (!asked_.insert(pid).second) continue;
        const int error = sampler_.follow(pid);
        if (error != 0 && error != ESRCH) note_refusal(pid, error);
    }
}

void WatchStacks::before_look() {
    sampler_.drain();
    look_began_ns_ = now_ns();
}

void WatchStacks::after_look(const meter::ProcessFamily& family) {
    follow(family);
    sampler_.drain();
    sampler_.settle(meter::LineageJudge(family), look_began_ns_);
}

void WatchStacks::add_to(std::vector<pollfd>& polled) const {
    for (const int fd : sampler_.descriptors()) {
        if (!hung_up_.contains(fd)) polled.push_back({fd, POLLIN, 0});
    }
}

void WatchStacks::take(const std::vector<pollfd>& polled) {
    const std::vector<int> own = sampler_.descriptors();
    for (const pollfd& each : polled) {
        // The thread that the event was opened for has ended; others may still write to the ring.
        const bool is_own = std::find(own.begin(), own.end(), each.fd) != own.end();
        if (is_own && (each.revents & (POLLHUP | POLLERR)) != 0) hung_up_.insert(each.fd);
    }
    sampler_.drain();
}

std::chrono::milliseconds WatchStacks::longest_wait() const { return hung_up_.empty() ? kPatience : kBlindPatience; }

std::optional<std::vector<meter::FunctionCopies>> WatchStacks::functions() {
    if (sampler_.descriptors().empty()) return std::nullopt;
    return meter::copies_by_function(sampler_.copies(), sampler_.symbols());
}

std::string WatchStacks::folded(const std::string& program) {
    return meter::folded_stacks(sampler_.copies(), sampler_.symbols(), program);
}

std::vector<std::string> WatchStacks::notes() const {
    std::vector<std::string> notes = refusals_;
    if (sampled_ && sampler_.counts().copied > 0) {
        notes.emplace_back("--stacks: not every page fault was sampled; a sample stands for several faults");
    }
    if (sampler_.leaves_out_system_calls()) {
        notes.emplace_back(
            "--stacks: copies made within system calls are not seen, as kernel.perf_event_paranoid is 2 or more");
    }
    for (const std::string& note : meter::notes_on(sampler_.counts())) notes.push_back("--stacks: " + note);
    return notes;
}

std::vector<std::string> function_lines(const std::vector<meter::FunctionCopies>& functions, std::size_t most) {
    std::vector<std::string> lines;
    lines.push_back(fmt::format("{:>10} {:>7}  {}", "copies", "share", "function, and where it wrote"));
    for (std::size_t i = 0; i < std::min(most, functions.size()); ++i) {
        const meter::FunctionCopies& each = functions[i];
        lines.push_back(fmt::format("{:>10} {:>5.1f} %  {}  {}", human_count(each.copied_pages), 100 * each.share,
                                    one_line(each.name.function), one_line(place_of(each.name))));
    }
    if (functions.empty()) lines.push_back(fmt::format("{:>10} no copies were seen", ""));
    if (functions.size() > most) lines.push_back(fmt::format("{:>10} and {} more", "", functions.size() - most));
    return lines;
}

}  // namespace vmcow::cli
