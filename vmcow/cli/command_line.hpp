#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/facilities.hpp"

namespace vmcow::cli {

/// What the commands exit with when no program of the user's decides it.
enum class ExitCode : int {
    success = 0,
    failure = 1,
    usage = 2,
    missing_facility = 77,  ///< the kernel lacks what is needed; test harnesses read 77 as "skipped"
};

/// Ends a command: its message becomes the one line on standard error.
class Failure : public std::runtime_error {
public:
    explicit Failure(const std::string& message, ExitCode code = ExitCode::failure)
        : std::runtime_error(message), code_(code) {}

    [[nodiscard]] ExitCode code() const noexcept { return code_; }

private:
    ExitCode code_;
};

/// Parses the command line, which runs the callback of the verb it names, and returns the exit status for main().
///
/// A wrong command line is one line on standard error and ExitCode::usage. What a verb throws is one line too: Failure
/// with its code, anything else ExitCode::failure. A verb that ends well with a status of its own throws
/// `CLI::RuntimeError(status)`, which prints nothing. Output that could not be written is a failure, also when that
/// shows only at the end. Standard descriptors that are closed are occupied first, so that no file of ours becomes one
/// of them, and a file that grows past RLIMIT_FSIZE is an error (EFBIG) instead of a signal.
[[nodiscard]] int run_main(CLI::App& app, int argc, const char* const* argv) noexcept;

/// A command before its verbs are added.
struct Command {
    const char* name;
    const char* description;
    const char* version;
    void (*add_verbs)(CLI::App& app);
};

/// All of a main(): makes the parser, which must be given one verb, and runs it as `run_main` does.
[[nodiscard]] int command_main(const Command& command, int argc, const char* const* argv) noexcept;

/// Writes to standard output at once, past the buffer of stdio.
/// Throws: std::system_error -- write(2)'s errno, as "standard output: No space left on device".
void write_stdout(std::string_view text);

/// Throws Failure with ExitCode::missing_facility and one line that names them when this kernel lacks facilities
/// without which nothing works. Facilities that could not be asked for count as there.
void require_kernel();

/// The same from what has been asked already.
void require_from(const std::vector<Facility>& facilities);

/// `text` on one line, with control characters as \n or \x1b: names of files and flags come from outside.
[[nodiscard]] std::string one_line(std::string_view text);

/// "256M", "1G", "4096", "64KiB": powers of 1024, more than 0, a whole number.
/// Throws: std::invalid_argument that says what is wrong with `text`.
[[nodiscard]] std::uint64_t parse_size(std::string_view text);

/// "500ms", "30s", "2m", "1.5h": more than 0, and with its unit (ns, us, ms, s, m, h, d).
/// Throws: std::invalid_argument that says what is wrong with `text`.
[[nodiscard]] std::chrono::nanoseconds parse_duration(std::string_view text);

/// A whole decimal number, at least `minimum`.
/// Throws: std::invalid_argument that says what is wrong with `text`.
[[nodiscard]] std::uint64_t parse_count(std::string_view text, std::uint64_t minimum = 0);

/// Adds an option whose text `parse` turns into the target's value; what `parse` throws as std::invalid_argument
/// becomes a usage error that begins with the flag's name. `kind` is what --help shows in place of the value.
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

/// Adds an option for a size in bytes; Target takes a std::uint64_t. A default is shown by ->default_str("256M").
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
