#include "procrun/pipeline/pipeline_text.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "vmcow/sys/error.hpp"

namespace procrun {

namespace {

constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view kNameCharacters = "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// The reserved words of POSIX and of bash.
constexpr std::array<std::string_view, 16> kKeywords = {"if",       "then",   "else", "elif",  "fi",    "do",
                                                        "done",     "case",   "esac", "while", "until", "for",
                                                        "function", "select", "time", "coproc"};

bool is_one_of(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }
bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_keyword(std::string_view word) {
    return std::find(kKeywords.begin(), kKeywords.end(), word) != kKeywords.end();
}

/// The length of the variable name that `word` begins with; 0: there is none.
std::size_t name_length(std::string_view word) {
    if (word.empty() || is_one_of(word.front(), kDigits)) return 0;
    return std::min(word.find_first_not_of(kNameCharacters), word.size());
}

/// A text whose continued lines are joined. A shell removes a backslash and the newline after it before it looks for
/// words and signs, so the two may stand in the middle of any of these: `1\`, newline, `>f` is `1>f`.
class JoinedLines {
public:
    explicit JoinedLines(std::string_view text) {
        char quote = '\0';
        for (std::size_t i = 0; i < text.size(); ++i) {
            const char c = text[i];
            if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
                if (text[i + 1] != '\n') {
                    add(c, i);
                    add(text[i + 1], i + 1);
                }
                ++i;
                continue;
            }
            if (quote == '\0' && (c == '\'' || c == '"')) {
                quote = c;
            } else if (c == quote) {
                quote = '\0';
            }
            add(c, i);
        }
        places_.push_back(text.size());
    }

    [[nodiscard]] std::string_view text() const noexcept { return text_; }
    /// Where the byte at `at` stands in the text as it was written.
    [[nodiscard]] std::size_t place_of(std::size_t at) const { return places_.at(at); }

private:
    void add(char c, std::size_t place) {
        text_ += c;
        places_.push_back(place);
    }

    std::string text_;
    std::vector<std::size_t> places_;
};

/// What a character means to a shell where it is not quoted; empty for one that stands for itself.
std::string_view meaning_of(char c) {
    switch (c) {
        case '$':
            return "starts an expansion";
        case '`':
            return "starts a command substitution";
        case ';':
            return "separates commands";
        case '(':
        case ')':
            return "groups commands";
        case '{':
        case '}':
            return "groups commands or lists alternatives";
        case '*':
        case '?':
        case '[':
            return "is a pattern of file names";
        default:
            return {};
    }
}

class Parser {
public:
    explicit Parser(std::string_view text) : lines_(text), text_(lines_.text()) {}

    PipelineText parse() {
        PipelineText pipeline;
        std::optional<std::size_t> bar;
        for (;;) {
            pipeline.stages.push_back(parse_stage(bar));
            if (at_end()) return pipeline;
            bar = at_;
            take_bar();
        }
    }

private:
    [[nodiscard]] bool at_end() const { return at_ == text_.size(); }
    [[nodiscard]] bool next_is(std::string_view wanted) const { return text_.substr(at_).starts_with(wanted); }
    [[nodiscard]] char peek() const { return text_[at_]; }

    /// Whether a word ends here: what comes next belongs to something else.
    [[nodiscard]] bool at_word_end() const { return at_end() || is_one_of(peek(), " \t\n|<>"); }

    [[noreturn]] void fail(std::size_t at, const std::string& reason) const {
        throw PipelineSyntaxError(lines_.place_of(at), reason);
    }
    /// Refuses something that a shell would do and that is not done here.
    [[noreturn]] void refuse(std::size_t at, std::string_view what, std::string_view meaning) const {
        fail(at, fmt::format("'{}' {}, and no shell is run; quote it to mean the text itself", what, meaning));
    }

    void skip_blanks() {
        while (!at_end() && is_blank(peek())) ++at_;
    }

