#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "procrun/limits.hpp"

namespace procrun {

/// One redirection of a stage.
struct Redirection {
    enum class Kind {
        read,       ///< `<`
        write,      ///< `>`, `2>`
        append,     ///< `>>`, `2>>`
        duplicate,  ///< `2>&1`, `1>&2`
    };

    Kind kind = Kind::read;
    int descriptor = 0;  ///< the program's number: 0, 1 or 2
    int source = -1;     ///< for `duplicate`: the number whose file `descriptor` gets
    std::string file;    ///< for the other kinds

    bool operator==(const Redirection&) const = default;
};

/// What a stage reads, where that is not the stage before it.
struct StageSources {
    std::vector<std::size_t> stages;  ///< numbers of earlier stages, each once; none: the caller's standard input
    bool by_line = false;             ///< whole lines as they come; else all of the first, then of the next

    bool operator==(const StageSources&) const = default;
};

/// One program of a pipeline, as it was written. `argv` has at least one word.
///
/// Shape: redirections apply from left to right, after the pipes are connected, as POSIX has it: `2>&1 | x` sends
///        standard error into the pipe, `2>&1 >f` sends it where standard output went before.
struct StageText {
    std::vector<std::string> argv;
    std::vector<Redirection> redirections;
    std::string name{};  ///< the name in reports; empty: the name of the program
    /// Environment variables that are set in addition to ours; nullopt: the variable is removed.
    std::map<std::string, std::optional<std::string>> variables{};
    /// The program's working directory. Redirections are opened in ours.
    std::optional<std::string> directory{};
    StageLimits limits{};
    std::optional<StageSources> from{};  ///< nullopt: the stage before it
    /// Whether it has a connection for values (vmcow/program_values.hpp); nullopt: only if the pipeline has values.
    std::optional<bool> values{};
};

/// A pipeline as it was written; at least one stage.
struct PipelineText {
    std::vector<StageText> stages;
};

/// Why a text is no pipeline, in one line that counts columns from 1: "pipeline:12: '$' starts an expansion, …".
class PipelineSyntaxError : public std::invalid_argument {
public:
    PipelineSyntaxError(std::size_t position, const std::string& reason);

    /// The byte that is wrong, from 0; the length of the text where something is missing at its end.
    [[nodiscard]] std::size_t position() const noexcept { return position_; }
    /// The line of `text` that is wrong, and below it a caret at the place: two lines, shortened to fit 80 columns.
    /// Pre: `text` is the text that was parsed.
    [[nodiscard]] std::string pointed(std::string_view text) const;

private:
    std::size_t position_;
};

/// Reads `a 'b c' | d > out 2>&1`: words separated by blanks, with '…', "…" and backslash as the shell has them; `|`;
/// and `<`, `>`, `>>`, `2>`, `2>>` FILE, `2>&1`, `1>&2`. A newline may stand where no command ends: at the start, at
/// the end, after `|`, in quotes, and anywhere after a backslash, which removes the newline before words and signs are
/// looked for. Everything else that means something to a shell (expansions, patterns, lists, groups, comments,
/// assignments, …), and everything that bash and dash read differently, is refused unless it is quoted. So no text
/// means one thing here and another in a shell. What only an interactive shell does (history, aliases) does not count.
///
/// Throws: PipelineSyntaxError.
/// Source: POSIX.1-2017, Shell Command Language, 2.2 Quoting, 2.7 Redirection, 2.9.2 Pipelines.
[[nodiscard]] PipelineText parse_pipeline(std::string_view text);

/// `word` as it can be written in a pipeline: parsing gives it back, also as the first word. Quoted only where needed.
/// Pre: no zero byte.
[[nodiscard]] std::string quote_word(std::string_view word);

/// The words of a program, quoted, with spaces between them.
[[nodiscard]] std::string quote_words(std::span<const std::string> words);

}  // namespace procrun
