#include "vmcow/cli/compare/peer_program.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "vmcow/cli/kit/child_program.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

/// The peers that scripts/peers builds.
constexpr std::array<const char*, 4> kKnown = {"php-array", "python-list", "rust-arc", "rust-im"};
constexpr const char* kSuffix = ".peer";
constexpr std::size_t kMostOutput = std::size_t{64} << 10;
constexpr std::size_t kMostShown = 200;

[[noreturn]] void refuse(const std::string& why) { throw std::runtime_error(why); }

fs::path usual_folder() {
    if (const char* const named = std::getenv("VMCOW_PEERS"); named != nullptr && *named != '\0') return named;
    std::error_code unknown;
    const fs::path self = fs::read_symlink("/proc/self/exe", unknown);
    return self.parent_path().parent_path().parent_path() / "peers";  // build/PRESET/bin/vmcow, build/peers
}

/// Whether a name has no character that a table, CSV or a page would have to escape.
bool is_plain(std::string_view name) {
    return std::all_of(name.begin(), name.end(),
                       [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.'; });
}

/// Standard output or standard error of a peer, read as it comes.
class Output {
public:
    Output() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) sys::throw_errno("pipe2");
        reader_ = sys::UniqueFd(ends[0]);
        writer_ = sys::UniqueFd(ends[1]);
        if (::fcntl(reader_.get(), F_SETFL, O_NONBLOCK) != 0) sys::throw_errno("fcntl");
    }
    [[nodiscard]] int writer() const noexcept { return writer_.get(); }
    /// Leaves the write end to the peer alone, so that the peer's end is the end of the output.
    void close_writer() { writer_.reset(); }
    /// The descriptor to poll for more output; after the end of the output -1, which poll(2) ignores.
    [[nodiscard]] int reader() const noexcept { return reader_ ? reader_.get() : -1; }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

    void read_what_is_there() {
        std::array<char, 4096> some{};
        while (reader_) {
            const ssize_t got = sys::retry_interrupted([&] { return ::read(reader_.get(), some.data(), some.size()); });
            if (got < 0 && errno == EAGAIN) return;
            if (got <= 0) {
                reader_.reset();
                return;
            }
            text_.append(some.data(), static_cast<std::size_t>(got));
            if (text_.size() > kMostOutput) refuse("it printed more than 64 KiB");
        }
    }

private:
    sys::UniqueFd reader_;
    sys::UniqueFd writer_;
    std::string text_;
};

std::string last_line(std::string_view text) {
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    const std::size_t end = text.rfind('\n');
    if (end != std::string_view::npos) text.remove_prefix(end + 1);
    return one_line(text.substr(0, kMostShown));
}

void require_good_end(int status, const std::string& errors) {
    const std::string said = errors.empty() ? "" : ": " + last_line(errors);
    if (WIFSIGNALED(status)) refuse(fmt::format("it was ended by signal {}{}", WTERMSIG(status), said));
    if (WEXITSTATUS(status) != 0) refuse(fmt::format("it ended with status {}{}", WEXITSTATUS(status), said));
}

/// Reads what `program` prints until it ends, kills the processes that it leaves, and returns its standard output.
/// Refuses a program that has not ended after `timeout`.
std::string output_of(sys::ChildProgram& program, Output& out, Output& err, std::chrono::nanoseconds timeout) {
    const Clock::time_point begin = Clock::now();
    for (bool ended = false; !ended;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(timeout - (Clock::now() - begin));
        if (left.count() <= 0) {
            refuse(fmt::format("it had not ended after {:.3g} s", std::chrono::duration<double>(timeout).count()));
        }
        std::array<pollfd, 3> asked = {{{.fd = program.pidfd(), .events = POLLIN, .revents = 0},
                                        {.fd = out.reader(), .events = POLLIN, .revents = 0},
                                        {.fd = err.reader(), .events = POLLIN, .revents = 0}}};
        const auto wait = std::min<std::chrono::milliseconds::rep>(left.count(), std::numeric_limits<int>::max());
        if (::poll(asked.data(), asked.size(), static_cast<int>(wait)) < 0 && errno != EINTR) sys::throw_errno("poll");
        ended = asked[0].revents != 0;
        out.read_what_is_there();
        err.read_what_is_there();
    }
    program.send(SIGKILL);  // its group; the program has ended, and until it is reaped nobody else gets its number
    require_good_end(program.reap().value(), err.text());
    return out.text();
}

double seconds_in(const Json& answer, const char* key) {
    const auto found = answer.find(key);
    if (found == answer.end() || !found->is_number()) refuse(fmt::format("'{}' is not a number", key));
    const double value = found->get<double>();
    if (!std::isfinite(value) || value < 0) refuse(fmt::format("'{}' is no time", key));
    return value;
}