    /// A newline ends a command in the shell; here it may stand only where there is no command to end.
    void skip_newline(const StageText& stage) {
        const bool nothing_follows = text_.find_first_not_of(" \t\n", at_) == std::string_view::npos;
        const bool nothing_before = stage.argv.empty() && stage.redirections.empty();
        if (!nothing_follows && !nothing_before) fail(at_, "a newline ends the command, and only one pipeline is run");
        ++at_;
    }

    void take_bar() {
        if (next_is("||")) refuse(at_, "||", "runs the next command if this one fails");
        if (next_is("|&")) fail(at_, "'|&' is not known; write 2>&1 |");
        ++at_;
    }

    StageText parse_stage(std::optional<std::size_t> bar) {
        StageText stage;
        std::size_t start = at_;
        for (skip_blanks(); !at_end() && peek() != '|'; skip_blanks()) {
            if (peek() == '\n') {
                skip_newline(stage);
                continue;
            }
            if (stage.argv.empty() && stage.redirections.empty()) start = at_;
            if (at_redirection()) {
                stage.redirections.push_back(parse_redirection());
            } else {
                if (stage.argv.empty()) check_command_word();
                stage.argv.push_back(parse_word());
            }
        }
        if (stage.argv.empty()) missing_command(stage, start, bar);
        return stage;
    }

    [[noreturn]] void missing_command(const StageText& stage, std::size_t start, std::optional<std::size_t> bar) const {
        if (!stage.redirections.empty()) fail(start, "a redirection without a command");
        if (!at_end()) fail(at_, "a command is missing before '|'");
        if (bar) fail(*bar, "a command is missing after '|'");
        fail(at_, "the pipeline is empty");
    }

    /// Refuses what is special only as the first word.
    void check_command_word() const {
        const std::size_t end = std::min(text_.find_first_of(" \t\n|<>;&()", at_), text_.size());
        const std::string_view word = text_.substr(at_, end - at_);
        if (word == "!") refuse(at_, "!", "inverts the exit status");
        if (is_keyword(word)) refuse(at_, word, "is a keyword");

        const std::size_t name_end = name_length(word);
        if (name_end == 0) return;
        if (word.substr(name_end).starts_with("=")) {
            fail(at_ + name_end, "'=' assigns a variable, and no shell is run; write env NAME=VALUE PROGRAM");
        }
        if (word.substr(name_end).starts_with("+=")) refuse(at_ + name_end, "+=", "appends to a variable");
    }

    std::string parse_word() {
        std::string word;
        const std::size_t start = at_;
        while (!at_word_end()) {
            switch (peek()) {
                case '\'':
                    take_single_quotes(word);
                    break;
                case '"':
                    take_double_quotes(word);
                    break;
                case '\\':
                    take_escape(word);
                    break;
                default:
                    take_plain(word, start);
            }
        }
        return word;
    }

    void refuse_zero_byte() const {
        if (peek() == '\0') fail(at_, "a zero byte cannot be part of a word");
    }

    /// Whether a tilde stands behind what looks like an assignment. bash takes such an argument, or file name, for an
    /// assignment, and dash does not.
    [[nodiscard]] bool tilde_follows_assignment(std::size_t start) const {
        if (at_ == start || !is_one_of(text_[at_ - 1], "=:")) return false;
        const std::string_view behind_name = text_.substr(start + name_length(text_.substr(start)));
        return behind_name.data() > text_.data() + start &&
               (behind_name.starts_with("=") || behind_name.starts_with("+="));
    }

    /// `start`: where the word begins.
    void take_plain(std::string& word, std::size_t start) {
        refuse_zero_byte();
        const char c = peek();
        if (c == '&') refuse_ampersand();
        if (next_is("{}")) {  // stands for itself in every shell, and xargs and find use it
            word += "{}";
            at_ += 2;
            return;
        }
        if (const std::string_view meaning = meaning_of(c); !meaning.empty()) refuse(at_, {&c, 1}, meaning);
        if (c == '~' && at_ == start) refuse(at_, "~", "stands for a home directory");
        if (c == '~' && tilde_follows_assignment(start)) refuse(at_, "~", "stands for a home directory in some shells");
        if (c == '#' && at_ == start) refuse(at_, "#", "starts a comment");
        word += c;
        ++at_;
    }

