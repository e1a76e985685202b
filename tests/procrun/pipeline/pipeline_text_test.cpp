// The text of a pipeline: quotes, escapes, signs and redirections, and where a text is refused.
#include "procrun/pipeline/pipeline_text.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using procrun::parse_pipeline;
using procrun::PipelineSyntaxError;
using procrun::PipelineText;
using procrun::quote_word;
using procrun::quote_words;
using procrun::Redirection;
using procrun::StageText;
using Kind = Redirection::Kind;
using Words = std::vector<std::string>;

/// The words of a pipeline that has one stage.
Words words_of(std::string_view text) {
    const PipelineText pipeline = parse_pipeline(text);
    EXPECT_EQ(pipeline.stages.size(), 1U) << text;
    return pipeline.stages.front().argv;
}

std::vector<Redirection> redirections_of(std::string_view text) { return parse_pipeline(text).stages[0].redirections; }

Redirection file(Kind kind, int descriptor, std::string name) {
    return {.kind = kind, .descriptor = descriptor, .source = -1, .file = std::move(name)};
}

Redirection copy(int descriptor, int source) {
    return {.kind = Kind::duplicate, .descriptor = descriptor, .source = source, .file = {}};
}

/// Expects that `text` is refused at `position` with a reason that contains `reason`.
void expect_refused(std::string_view text, std::size_t position, const std::string& reason) {
    try {
        static_cast<void>(parse_pipeline(text));
        ADD_FAILURE() << "taken: " << text;
    } catch (const PipelineSyntaxError& error) {
        const std::string message = error.what();
        EXPECT_EQ(error.position(), position) << text << "\n" << message;
        EXPECT_TRUE(message.starts_with("pipeline:" + std::to_string(position + 1) + ": ")) << message;
        EXPECT_NE(message.find(reason), std::string::npos) << message;
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
}

TEST(PipelineTextTest, BlanksSeparateWordsAndBarsSeparateStages) {
    const PipelineText pipeline = parse_pipeline("  a\tb  c|d |  e ");
    ASSERT_EQ(pipeline.stages.size(), 3U);
    EXPECT_EQ(pipeline.stages[0].argv, (Words{"a", "b", "c"}));
    EXPECT_EQ(pipeline.stages[1].argv, (Words{"d"}));
    EXPECT_EQ(pipeline.stages[2].argv, (Words{"e"}));
}

TEST(PipelineTextTest, SingleQuotesKeepEverything) {
    EXPECT_EQ(words_of(R"('a  b|c>$x`\"&;(*?[~#{!' x)"), (Words{R"(a  b|c>$x`\"&;(*?[~#{!)", "x"}));
    EXPECT_EQ(words_of("'a\nb'"), (Words{"a\nb"}));
}

TEST(PipelineTextTest, DoubleQuotesKnowFourEscapesAndTheContinuedLine) {
    EXPECT_EQ(words_of(R"("a \" \\ \$ \` \n \' '")"), (Words{R"(a " \ $ ` \n \' ')"}));
    EXPECT_EQ(words_of("\"a\\\nb\nc\""), (Words{"ab\nc"}));
}

