#include "tests/faults/strace_log.hpp"

#include <algorithm>
#include <charconv>

namespace faults {
namespace {

bool is_name_character(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

std::optional<ProcessEnd> parse_end(std::string_view text) {
    constexpr std::string_view kExited = "+++ exited with ";
    constexpr std::string_view kKilled = "+++ killed by ";
    ProcessEnd end;
    if (text.substr(0, kExited.size()) == kExited) {
        text.remove_prefix(kExited.size());
        std::from_chars(text.data(), text.data() + text.size(), end.status);
        return end;
    }
    if (text.substr(0, kKilled.size()) != kKilled) return std::nullopt;
    text.remove_prefix(kKilled.size());
    end.signal = text.substr(0, text.find(' '));
    return end;
}

}  // namespace

std::optional<LogLine> parse_log_line(std::string_view line) {
    LogLine parsed;
    const auto [after, error] = std::from_chars(line.data(), line.data() + line.size(), parsed.pid);
    if (error != std::errc{}) return std::nullopt;
    line.remove_prefix(static_cast<std::size_t>(after - line.data()));
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    parsed.injected = line.find("(INJECTED)") != std::string_view::npos;
    parsed.end = parse_end(line);
    const auto name_end = std::find_if_not(line.begin(), line.end(), is_name_character);
    if (name_end != line.end() && name_end != line.begin() && *name_end == '(') {
        const auto length = static_cast<std::size_t>(name_end - line.begin());
        parsed.call = line.substr(0, length);
        parsed.arguments = line.substr(length);
    }
    return parsed;
}

bool LogLine::is_refused_complaint() const {
    return injected && (call == "write" || call == "writev") && arguments.substr(0, 3) == "(2,";
}

void Recording::add(const LogLine& line) {
    if (line.call.empty()) return;
    if (first_ == 0) first_ = line.pid;
    if (line.call == "execve" && line.arguments.find(programs_) == std::string_view::npos) foreign_.insert(line.pid);
    if (foreign_.count(line.pid) != 0) return;
    const std::string call(line.call);
    const unsigned number = ++counts_[line.pid][call];
    if (line.pid != first_) return;
    if (!in_main_) {
        before_main_[call] = number;
        in_main_ = call == "mprotect";
    }
}

std::map<std::string, unsigned> Recording::most() const {
    std::map<std::string, unsigned> most;
    for (const auto& [pid, counts] : counts_) {
        for (const auto& [call, count] : counts) most[call] = std::max(most[call], count);
    }
    return most;
}

}  // namespace faults
