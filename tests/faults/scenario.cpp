#include "tests/faults/scenario.hpp"

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/faults/call_table.hpp"

namespace faults {
namespace {

std::regex pattern(const std::string& text) { return std::regex(text, std::regex::extended | std::regex::optimize); }

void take(Scenario& scenario, const std::string& key, const std::string& rest) {
    if (key == "run") {
        scenario.words = split_words(rest);
    } else if (key == "setup") {
        scenario.setup.push_back(rest);
    } else if (key == "input") {
        scenario.input = rest;
    } else if (key == "stdout" && rest == "same") {
        scenario.same_output = true;
    } else if (key == "expect") {
        scenario.expected.push_back(pattern(rest));
    } else if (key == "output") {
        const std::size_t space = std::min(rest.find(' '), rest.size());
        scenario.outputs.push_back({rest.substr(0, space), pattern(rest.substr(std::min(space + 1, rest.size())))});
    } else if (key == "status") {
        for (const std::string& word : split_words(rest)) scenario.statuses.insert(std::stoi(word));
    } else if (key == "silent") {
        for (const std::string& word : split_words(rest)) scenario.silent_statuses.insert(std::stoi(word));
    } else if (key == "lines") {
        scenario.most_lines = std::stol(rest);
    } else if (key == "signal") {
        scenario.signals.insert(rest);
    } else {
        throw std::runtime_error(fmt::format("'{} {}': a scenario has no such line", key, rest));
    }
}

}  // namespace

std::vector<std::string> split_words(std::string_view text) {
    std::vector<std::string> words;
    bool quoted = false;
    bool in_word = false;
    for (const char c : text) {
        if (c == ' ' && !quoted) {
            in_word = false;
            continue;
        }
        if (!in_word) words.emplace_back();
        in_word = true;
        if (c == '\'') {
            quoted = !quoted;
        } else {
            words.back().push_back(c);
        }
    }
    if (quoted) throw std::runtime_error("a quote that is not closed");
    return words;
}

Scenario read_scenario(const std::filesystem::path& file) {
    Scenario scenario;
    scenario.name = file.stem();
    std::ifstream lines(file);
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
        if (line.empty() || line.front() == '#') continue;
        const std::size_t space = std::min(line.find(' '), line.size());
        try {
            take(scenario, line.substr(0, space), line.substr(std::min(space + 1, line.size())));
        } catch (const std::exception& error) {
            throw std::runtime_error(fmt::format("{}:{}: {}", file.string(), number, error.what()));
        }
    }
    if (scenario.words.empty()) throw std::runtime_error(file.string() + ": no line 'run'");
    if (!scenario.same_output && scenario.expected.empty()) {
        throw std::runtime_error(file.string() + ": neither 'stdout same' nor 'expect'");
    }
    return scenario;
}

std::string Fault::injection() const {
    return fmt::format("{}:{}:when={}{}", call, error.empty() ? "signal=SIGKILL" : "error=" + error, number,
                       from_then_on ? "+" : "");
}

FaultPlan plan_faults(const Recording& recording) {
    FaultPlan plan;
    const auto& start = recording.before_main();
    for (const auto& [call, count] : recording.most()) {
        const CallErrors* const errors = errors_of(call);
        if (errors == nullptr && !is_left_out(call)) plan.unknown.insert(call);
        if (call == "execve") continue;
        const auto before = start.find(call);
        for (unsigned number = before == start.end() ? 1 : before->second + 1; number <= count; ++number) {
            ++plan.calls;
            plan.faults.push_back({call, "", number, false});
            if (errors == nullptr) continue;
            for (const std::string_view error : errors->errors) {
                plan.faults.push_back({call, std::string(error), number, false});
                plan.faults.push_back({call, std::string(error), number, true});
            }
            for (const std::string_view error : errors->once) {
                plan.faults.push_back({call, std::string(error), number, false});
            }
        }
    }
    return plan;
}

}  // namespace faults