TEST(PipelineTextTest, BackslashTakesTheNextCharacterAsItIs) {
    EXPECT_EQ(words_of(R"(\a\ \|\$\'\"\\\;\*\~ \#)"), (Words{R"(a |$'"\;*~)", "#"}));
    EXPECT_EQ(words_of("a\\\nb \\\n c"), (Words{"ab", "c"}));
}

TEST(PipelineTextTest, QuotesJoinWhatTouchesThemAndMakeEmptyWords) {
    EXPECT_EQ(words_of(R"(a'b'"c"\d '' "" ''x)"), (Words{"abcd", "", "", "x"}));
}

TEST(PipelineTextTest, NewlinesMayStandWhereNoCommandEnds) {
    const PipelineText pipeline = parse_pipeline("\n a |\n\n b \n");
    ASSERT_EQ(pipeline.stages.size(), 2U);
    EXPECT_EQ(pipeline.stages[1].argv, (Words{"b"}));
    expect_refused("a\nb", 1, "a newline ends the command");
    expect_refused("a | b\n| c", 5, "a newline ends the command");
}

// A shell joins continued lines before it looks for words and signs.
TEST(PipelineTextTest, AContinuedLineMayBeAnywhere) {
    EXPECT_EQ(redirections_of("a 1\\\n>f"), std::vector{file(Kind::write, 1, "f")});
    EXPECT_EQ(redirections_of("a 2\\\n>\\\n>f"), std::vector{file(Kind::append, 2, "f")});
    EXPECT_EQ(redirections_of("a 2\\\n>\\\n&\\\n1"), std::vector{copy(2, 1)});
    EXPECT_EQ(words_of("a\\\n\\\nb \\\n{\\\n} c\\\n#d"), (Words{"ab", "{}", "c#d"}));
    EXPECT_EQ(words_of("\\\na '\\\n' \\\\\\\n"), (Words{"a", "\\\n", "\\"}));
    expect_refused("a \\\n~", 4, "'~' stands for a home");
    expect_refused("a \\\n#x", 4, "'#' starts a comment");
    expect_refused("A\\\n=b c", 3, "'=' assigns a variable");
    expect_refused("i\\\nf a", 0, "'if' is a keyword");
    expect_refused("a |\\\n| b", 2, "'||' runs the next command");
    expect_refused("a <\\\n< b", 2, "'<<' starts a here-document");
    expect_refused("a 2>&1\\\n2", 8, "what follows '>&' is not known");
    expect_refused("a | b\\\n | $c", 10, "'$' starts an expansion");
}

TEST(PipelineTextTest, ANumberBetweenTwoSignsIsRefused) {
    expect_refused("a > 2>&1", 4, "'2' could belong to the sign before it or to the one after it; write a blank");
    expect_refused("a >2>&1", 3, "'2' could belong");
    expect_refused("a > 22>&1", 4, "'22' could belong");
    expect_refused("a < 0<f", 4, "'0' could belong");
    expect_refused("a >&2>&1", 4, "'2' could belong");
    expect_refused("a 2>&1>f", 5, "'1' could belong");
    EXPECT_EQ(redirections_of("a >2 >&1"), (std::vector{file(Kind::write, 1, "2"), copy(1, 1)}));
    EXPECT_EQ(redirections_of("a 2>&1 >f"), (std::vector{copy(2, 1), file(Kind::write, 1, "f")}));
    EXPECT_EQ(redirections_of("a >f2>'1'>&2"),
              (std::vector{file(Kind::write, 1, "f2"), file(Kind::write, 1, "1"), copy(1, 2)}));
}

TEST(PipelineTextTest, ATildeInWhatLooksLikeAnAssignmentIsRefused) {
    expect_refused("a x=~", 4, "'~' stands for a home directory in some shells");
    expect_refused("a _1=b:~/c", 7, "'~' stands for a home directory in some shells");
    expect_refused("a x+=~", 5, "'~' stands for a home directory in some shells");
    expect_refused("a > x=~", 6, "'~' stands for a home directory in some shells");
    EXPECT_EQ(words_of("a x='~' 'x'=~ x=''~ x:~ --x=~ =~ 1x=~ x=y~"),
              (Words{"a", "x=~", "x=~", "x=~", "x:~", "--x=~", "=~", "1x=~", "x=y~"}));
}

TEST(PipelineTextTest, RedirectionsKeepTheirOrderAndMayStandAnywhere) {
    const StageText stage = parse_pipeline("<in a 2>&1 b>out 2>>'e f' c").stages.front();
    EXPECT_EQ(stage.argv, (Words{"a", "b", "c"}));
    EXPECT_EQ(stage.redirections,
              (std::vector<Redirection>{file(Kind::read, 0, "in"), copy(2, 1), file(Kind::write, 1, "out"),
                                        file(Kind::append, 2, "e f")}));
}

TEST(PipelineTextTest, EveryRedirectionIsKnown) {
    EXPECT_EQ(redirections_of("a < f"), std::vector{file(Kind::read, 0, "f")});
    EXPECT_EQ(redirections_of("a 0<f"), std::vector{file(Kind::read, 0, "f")});
    EXPECT_EQ(redirections_of("a >f"), std::vector{file(Kind::write, 1, "f")});
    EXPECT_EQ(redirections_of("a 1>f"), std::vector{file(Kind::write, 1, "f")});
    EXPECT_EQ(redirections_of("a 2> f"), std::vector{file(Kind::write, 2, "f")});
    EXPECT_EQ(redirections_of("a >> f"), std::vector{file(Kind::append, 1, "f")});
    EXPECT_EQ(redirections_of("a 2>>f"), std::vector{file(Kind::append, 2, "f")});
    EXPECT_EQ(redirections_of("a 2>&1"), std::vector{copy(2, 1)});
    EXPECT_EQ(redirections_of("a 1>&2"), std::vector{copy(1, 2)});
    EXPECT_EQ(redirections_of("a >&2"), std::vector{copy(1, 2)});
}

TEST(PipelineTextTest, ANumberIsADescriptorOnlyRightBeforeTheSign) {
    EXPECT_EQ(words_of("a 2 >f"), (Words{"a", "2"}));
    EXPECT_EQ(words_of("a2>f"), (Words{"a2"}));
    EXPECT_EQ(words_of("a '2'>f"), (Words{"a", "2"}));
    EXPECT_EQ(words_of("a 22"), (Words{"a", "22"}));
}

TEST(PipelineTextTest, ExpansionsAreRefusedInDoubleQuotesToo) {
    expect_refused("echo $HOME", 5, "'$' starts an expansion");
    expect_refused("echo a`b`", 6, "'`' starts a command substitution");
    expect_refused("echo \"a $b\"", 8, "'$' starts an expansion in double quotes too");
    expect_refused("echo \"`b`\"", 6, "'`' starts a command substitution in double quotes too");
}

TEST(PipelineTextTest, ListsGroupsAndTheBackgroundAreRefused) {
    expect_refused("a ; b", 2, "';' separates commands");
    expect_refused("a & b", 2, "'&' runs a command in the background");
    expect_refused("a && b", 2, "'&&' runs the next command");
    expect_refused("a || b", 2, "'||' runs the next command");
    expect_refused("a |& b", 2, "'|&' is not known; write 2>&1 |");
    expect_refused("(a)", 0, "'(' groups commands");
    expect_refused("a)", 1, "')' groups commands");
    expect_refused("{ a", 0, "'{' groups commands");
    expect_refused("a }", 2, "'}' groups commands");
    expect_refused("! a", 0, "'!' inverts");
    expect_refused("a | ! b", 4, "'!' inverts");
    expect_refused("if a", 0, "'if' is a keyword");
    expect_refused("a | while b", 4, "'while' is a keyword");
    expect_refused("time a", 0, "'time' is a keyword");
    expect_refused("a | coproc b", 4, "'coproc' is a keyword");
}

TEST(PipelineTextTest, PatternsHomesAlternativesAndCommentsAreRefused) {
    expect_refused("ls *.c", 3, "'*' is a pattern");
    expect_refused("ls a?", 4, "'?' is a pattern");
    expect_refused("ls [ab]", 3, "'[' is a pattern");
    expect_refused("ls {a,b}", 3, "'{' groups commands or lists alternatives");
    expect_refused("ls ~/x", 3, "'~' stands for a home");
    expect_refused("ls #x", 3, "'#' starts a comment");
    expect_refused("a > *", 4, "'*' is a pattern");
}

TEST(PipelineTextTest, AssignmentsBeforeTheCommandAreRefused) {
    expect_refused("A=b c", 1, "'=' assigns a variable");
    expect_refused("a | _x9=b c", 7, "'=' assigns a variable");
    expect_refused("A+=b c", 1, "'+=' appends");
    EXPECT_EQ(words_of("'A'=b"), (Words{"A=b"}));
    EXPECT_EQ(words_of("9=b ="), (Words{"9=b", "="}));
}

TEST(PipelineTextTest, WhatIsSpecialOnlyElsewhereIsTakenAsItIs) {
    EXPECT_EQ(words_of("a A=b ! if a~ a#b {} -I{} ] ^ % @ : ,"),
              (Words{"a", "A=b", "!", "if", "a~", "a#b", "{}", "-I{}", "]", "^", "%", "@", ":", ","}));
}

TEST(PipelineTextTest, OtherRedirectionsAreRefused) {
    expect_refused("a << b", 2, "'<<' starts a here-document");
    expect_refused("a <<< b", 2, "'<<<' starts a here-string");
    expect_refused("a <(b)", 2, "'<(' starts a process substitution");
    expect_refused("a >(b)", 2, "'>(' starts a process substitution");
    expect_refused("a >| b", 2, "'>|' is not known");
    expect_refused("a <> b", 2, "'<>' is not known");
    expect_refused("a <&1", 2, "'<&' is not known");
    expect_refused("a &> b", 2, "'&>' is not known; write >FILE 2>&1");
    expect_refused("a 3> b", 2, "'3>' is not known");
    expect_refused("a 2< b", 2, "'2<' is not known");
    expect_refused("a 12345678901234567890>&1", 2, "is not known");
    expect_refused("a 2>&3", 5, "what follows '>&' is not known");
    expect_refused("a 2>&-", 5, "what follows '>&' is not known");
    expect_refused("a 2>&12", 6, "what follows '>&' is not known");
}

TEST(PipelineTextTest, WhatIsMissingIsPointedAt) {
    expect_refused("", 0, "the pipeline is empty");
    expect_refused(" \n ", 3, "the pipeline is empty");
    expect_refused("| a", 0, "a command is missing before '|'");
    expect_refused("a | | b", 4, "a command is missing before '|'");
    expect_refused("a |", 2, "a command is missing after '|'");
    expect_refused("a | >b", 4, "a redirection without a command");
    expect_refused("a >", 2, "a file name is missing after '>'");
    expect_refused("a 2>> | b", 2, "a file name is missing after '2>>'");
    expect_refused("a 'b", 2, "this quote is not closed");
    expect_refused("a b\"c", 3, "this quote is not closed");
    expect_refused("a \"b\\\"", 2, "this quote is not closed");
    expect_refused("a b\\", 3, "nothing follows the backslash");
}

TEST(PipelineTextTest, AZeroByteIsRefusedWhereverItStands) {
    using namespace std::string_view_literals;
    expect_refused("a\0b"sv, 1, "a zero byte");
    expect_refused("'\0'"sv, 1, "a zero byte");
    expect_refused("\"\0\""sv, 1, "a zero byte");
    expect_refused("\\\0"sv, 1, "a zero byte");
}

std::string pointed(const std::string& text) {
    try {
        static_cast<void>(parse_pipeline(text));
    } catch (const PipelineSyntaxError& error) {
        return error.pointed(text);
    }
    return "taken";
}

TEST(PipelineTextTest, TheCaretStandsBelowTheCharacter) {
    EXPECT_EQ(pointed("echo $x y"), "  echo $x y\n       ^\n");
    EXPECT_EQ(pointed("a |"), "  a |\n    ^\n");
    EXPECT_EQ(pointed(""), "  \n  ^\n");
}

TEST(PipelineTextTest, TheCaretCountsCharactersAndShowsOneLine) {
    EXPECT_EQ(pointed("echo äö\t$x"), "  echo äö $x\n          ^\n");
    EXPECT_EQ(pointed("a |\nb $x |\nc"), "  b $x |\n    ^\n");
    EXPECT_EQ(pointed("a \x1b[31m"), "  a ?[31m\n     ^\n");
}

TEST(PipelineTextTest, ALongLineIsCutAroundTheCaret) {
    const std::string shown = pointed(std::string(200, 'x') + "$" + std::string(200, 'y'));
    const std::size_t newline = shown.find('\n');
    EXPECT_LE(newline, 80U);
    EXPECT_EQ(shown[shown.find('^') - newline - 1], '$');
}

TEST(PipelineTextTest, QuotingLeavesPlainWordsAlone) {
    EXPECT_EQ(quote_word("a-b_c.d/e,f:g@h%i+9"), "a-b_c.d/e,f:g@h%i+9");
    EXPECT_EQ(quote_word(""), "''");
    EXPECT_EQ(quote_word("it's"), R"('it'\''s')");
    EXPECT_EQ(quote_word("if"), "'if'");
    EXPECT_EQ(quote_word("time"), "'time'");
    EXPECT_EQ(quote_word("a=b"), "'a=b'");
    EXPECT_EQ(quote_words(Words{"grep", "a b", ""}), "grep 'a b' ''");
}

rc::Gen<std::string> any_word() { return rc::gen::container<std::string>(rc::gen::nonZero<char>()); }

/// Text that consists mostly of characters that the parser treats specially.
rc::Gen<std::string> any_text() {
    const auto special = rc::gen::elementOf(std::string(" \t\n|<>&12'\"\\$`;(){}*?[]~#!=abif"));
    return rc::gen::container<std::string>(rc::gen::oneOf(special, special, rc::gen::arbitrary<char>()));
}

RC_GTEST_PROP(PipelineTextTest, QuotedWordsComeBackAsTheyWere, ()) {
    const auto stages = *rc::gen::nonEmpty(
        rc::gen::container<std::vector<Words>>(rc::gen::nonEmpty(rc::gen::container<Words>(any_word()))));
    std::string text;
    for (const Words& words : stages) text += (text.empty() ? "" : "|") + quote_words(words);
    const PipelineText parsed = parse_pipeline(text);
    RC_ASSERT(parsed.stages.size() == stages.size());
    for (std::size_t i = 0; i < stages.size(); ++i) {
        RC_ASSERT(parsed.stages[i].argv == stages[i]);
        RC_ASSERT(parsed.stages[i].redirections.empty());
    }
}

RC_GTEST_PROP(PipelineTextTest, AnyTextIsEitherTakenOrRefusedAtAByteOfIt, ()) {
    const std::string text = *any_text();
    try {
        const PipelineText parsed = parse_pipeline(text);
        RC_ASSERT(!parsed.stages.empty());
        for (const StageText& stage : parsed.stages) RC_ASSERT(!stage.argv.empty());
    } catch (const PipelineSyntaxError& error) {
        RC_ASSERT(error.position() <= text.size());
        RC_ASSERT(std::string(error.what()).find('\n') == std::string::npos);
        const std::string shown = error.pointed(text);
        RC_ASSERT(std::count(shown.begin(), shown.end(), '\n') == 2);
    }
}

}  // namespace
