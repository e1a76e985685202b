#include "vmcow/cli/kit/command_line.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <system_error>
#include <vector>

#include "vmcow/facilities.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::cli {
namespace {

/// Opens /dev/null, in the wrong direction, as each closed standard descriptor. Using the descriptor is still an error
/// (EBADF), but no file that is opened later gets the number, and with it what was meant for a terminal.
void occupy_standard_descriptors() noexcept {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
        // The lower numbers are open by now, so open(2) returns `fd`. Not close-on-exec: a program that we execute is
        // in the same danger.
        const int flags = fd == STDIN_FILENO ? O_WRONLY : O_RDONLY;
        (void)::open("/dev/null", flags);  // NOLINT(android-cloexec-open)
    }
}

std::string program_and_verb(const CLI::App& app) {
    std::string name = app.get_name();
    for (const CLI::App* verb : app.get_subcommands()) name += " " + verb->get_name();
    return name;
}

std::string known_commands(const CLI::App& app) {
    std::string names;
    for (const CLI::App* verb : app.get_subcommands(nullptr)) names += (names.empty() ? "" : ", ") + verb->get_name();
    return names;
}

/// The message for an argument that CLI11 could not place.
std::string unplaced(const CLI::App& app, const std::string& argument) {
    const std::string see_help = "; see '" + program_and_verb(app) + " --help'";
    if (argument.size() > 1 && argument.front() == '-') return "unknown flag '" + argument + "'" + see_help;
    const bool verb_wanted = app.get_subcommands().empty() && !app.get_subcommands(nullptr).empty();
    if (verb_wanted) return "unknown command '" + argument + "'; there are: " + known_commands(app);
    return "unexpected argument '" + argument + "'" + see_help;
}

/// Replaces CLI11's text, which counts: "--size: At Most 1 required but received 2".
std::string wrong_argument_count(const std::string& message) {
    const std::string flag = message.substr(0, message.find(':'));
    return flag + (message.find("At Most") != std::string::npos ? ": given more than once" : ": a value is missing");
}

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
    // Told apart by type: get_name() of an ExtrasError is the name of the verb.
    if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) return wrong_argument_count(error.what());
    const bool required = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
    if (required || dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
        // Given a word that is no verb, CLI11 reports a missing verb before it reports the word.
        const std::vector<std::string> left = app.remaining(true);
        if (!left.empty()) return unplaced(app, left.front());
    }
    if (required && app.get_subcommands().empty() && !app.get_subcommands(nullptr).empty()) {
        return "a command is missing; there are: " + known_commands(app);
    }
    return error.what();
}

ExitCode complain(const std::string& who, const std::string& message, ExitCode code) {
    const std::string line = one_line(who + ": " + message) + "\n";
    // If standard error cannot be written either, nobody is left to tell.
    (void)std::fwrite(line.data(), 1, line.size(), stderr);
    return code;
}

/// Runs the verb, and answers --help and --version. Returns the exit status.
int parse_and_run(CLI::App& app, int argc, const char* const* argv) {
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        write_stdout(app.help());
    } catch (const CLI::CallForAllHelp&) {
        write_stdout(app.help("", CLI::AppFormatMode::All));
    } catch (const CLI::CallForVersion& version) {
        write_stdout(std::string(version.what()) + "\n");
    } catch (const CLI::RuntimeError& ended) {
        return ended.get_exit_code();
    } catch (const CLI::ParseError& error) {
        throw Failure(usage_message(app, error), ExitCode::usage);
    }
    return 0;
}

/// Writes the rest of stdio's buffer. Throws if this write or an earlier one has failed.
void flush_stdout() {
    errno = 0;
    const bool flushed = std::fflush(stdout) == 0;
    if (!flushed || std::ferror(stdout) != 0) sys::throw_error(errno != 0 ? errno : EIO, "standard output");
}

/// What stood behind "--".
std::optional<std::vector<std::string>>& taken_words() noexcept {
    static std::optional<std::vector<std::string>> words;
    return words;
}

struct Number {
    std::string_view digits;
    std::string_view unit;
};

/// Splits "1.5h" into "1.5" and "h"; nullopt if `text` does not begin with a digit.
std::optional<Number> split_unit(std::string_view text) {
    if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
    const std::size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
    return Number{text.substr(0, end), text.substr(end)};
}

[[noreturn]] void reject(std::string_view text, std::string_view why) {
    throw std::invalid_argument(fmt::format("'{}' {}", text, why));
}

template <class Value>
std::errc convert(std::string_view digits, Value& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc() && end != digits.data() + digits.size()) return std::errc::invalid_argument;
    return error;
}

/// The exponent of the power of two that a unit of size stands for; nullopt for an unknown unit.
std::optional<unsigned> size_shift(std::string_view unit) {
    if (unit.empty() || unit == "B") return 0u;
    constexpr std::string_view kPrefixes = "KMGTPE";
    const char prefix = unit.front() == 'k' ? 'K' : unit.front();
    const std::size_t at = kPrefixes.find(prefix);
    const std::string_view rest = unit.substr(1);
    if (at == std::string_view::npos || (!rest.empty() && rest != "B" && rest != "iB")) return std::nullopt;
    return static_cast<unsigned>(10 * (at + 1));
}

struct TimeUnit {
    std::string_view name;
    double ns;
};