    [[noreturn]] void refuse_ampersand() const {
        if (next_is("&&")) refuse(at_, "&&", "runs the next command if this one succeeds");
        if (next_is("&>")) fail(at_, "'&>' is not known; write >FILE 2>&1");
        refuse(at_, "&", "runs a command in the background");
    }

    void take_single_quotes(std::string& word) {
        const std::size_t quote = at_++;
        for (; !at_end() && peek() != '\''; ++at_) {
            refuse_zero_byte();
            word += peek();
        }
        if (at_end()) fail(quote, "this quote is not closed");
        ++at_;
    }

    void take_double_quotes(std::string& word) {
        const std::size_t quote = at_++;
        while (!at_end() && peek() != '"') {
            refuse_zero_byte();
            const char c = peek();
            if (c == '$' || c == '`') {
                fail(at_, fmt::format("'{}' {} in double quotes too, and no shell is run; put a backslash before it or "
                                      "use single quotes",
                                      c, meaning_of(c)));
            }
            const bool escapes = c == '\\' && at_ + 1 < text_.size() && is_one_of(text_[at_ + 1], "\"\\$`");
            if (escapes) {
                take_escape(word);
            } else {
                word += c;
                ++at_;
            }
        }
        if (at_end()) fail(quote, "this quote is not closed");
        ++at_;
    }

    void take_escape(std::string& word) {
        const std::size_t backslash = at_++;
        if (at_end()) fail(backslash, "nothing follows the backslash");
        refuse_zero_byte();
        word += peek();
        ++at_;
    }

    /// Whether `<`, `>`, or a number right before one of these comes next.
    [[nodiscard]] bool at_redirection() const {
        const std::size_t sign = text_.find_first_not_of(kDigits, at_);
        return sign != std::string_view::npos && is_one_of(text_[sign], "<>");
    }

    /// Refuses a number between two signs, as in `> 2>&1` and in `2>&1>f`: for POSIX it belongs to the second sign, for
    /// some shells to the first.
    void refuse_number_between_signs() const {
        if (!at_redirection() || !is_one_of(peek(), kDigits)) return;
        const std::size_t sign = text_.find_first_of("<>", at_);
        fail(at_,
             fmt::format("'{0}' could belong to the sign before it or to the one after it; write a blank behind it",
                         text_.substr(at_, sign - at_)));
    }

    Redirection parse_redirection() {
        const std::size_t start = at_;
        at_ = text_.find_first_of("<>", at_);
        const std::string_view number = text_.substr(start, at_ - start);
        Redirection redirection = peek() == '<' ? take_input_sign() : take_output_sign();
        const std::string_view written = text_.substr(start, at_ - start);
        if (!number.empty()) {
            const bool input = redirection.kind == Redirection::Kind::read;
            const bool known = input ? number == "0" : number == "1" || number == "2";
            if (!known) fail(start, fmt::format("'{}' is not known; there are <, >, 2> and 2>&1", written));
            redirection.descriptor = number.front() - '0';
        }
        if (redirection.kind == Redirection::Kind::duplicate) {
            take_source(redirection, start);
        } else {
            redirection.file = take_file(start, written);
        }
        return redirection;
    }

    Redirection take_input_sign() {
        if (next_is("<<<")) refuse(at_, "<<<", "starts a here-string");
        if (next_is("<<")) refuse(at_, "<<", "starts a here-document");
        if (next_is("<(")) refuse(at_, "<(", "starts a process substitution");
        if (next_is("<&")) fail(at_, "'<&' is not known; there are <, >, 2> and 2>&1");
        if (next_is("<>")) fail(at_, "'<>' is not known; there are <, >, 2> and 2>&1");
        ++at_;
        return {.kind = Redirection::Kind::read, .descriptor = 0, .source = -1, .file = {}};
    }