std::optional<std::uint64_t> bytes_in(const Json& answer, const char* key) {
    const auto found = answer.find(key);
    if (found == answer.end()) refuse(fmt::format("there is no '{}'", key));
    if (found->is_null()) return std::nullopt;
    if (!found->is_number_unsigned()) refuse(fmt::format("'{}' is neither a count of bytes nor null", key));
    return found->get<std::uint64_t>();
}

std::uint64_t checksum_in(const Json& answer) {
    const auto found = answer.find("checksum");
    std::uint64_t checksum = 0;
    if (found != answer.end() && found->is_string()) {
        const auto& digits = found->get_ref<const std::string&>();
        const char* const last = digits.data() + digits.size();
        const auto [end, error] = std::from_chars(digits.data(), last, checksum, 16);
        if (digits.size() == 16 && error == std::errc() && end == last) return checksum;
    }
    refuse("'checksum' is not 16 hexadecimal digits");
}

Json parsed(const std::string& text) {
    Json answer = Json::parse(text, nullptr, false);
    if (!answer.is_object()) refuse(text.empty() ? "it printed nothing" : "what it printed is no JSON object");
    return answer;
}

}  // namespace

FoundPeers find_peers(const std::optional<std::string>& folder) {
    const fs::path place = folder ? fs::path(*folder) : usual_folder();
    FoundPeers found;
    std::error_code error;
    for (fs::directory_iterator at(place, error), end; !error && at != end; at.increment(error)) {
        const std::string path = at->path().string();
        std::error_code unknown;
        if (!at->is_regular_file(unknown) || ::access(path.c_str(), X_OK) != 0) continue;
        if (at->path().extension() != kSuffix) continue;  // so that a folder of other programs is not run
        const std::string name = at->path().stem().string();
        const std::vector<std::string>& ours = meter::engine_names();
        if (std::find(ours.begin(), ours.end(), name) != ours.end()) {
            found.warnings.push_back(
                fmt::format("'{}' is left out: {} is an engine of this command", one_line(path), name));
        } else if (!is_plain(name)) {
            found.warnings.push_back(
                fmt::format("'{}' is left out: a name has letters, digits, '-', '_' and '.' alone", one_line(path)));
        } else {
            found.programs.push_back({name, path});
        }
    }
    if (error && folder) throw std::system_error(error, *folder);
    std::sort(found.programs.begin(), found.programs.end(),
              [](const PeerProgram& a, const PeerProgram& b) { return a.name < b.name; });
    std::vector<std::string> missing;
    for (const char* const name : kKnown) {
        const bool there = std::any_of(found.programs.begin(), found.programs.end(),
                                       [&](const PeerProgram& peer) { return peer.name == name; });
        if (!there) missing.emplace_back(name);
    }
    if (!missing.empty()) {
        found.warnings.push_back(fmt::format("of the peers that scripts/peers builds, '{}' does not have {}",
                                             place.string(), fmt::join(missing, ", ")));
    }
    return found;
}

PeerAnswer run_peer(const PeerProgram& peer, const sys::UniqueFd& workload_file, const meter::Workload& workload,
                    std::uint64_t children, std::chrono::nanoseconds timeout) {
    Output out;
    Output err;
    // Opened again: the peer gets an open file description of its own, whose offset is 0.
    const sys::UniqueFd in = sys::open_file(fmt::format("/proc/self/fd/{}", workload_file.get()), O_RDONLY);
    sys::ChildProgram program({peer.path},
                              {.in = in.get(), .out = out.writer(), .err = err.writer(), .own_group = true});
    out.close_writer();
    err.close_writer();
    const Json answer = parsed(output_of(program, out, err, timeout));
    const double all_children = static_cast<double>(children);
    const double each_ns = 1e9 / all_children / static_cast<double>(workload.writes);
    PeerAnswer result;
    meter::EngineFigures& figures = result.figures;
    figures.name = peer.name;
    figures.is_peer = true;
    figures.build_seconds = seconds_in(answer, "build_seconds");
    figures.hand_over_seconds = seconds_in(answer, "hand_over_seconds") / all_children;
    figures.write_ns = seconds_in(answer, "write_seconds") * each_ns;
    figures.read_ns = seconds_in(answer, "read_seconds") * each_ns;
    figures.memory_before_bytes = bytes_in(answer, "memory_before_bytes");
    figures.memory_after_bytes = bytes_in(answer, "memory_after_bytes");
    figures.copied_bytes = bytes_in(answer, "copied_bytes");
    figures.checksum = checksum_in(answer);
    if (figures.copied_bytes) {
        figures.amplification =
            static_cast<double>(*figures.copied_bytes) / (static_cast<double>(workload.logical_bytes()) * all_children);
    }
    const auto about = answer.find("about");
    if (about != answer.end() && about->is_string()) {
        result.about = one_line(about->get_ref<const std::string&>().substr(0, kMostShown));
    }
    return result;
}

}  // namespace vmcow::cli
