#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/facilities/facility.hpp"

namespace vmcow::cli {

/// The exit status of a command, unless a program that it runs decides the status.
enum class ExitCode : int {
    success = 0,
    failure = 1,
    usage = 2,
    missing_facility = 77,  ///< the kernel lacks what is needed; test harnesses read 77 as "skipped"
};

/// Ends a command: the message is printed as one line on standard error.
class Failure : public std::runtime_error {
public:
    explicit Failure(const std::string& message, ExitCode code = ExitCode::failure)
        : std::runtime_error(message), code_(code) {}

    [[nodiscard]] ExitCode code() const noexcept { return code_; }

private:
    ExitCode code_;
};

/// Parses the command line, runs the callback of its verb, and returns the exit status for main().
///
/// A wrong command line prints one line on standard error and gives ExitCode::usage. An exception of a verb prints one
/// line too: a Failure gives its own code, any other exception ExitCode::failure. A verb that ends well with a status
/// of its own throws `CLI::RuntimeError(status)`, which prints nothing. Output that could not be written is a failure,
/// even if the error shows only at the end. Closed standard descriptors are occupied first, so that no file that we
/// open gets one of their numbers. SIGXFSZ is ignored, so that a file that grows past RLIMIT_FSIZE is an error (EFBIG).
[[nodiscard]] int run_main(CLI::App& app, int argc, const char* const* argv) noexcept;

/// What `command_main` makes a parser from.
struct Command {
    const char* name;
    const char* description;
    const char* version;
    void (*add_verbs)(CLI::App& app);
};

/// The whole of a main(): makes the parser, which requires one verb, and runs it as `run_main` does.
[[nodiscard]] int command_main(const Command& command, int argc, const char* const* argv) noexcept;

/// Takes the words behind the first "--" out of a command line, each as it is: CLI11 would make a list of "[a,b]".
/// Returns how many words are left for the parser. Pre: once, before it parses.
[[nodiscard]] int take_words_behind_mark(int argc, const char* const* argv);

/// What was taken; nothing where there was no "--".
[[nodiscard]] const std::optional<std::vector<std::string>>& words_behind_mark() noexcept;

/// Writes to standard output at once, without the buffer of stdio.
/// Throws: std::system_error -- write(2)'s errno, as "standard output: No space left on device".
void write_stdout(std::string_view text);

/// Prints "WHO: TEXT" on standard error, as in "vmcow watch: TEXT". A failed write does not end the command.
void warn(const std::string& who, std::string_view text);

/// Asks the kernel for the facilities that every verb needs. A facility whose state is unknown counts as present.
/// Throws: Failure -- ExitCode::missing_facility, with one line that names the missing facilities.
void require_kernel();

/// As `require_kernel`, from the results of an earlier probe.
void require_from(const std::vector<Facility>& facilities);

/// `text` on one line, with control characters as \n or \x1b: names of files and flags come from outside and may hold
/// them.
[[nodiscard]] std::string one_line(std::string_view text);

/// Parses a size such as "256M", "1G", "4096" or "64KiB": a whole number above 0, with units that are powers of 1024.
/// Throws: std::invalid_argument that says what is wrong with `text`.
[[nodiscard]] std::uint64_t parse_size(std::string_view text);

/// Parses a time such as "500ms", "30s", "2m" or "1.5h": above 0, and with a unit (ns, us, ms, s, m, h, d).
/// Throws: std::invalid_argument that says what is wrong with `text`.
[[nodiscard]] std::chrono::nanoseconds parse_duration(std::string_view text);

/// Parses a whole decimal number of at least `minimum`.
/// Throws: std::invalid_argument that says what is wrong with `text`.
[[nodiscard]] std::uint64_t parse_count(std::string_view text, std::uint64_t minimum = 0);

/// Adds an option whose text `parse` turns into the target's value. A std::invalid_argument of `parse` becomes a usage
/// error that begins with the flag's name. `kind` stands for the value in --help.
template <class Target, class Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, Target& target, const std::string& kind, Parse parse,
                        const std::string& help) {
    CLI::Option* option = app.add_option_function<std::string>(
        name,
        [name, &target, parse](const std::string& text) {
            try {
                target = parse(text);
            } catch (const std::invalid_argument& error) {
                throw CLI::ValidationError(name, error.what());
            }
        },
        help);
    return option->type_name(kind);
}

/// Adds an option for a size in bytes; Target takes a std::uint64_t. ->default_str("256M") shows a default in --help.
template <class Target>
CLI::Option* add_size(CLI::App& app, const std::string& name, Target& target, const std::string& help) {
    return add_parsed(app, name, target, "SIZE", parse_size, help);
}

/// Adds an option for a time span; Target takes a std::chrono::nanoseconds, and may be a std::optional of it.
template <class Target>
CLI::Option* add_duration(CLI::App& app, const std::string& name, Target& target, const std::string& help) {
    return add_parsed(app, name, target, "TIME", parse_duration, help);
}

/// Adds an option for a whole number of at least `minimum`; Target takes a std::uint64_t.
template <class Target>
CLI::Option* add_count(CLI::App& app, const std::string& name, Target& target, const std::string& help,
                       std::uint64_t minimum = 0) {
    return add_parsed(
        app, name, target, "N", [minimum](const std::string& text) { return parse_count(text, minimum); }, help);
}

/// Adds an option that takes one of the names in `choices`.
template <class Target>
CLI::Option* add_choice(CLI::App& app, const std::string& name, Target& target,
                        const std::map<std::string, Target>& choices, const std::string& help) {
    std::string names;
    for (const auto& choice : choices) names += (names.empty() ? "" : "|") + choice.first;
    const auto choose = [choices, names](const std::string& text) {
        const auto found = choices.find(text);
        if (found == choices.end()) throw std::invalid_argument("'" + text + "' is none of " + names);
        return found->second;
    };
    return add_parsed(app, name, target, names, choose, help);
}

}  // namespace vmcow::cli
