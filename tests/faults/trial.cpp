#include "tests/faults/trial.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <set>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace faults {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using vmcow::sys::retry_interrupted;
using vmcow::sys::throw_errno;
using vmcow::sys::UniqueFd;

namespace {

constexpr auto kHang = 4s;        // a command that takes longer counts as hanging
constexpr auto kLeaving = 500ms;  // time for the other processes to end after the command

std::string text_of(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::vector<pid_t> children_of(pid_t pid) {
    std::vector<pid_t> children;
    std::error_code gone;
    for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), gone)) {
        std::ifstream list(task.path() / "children");
        for (pid_t child = 0; list >> child;) children.push_back(child);
    }
    return children;
}

// The descendants of this process, without zombies.
std::vector<pid_t> living_descendants() {
    std::vector<pid_t> all = children_of(getpid());
    for (std::size_t i = 0; i < all.size(); ++i) {
        const std::vector<pid_t> more = children_of(all[i]);
        all.insert(all.end(), more.begin(), more.end());
    }
    std::erase_if(all, [](pid_t pid) {
        const std::string stat = text_of(fmt::format("/proc/{}/stat", pid));
        const std::size_t bracket = stat.rfind(')');
        return bracket == std::string::npos || bracket + 2 >= stat.size() || stat[bracket + 2] == 'Z' ||
               stat[bracket + 2] == 'X';
    });
    return all;
}

std::string name_of(pid_t pid) {
    std::string words = text_of(fmt::format("/proc/{}/cmdline", pid));
    std::replace(words.begin(), words.end(), '\0', ' ');
    return fmt::format("process {}: {}", pid, words);
}

void reap_all() {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
}

// Kills until no descendant is left: a process may fork another just before it is killed.
void end_all_descendants() {
    for (;;) {
        for (const pid_t pid : children_of(getpid())) {
            for (const pid_t child : children_of(pid)) vmcow::sys::signal_process(child, SIGKILL);
            vmcow::sys::signal_process(pid, SIGKILL);
        }
        reap_all();
        if (children_of(getpid()).empty()) return;
        std::this_thread::sleep_for(1ms);
    }
}

UniqueFd memory_file(const char* name) {
    UniqueFd file(memfd_create(name, MFD_CLOEXEC));
    if (!file) throw_errno("memfd_create for the output of a run");
    return file;
}

std::string content_of(const UniqueFd& file) {
    std::string text;
    std::array<char, 65536> buffer;
    ssize_t got = 0;
    while ((got = pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(text.size()))) > 0) {
        text.append(buffer.data(), static_cast<std::size_t>(got));
    }
    return text;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    return pointers;
}

// Without a fault every call is traced. To fail a call, only that call is traced, with a filter: fewer stops make it
// faster. A fault that kills has no filter, because a signal that is sent while a filter has stopped the process gets
// lost.
std::vector<std::string> injection_words(const Fault* fault) {
    if (fault == nullptr) return {};
    std::vector<std::string> words = {"-e", "trace=execve," + fault->call, "-e", "inject=" + fault->injection()};
    if (!fault->error.empty()) words.emplace_back("--seccomp-bpf");
    return words;
}

}  // namespace

std::vector<std::string> strace_words(const Scenario& scenario, const Place& place, const std::string& log,
                                      const Fault* fault) {
    std::vector<std::string> words = {"strace", "-f", "--quiet=attach,personality", "-o", log};
    for (std::string& word : injection_words(fault)) words.push_back(std::move(word));
    words.push_back("--");
    words.insert(words.end(), scenario.words.begin(), scenario.words.end());
    const std::filesystem::path ours = place.programs / scenario.words.front();
    if (std::filesystem::exists(ours)) words[words.size() - scenario.words.size()] = ours.string();
    return words;
}