    Redirection take_output_sign() {
        if (next_is(">(")) refuse(at_, ">(", "starts a process substitution");
        if (next_is(">|")) fail(at_, "'>|' is not known; write >, which replaces what is in the file");
        auto kind = Redirection::Kind::write;
        if (next_is(">>")) kind = Redirection::Kind::append;
        if (next_is(">&")) kind = Redirection::Kind::duplicate;
        at_ += kind == Redirection::Kind::write ? 1 : 2;
        return {.kind = kind, .descriptor = 1, .source = -1, .file = {}};
    }

    void take_source(Redirection& redirection, std::size_t start) {
        skip_blanks();
        refuse_number_between_signs();
        const bool known = !at_end() && (peek() == '1' || peek() == '2');
        if (known) {
            redirection.source = peek() - '0';
            ++at_;
        }
        if (!known || !at_word_end())
            fail(at_end() ? start : at_, "what follows '>&' is not known; there are 2>&1 and 1>&2");
    }

    std::string take_file(std::size_t start, std::string_view written) {
        skip_blanks();
        refuse_number_between_signs();
        if (at_word_end()) fail(start, fmt::format("a file name is missing after '{}'", written));
        return parse_word();
    }

    JoinedLines lines_;
    std::string_view text_;
    std::size_t at_ = 0;
};

/// The characters of a line, as they are shown: each takes one column.
std::vector<std::string> shown_characters(std::string_view line) {
    std::vector<std::string> characters;
    for (const char c : line) {
        const auto byte = static_cast<unsigned char>(c);
        const bool continues = (byte & 0xC0U) == 0x80U;  // of a character in UTF-8
        if (continues && !characters.empty()) {
            characters.back() += c;
        } else if (c == '\t') {
            characters.emplace_back(" ");
        } else {
            characters.emplace_back(byte < 0x20 || byte == 0x7F ? std::string("?") : std::string(1, c));
        }
    }
    return characters;
}

}  // namespace

PipelineSyntaxError::PipelineSyntaxError(std::size_t position, const std::string& reason)
    : std::invalid_argument(fmt::format("pipeline:{}: {}", position + 1, reason)), position_(position) {}

std::string PipelineSyntaxError::pointed(std::string_view text) const {
    VMCOW_ASSERT(position_ <= text.size() && "the text is the one that was parsed");
    constexpr std::size_t kColumns = 76;
    constexpr std::size_t kColumnsBefore = 56;
    const std::string_view before = text.substr(0, position_);
    const std::size_t newline = before.rfind('\n');
    const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    const std::size_t end = std::min(text.find('\n', position_), text.size());

    const std::size_t caret = shown_characters(text.substr(begin, position_ - begin)).size();
    const std::vector<std::string> line = shown_characters(text.substr(begin, end - begin));
    const std::size_t first = caret > kColumnsBefore ? caret - kColumnsBefore : 0;
    std::string shown;
    for (std::size_t i = first; i < std::min(line.size(), first + kColumns); ++i) shown += line[i];
    return fmt::format("  {}\n  {:>{}}\n", shown, "^", caret - first + 1);
}

PipelineText parse_pipeline(std::string_view text) { return Parser(text).parse(); }

std::string quote_word(std::string_view word) {
    VMCOW_ASSERT(word.find('\0') == std::string_view::npos && "no argument has a zero byte");
    const bool plain = std::all_of(word.begin(), word.end(), [](char c) {
        return is_one_of(c, kLetters) || is_one_of(c, kDigits) || is_one_of(c, "_@%+:,./-");
    });
    if (plain && !word.empty() && !is_keyword(word)) return std::string(word);
    std::string quoted = "'";
    for (const char c : word) {
        if (c == '\'') {
            quoted += "'\\''";
        } else {
            quoted += c;
        }
    }
    return quoted + "'";
}

std::string quote_words(std::span<const std::string> words) {
    std::string line;
    for (const std::string& word : words) {
        if (!line.empty()) line += ' ';
        line += quote_word(word);
    }
    return line;
}

}  // namespace procrun
