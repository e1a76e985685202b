#include "tests/cli/pipeline_texts.hpp"

#include <vector>

namespace tests {
namespace {

constexpr std::string_view kPlainWords[] = {
    "a",        "1",       "2",     "12",    "0",        "b1",         "x=y",      "=",        "a=b:c",  "a:b",
    "-n",       "--o=v",   "{}",    "-I{}",  "]",        "^",          "%",        "@",        ",",      ":",
    "+",        "!",       "if",    "time",  "\xc3\xa9", "\x01",       "\x7f",     "\x81",     "\r",     "\v",
    "a~",       "a#b",     "h:~",   "''",    "\"\"",     "'a  b'",     "\"a b\"",  "\"\\$x\"", "'$x'",   "\"\\\"\"",
    "\"\\\\\"", "\"\\n\"", "\"'\"", "'\"'",  "\\ ",      "\\$",        "\\'",      "\\\"",     "\\\\",   "\\~",
    "\\#",      "\\*",     "'~'",   "\"#\"", "'*'",      "\"a\\\nb\"", "'a\\\nb'", "\"a\nb\"", "'a\nb'", "\"a\\`\"'b'",
    "'>'",      "\"|\"",   "\\>",   "\\|",   "\\2",      "'2'",        "2''",      "x\\\ny"};

constexpr std::string_view kWildWords[] = {
    "~", "~/x",   "a=~", "a=~/y", "a=b:~", "a+=~", "x=y=~", "--p=~", "=~", "a=''~", "#",    "#a",    "*",
    "?", "[a]",   "$",   "$x",    "`",     "(",    ")",     ";",     "&",  "&&",    "||",   "|&",    "{",
    "}", "{a,b}", "!x",  "[[",    "A=b",   "A=",   "a\\",   "'",     "\"", "\n",    "a{}b", "{},{}", "$'a'"};

constexpr std::string_view kCommands[] = {"show", "show", "show", "'show'", "sh''ow", "\"show\"", "s\\how", "sh\\\now"};
constexpr std::string_view kWildCommands[] = {"time show", "! show", "A=b show", "coproc show", "A\\\n=b show",
                                              "{ show",    "i\\\nf", "time",     "\\show"};

constexpr std::string_view kReading[] = {"<", "0<", "< ", "0<\t", "<\\\n"};
constexpr std::string_view kReadFiles[] = {"in", "'in'", "i\"n\"", "i\\n", "i\\\nn"};
constexpr std::string_view kWriting[] = {">", ">>", "1>", "2>", "1>>", "2>>", "> ", ">>\t", "2> ", "1\\\n>", "2>\\\n>"};
constexpr std::string_view kCopies[] = {"2>&1", "1>&2", ">&2",    ">&1",      "1>&1",
                                        "2>&2", ">& 2", "2>&\t1", "2\\\n>&1", "2>&\\\n1"};
constexpr std::string_view kWildSigns[] = {"> 2>&1", "12>", "3>",  ">|",  "<>", "<&1", "&>",   ">&",
                                           "2>&-",   "<<<", "<<",  "0>",  "<(", ">(",  "&>>",  "2>&3",
                                           "> 1<",   ">",   "2>&", ">&f", "1<", "<&-", "2>&12"};

constexpr std::string_view kBlanks[] = {" ", " ", " ", "  ", "\t", " \t", " \\\n", "\\\n ", " \\\n\\\n\t"};
constexpr std::string_view kBars[] = {"|", " | ", "|\t", " |\n", "|\n\n ", " \\\n|", "|\\\n ", " |\n\\\n "};
constexpr std::string_view kBegins[] = {"", "", "", " ", "\n", "\\\n", "\t\n "};
constexpr std::string_view kEnds[] = {"", "", "", " ", "\n", "\\\n", " \n\n", "\t"};

/// The places where a line may be continued without changing the words; elsewhere the name of the program would change.
std::vector<std::size_t> places_for_continued_line(std::string_view text) {
    std::vector<std::size_t> places;
    char quote = '\0';
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (quote != '\'') places.push_back(i);
        if (c == '\\' && quote != '\'') {
            ++i;
        } else if (quote == '\0' && (c == '\'' || c == '"')) {
            quote = c;
        } else if (c == quote) {
            quote = '\0';
        }
    }
    places.push_back(text.size());
    return places;
}

}  // namespace

std::string PipelineTexts::blanks() { return one_of(kBlanks); }

std::string PipelineTexts::word() {
    std::string word;
    for (std::size_t pieces = 1 + below(2) * below(2) * (1 + below(2)); pieces > 0; --pieces) {
        word += wild_ && one_in(4) ? one_of(kWildWords) : one_of(kPlainWords);
    }
    return word;
}

std::string PipelineTexts::file_name() {
    const std::string number = std::to_string(number_ + 1);
    const std::string_view ends[] = {"", "", "a", "'b c'", "\"\"", "\\~", "=x", "~", "#", "x\\\ny", "1", "é"};
    const std::string end = one_of(ends);
    // A number alone is a name, too.
    if (one_in(3)) return number + end;
    const std::string_view begins[] = {"f", "'g'", "a=", "\"h i\"", "-", "\\k"};
    return one_of(begins) + number + (wild_ && one_in(4) ? "=~" : end);
}

std::string PipelineTexts::redirection() {
    if (wild_ && one_in(4)) return one_of(kWildSigns) + (one_in(2) ? file_name() : blanks() + file_name());
    switch (below(5)) {
        case 0:
            return one_of(kReading) + one_of(kReadFiles);
        case 1:
        case 2:
            return one_of(kCopies);
        default:
            return one_of(kWriting) + file_name();
    }
}

std::string PipelineTexts::stage(bool is_last) {
    std::string text;
    for (; one_in(8); text += blanks()) text += redirection();
    text += wild_ && one_in(8) ? one_of(kWildCommands) : one_of(kCommands);
    // Now and then nothing separates two items. A number would change the name `show`, or that of the file `in`.
    const std::size_t touching = wild_ ? 3 : 8;
    bool takes_number = false;
    for (std::size_t items = below(5); items > 0; --items) {
        if (one_in(3)) {
            const std::string next = redirection();
            const bool has_number = next.front() >= '0' && next.front() <= '9';
            text += (one_in(touching) && (takes_number || !has_number) ? "" : blanks()) + next;
            takes_number = next.find('<') == std::string::npos;
        } else {
            text += blanks() + word();
            takes_number = true;
        }
    }
    if (is_last && one_in(6)) text += blanks() + "exit7";
    return text;
}

std::string PipelineTexts::next(Kind kind) {
    wild_ = kind == Kind::wild;
    const std::size_t stages = 1 + below(3);
    std::string text = one_of(kBegins);
    for (number_ = 0; number_ < stages; ++number_) {
        if (number_ > 0) text += one_of(kBars);
        text += stage(number_ + 1 == stages);
    }
    text += one_of(kEnds);
    // A continued line may be anywhere, also within a sign.
    while (one_in(3)) {
        const std::vector<std::size_t> places = places_for_continued_line(text);
        text.insert(places[below(places.size())], "\\\n");
    }
    return text;
}

}  // namespace tests