Runner::Runner(Place place) : place_(std::move(place)) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) throw_errno("prctl PR_SET_CHILD_SUBREAPER");
    std::string name = (std::filesystem::temp_directory_path() / "faults-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw_errno("mkdtemp '" + name + "'");
    scratch_ = name;
    const std::string fifo = scratch_ / "log";
    if (mkfifo(fifo.c_str(), 0600) != 0) throw_errno("mkfifo '" + fifo + "'");
    // Open for writing as well: then the log has no end of file, and strace's open(2) finds a reader.
    log_ = UniqueFd(open(fifo.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!log_) throw_errno("open '" + fifo + "'");
}

Runner::~Runner() {
    end_all_descendants();
    std::error_code ignored;
    std::filesystem::remove_all(scratch_, ignored);
}

pid_t Runner::start(const std::vector<std::string>& words, const Scenario& scenario,
                    const std::filesystem::path& directory, int out, int err) const {
    std::vector<std::string> arguments = words;
    std::vector<std::string> environment = {"PATH=" + place_.programs.string() + ":/usr/bin:/bin",
                                            "TMPDIR=" + directory.string(), "HOME=" + directory.string(), "LC_ALL=C"};
    const std::vector<char*> argv = pointers_to(arguments);
    const std::vector<char*> variables = pointers_to(environment);
    const std::string input = scenario.input.empty() ? "/dev/null" : (directory / scenario.input).string();
    const UniqueFd in(open(input.c_str(), O_RDONLY | O_CLOEXEC));
    if (!in) throw_errno("open '" + input + "'");
    const pid_t pid = fork();
    if (pid < 0) throw_errno("fork for strace");
    if (pid > 0) return pid;
    if (setsid() < 0 || chdir(directory.c_str()) != 0) _exit(127);
    if (dup2(in.get(), 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(127);
    execvpe("strace", argv.data(), variables.data());
    _exit(127);
}

void Runner::take_line(std::string_view line, Trial& trial, Recording* recording) {
    const auto parsed = parse_log_line(line);
    if (!parsed) return;
    if (first_ == 0) first_ = parsed->pid;
    if (parsed->injected) trial.reached = true;
    if (parsed->is_refused_complaint()) trial.mute = true;
    if (recording != nullptr) recording->add(*parsed);
    if (!parsed->end) return;
    if (!parsed->end->signal.empty()) trial.violent.push_back(*parsed->end);
    if (parsed->pid == first_) trial.end = parsed->end;
}

void Runner::read_log(Trial& trial, Recording* recording) {
    std::array<char, 65536> buffer;
    for (;;) {
        const ssize_t got = retry_interrupted([&] { return read(log_.get(), buffer.data(), buffer.size()); });
        if (got <= 0) return;
        pending_.append(buffer.data(), static_cast<std::size_t>(got));
        std::size_t begin = 0;
        for (std::size_t end = 0; (end = pending_.find('\n', begin)) != std::string::npos; begin = end + 1) {
            take_line(std::string_view(pending_).substr(begin, end - begin), trial, recording);
        }
        pending_.erase(0, begin);
    }
}

// Returns when strace and all processes that it traces have ended, or when they take too long.
void Runner::follow(pid_t strace, Trial& trial, Recording* recording) {
    const auto started = Clock::now();
    std::optional<Clock::time_point> ended;
    for (;;) {
        pollfd entry{.fd = log_.get(), .events = POLLIN, .revents = 0};
        constexpr int kLookMs = 5;
        static_cast<void>(poll(&entry, 1, strace_ended_ ? 0 : kLookMs));
        read_log(trial, recording);
        for (pid_t pid = 0; (pid = waitpid(-1, nullptr, WNOHANG)) > 0;) strace_ended_ = strace_ended_ || pid == strace;
        if (strace_ended_) read_log(trial, recording);
        const auto now = Clock::now();
        if (!ended && (trial.end || strace_ended_)) ended = now;
        if (strace_ended_ && children_of(getpid()).empty()) return;
        if (!ended && now - started > kHang) {
            trial.hung = true;
            return;
        }
        if (ended && now - *ended > kLeaving) {
            for (const pid_t pid : living_descendants()) {
                if (pid != strace) trial.left.push_back(name_of(pid));
            }
            return;
        }
        if (strace_ended_) std::this_thread::sleep_for(1ms);
    }
}

void Runner::look_for_files(const Scenario& scenario, const std::filesystem::path& directory, Trial& trial) const {
    std::error_code gone;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory, gone)) {
        const std::string name = entry.path().lexically_relative(directory).string();
        const auto is_this = [&](const OutputFile& output) { return output.name == name; };
        const auto output = std::find_if(scenario.outputs.begin(), scenario.outputs.end(), is_this);
        if (output != scenario.outputs.end()) {
            if (!std::regex_search(text_of(entry.path()), output->whole)) trial.damaged.push_back(name);
        } else if (!std::filesystem::exists(place_.files / name)) {
            trial.left.push_back("file " + name);
        }
    }
}

Trial Runner::run(const Scenario& scenario, const Fault* fault, Recording* recording) {
    const std::filesystem::path directory = scratch_ / "run";
    std::filesystem::remove_all(directory);
    std::filesystem::copy(place_.files, directory, std::filesystem::copy_options::recursive);
    const UniqueFd out = memory_file("out");
    const UniqueFd err = memory_file("err");
    Trial trial;
    first_ = 0;
    strace_ended_ = false;
    pending_.clear();
    const pid_t strace =
        start(strace_words(scenario, place_, scratch_ / "log", fault), scenario, directory, out.get(), err.get());
    follow(strace, trial, recording);
    end_all_descendants();
    read_log(trial, nullptr);
    trial.out = content_of(out);
    trial.err = content_of(err);
    if (fault != nullptr && fault->error.empty()) {
        trial.reached = std::any_of(trial.violent.begin(), trial.violent.end(),
                                    [](const ProcessEnd& end) { return end.signal == "SIGKILL"; });
    }
    look_for_files(scenario, directory, trial);
    return trial;
}

}  // namespace faults