constexpr std::array<TimeUnit, 7> kTimeUnits = {
    {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}}};

}  // namespace

int run_main(CLI::App& app, int argc, const char* const* argv) noexcept {
    const auto failed = [&app](const std::string& message, ExitCode code) {
        return static_cast<int>(complain(program_and_verb(app), message, code));
    };
    try {
        occupy_standard_descriptors();
        (void)std::signal(SIGXFSZ, SIG_IGN);
        const int status = parse_and_run(app, argc, argv);
        flush_stdout();
        return status;
    } catch (const Failure& failure) {
        return failed(failure.what(), failure.code());
    } catch (const std::bad_alloc&) {
        return failed("out of memory", ExitCode::failure);
    } catch (const std::exception& error) {
        return failed(error.what(), ExitCode::failure);
    }
}

int command_main(const Command& command, int argc, const char* const* argv) noexcept {
    try {
        CLI::App app(command.description, command.name);
        app.set_version_flag("--version", fmt::format("{} {}", command.name, command.version),
                             "Print the version and exit");
        app.require_subcommand(1);
        command.add_verbs(app);
        return run_main(app, argc, argv);
    } catch (const std::exception& error) {
        return static_cast<int>(complain(command.name, error.what(), ExitCode::failure));
    }
}

int take_words_behind_mark(int argc, const char* const* argv) {
    const char* const* const end = argv + argc;
    const char* const* const mark =
        std::find_if(argv, end, [](const char* word) { return std::string_view(word) == "--"; });
    if (mark == end) return argc;
    taken_words().emplace(mark + 1, end);
    return static_cast<int>(mark - argv);
}

const std::optional<std::vector<std::string>>& words_behind_mark() noexcept { return taken_words(); }

void write_stdout(std::string_view text) {
    flush_stdout();  // keeps the order with what went through stdio before
    while (!text.empty()) {
        const ssize_t written =
            sys::retry_interrupted([&] { return ::write(STDOUT_FILENO, text.data(), text.size()); });
        if (written < 0) sys::throw_errno("standard output");
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

void warn(const std::string& who, std::string_view text) {
    static_cast<void>(complain(who, std::string(text), ExitCode::success));
}

void require_kernel() { require_from(probe_required()); }

void require_from(const std::vector<Facility>& facilities) {
    std::string missing;
    for (const Facility& facility : facilities) {
        if (!facility.required || facility.state != FacilityState::absent) continue;
        missing += missing.empty() ? "" : "; ";
        missing += facility.name + " (" + facility.detail + ")";
    }
    if (!missing.empty()) throw Failure("this kernel lacks " + missing, ExitCode::missing_facility);
}

std::string one_line(std::string_view text) {
    std::string line;
    for (const char c : text) {
        if (c == '\n') {
            line += "\\n";
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
            line += c;
        }
    }
    return line;
}

// CLI11's AsSizeValue takes "M" for 1 MiB, "010" for 8 and "0x10" for 16, and its durations lose digits on the way
// through a stream: a measurement would run with a workload that nobody meant.

std::uint64_t parse_size(std::string_view text) {
    const auto number = split_unit(text);
    if (!number) reject(text, "is not a size; write 4096, 64K, 256M or 1G");
    const auto shift = size_shift(number->unit);
    if (!shift) reject(text, "is not a size: the unit is none of B, K, M, G, T, P, E");
    std::uint64_t value = 0;
    const std::errc error = convert(number->digits, value);
    if (error == std::errc::invalid_argument) reject(text, "is not a size: not a whole number");
    if (error != std::errc() || value > std::numeric_limits<std::uint64_t>::max() >> *shift) {
        reject(text, "is too large: more than 64 bits can count");
    }
    if (value == 0) reject(text, "is zero; a size is at least one byte");
    return value << *shift;
}

std::chrono::nanoseconds parse_duration(std::string_view text) {
    const auto number = split_unit(text);
    if (!number) reject(text, "is not a time; write 500ms, 30s, 2m or 1h");
    if (number->unit.empty()) reject(text, "has no unit; write 500ms, 30s, 2m or 1h");
    for (const TimeUnit& unit : kTimeUnits) {
        if (unit.name != number->unit) continue;
        double value = 0;
        const std::errc error = convert(number->digits, value);
        if (error == std::errc::invalid_argument) reject(text, "is not a time: not a number");
        const double ns = std::round(value * unit.ns);
        // 2^63 is the smallest double that a count of nanoseconds cannot hold.
        if (error != std::errc() || ns >= 0x1p63) reject(text, "is too long: more than 292 years");
        if (ns == 0) reject(text, "is zero; a time is at least 1ns");
        return std::chrono::nanoseconds(static_cast<std::int64_t>(ns));
    }
    reject(text, "is not a time: the unit is none of ns, us, ms, s, m, h, d");
}

std::uint64_t parse_count(std::string_view text, std::uint64_t minimum) {
    std::uint64_t value = 0;
    const std::errc error = convert(text, value);
    if (error == std::errc::result_out_of_range) reject(text, "is too large: more than 64 bits can count");
    if (error != std::errc()) reject(text, "is not a whole number");
    if (value < minimum) reject(text, fmt::format("is less than {}", minimum));
    return value;
}

}  // namespace vmcow::cli
