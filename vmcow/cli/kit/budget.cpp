#include "vmcow/cli/kit/budget.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"

namespace vmcow::cli {
namespace {

[[noreturn]] void reject(std::string_view word, std::string_view why) {
    throw std::invalid_argument(fmt::format("'{}' {}", word, why));
}

/// A number of at least 0. `word` is the whole limit as the user wrote it, for the message.
double parse_real(std::string_view text, std::string_view word, std::string_view why) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || std::signbit(value)) {
        reject(word, why);
    }
    return value;
}

double parse_percent(std::string_view text, std::string_view word) {
    constexpr std::string_view kWhy = "is no share of the copied pages; write identical=20%";
    if (!text.ends_with('%')) reject(word, kWhy);
    const double percent = parse_real(text.substr(0, text.size() - 1), word, kWhy);
    if (percent > 100) reject(word, kWhy);
    return percent / 100;
}

template <class Value>
void set_once(std::optional<Value>& limit, Value value, std::string_view word) {
    if (limit) reject(word, "is a second limit of the same figure");
    limit = value;
}

/// Adds to `complaints` if `figure` is unknown or more than `most`. `show` formats a value, `show_excess` a difference.
template <class Value, class Show, class ShowExcess>
void compare(std::vector<std::string>& complaints, const char* name, const std::optional<Value>& most,
             const std::optional<Value>& figure, Show show, ShowExcess show_excess) {
    if (!most || (figure && *figure <= *most)) return;
    if (!figure) {
        complaints.push_back(fmt::format("{} is unknown, and may be at most {}", name, show(*most)));
        return;
    }
    complaints.push_back(
        fmt::format("{} {}, {} more than {}", name, show(*figure), show_excess(*figure - *most), show(*most)));
}

std::string show_real(double value) { return fmt::format("{:.4g}", value); }
std::string show_share(double share) { return fmt::format("{:.4g} %", 100 * share); }

/// Adds the count of bytes, because the unit hides digits: 200 MiB and one byte more would read the same.
std::string show_bytes(std::uint64_t bytes) {
    return bytes < 1024 ? human_bytes(bytes) : fmt::format("{} ({} bytes)", human_bytes(bytes), bytes);
}

}  // namespace

void Budget::take(std::string_view word) {
    const std::size_t equals = std::min(word.find('='), word.size());
    const std::string_view name = word.substr(0, equals);
    const std::string_view value = word.substr(std::min(equals + 1, word.size()));
    if (equals == word.size()) reject(word, "is no limit; write copied=200M, amplification=64 or identical=20%");
    if (name == "copied") {
        set_once(most_.copied_bytes, value == "0" ? 0 : parse_size(value), word);
    } else if (name == "amplification") {
        set_once(most_.amplification, parse_real(value, word, "is no number of at least 0"), word);
    } else if (name == "identical") {
        set_once(most_.identical_share, parse_percent(value, word), word);
    } else {
        reject(name, "is nothing that has a budget; there are: copied, amplification, identical");
    }
}

Budget Budget::parse(std::string_view text) {
    Budget budget;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find(',', at), text.size());
        budget.take(text.substr(at, end - at));
        at = end + 1;
    }
    return budget;
}

std::optional<std::string> Budget::complaint(const BudgetFigures& figures) const {
    std::vector<std::string> complaints;
    compare(complaints, "copied", most_.copied_bytes, figures.copied_bytes, show_bytes, show_bytes);
    compare(complaints, "amplification", most_.amplification, figures.amplification, show_real, show_real);
    compare(complaints, "identical", most_.identical_share, figures.identical_share, show_share,
            [](double share) { return fmt::format("{:.4g} points", 100 * share); });
    if (complaints.empty()) return std::nullopt;
    return fmt::format("budget exceeded: {}", fmt::join(complaints, "; "));
}

void Budget::require(const BudgetFigures& figures) const {
    if (const auto line = complaint(figures)) throw Failure(*line);
}

CLI::Option* add_budget(CLI::App& verb, Budget& budget) {
    return add_parsed(
        verb, "--budget", budget, "LIMITS", [](const std::string& text) { return Budget::parse(text); },
        "Exit 1 when a limit is exceeded, as in copied=200M,amplification=64,identical=20%");
}

std::optional<double> identical_share(std::optional<std::uint64_t> identical_pages,
                                      std::optional<std::uint64_t> copied_pages) {
    if (!identical_pages || !copied_pages) return std::nullopt;
    if (*copied_pages == 0) return 0.0;
    return static_cast<double>(*identical_pages) / static_cast<double>(*copied_pages);
}

}  // namespace vmcow::cli
