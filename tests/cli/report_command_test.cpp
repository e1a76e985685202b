// `vmcow report`: the page, the chart in the terminal, and wrong input.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/cli/report_documents.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using tests::ChildEnd;
using tests::CommandResult;
using tests::Json;
using tests::TemporaryDirectory;
using vmcow::sys::read_text_file;

CommandResult report(std::vector<std::string> words, const tests::CommandInput& input = {}) {
    words.insert(words.begin(), {VMCOW_COMMAND, "report"});
    return tests::run_command(words, input);
}

std::string write_file(const TemporaryDirectory& folder, const std::string& name, const std::string& text) {
    const std::string path = folder / name;
    const vmcow::sys::UniqueFd file = vmcow::sys::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    vmcow::sys::write_all(file.get(), std::as_bytes(std::span(text)), path);
    return path;
}

std::string page_of(const std::vector<std::string>& texts) {
    const TemporaryDirectory folder;
    std::vector<std::string> words;
    for (const std::string& text : texts) {
        words.push_back(write_file(folder, std::string(1, static_cast<char>('a' + words.size())) + ".json", text));
    }
    words.insert(words.end(), {"--html", folder / "page"});
    const CommandResult result = report(words);
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(result.out, "");
    return read_text_file(folder / "page");
}

std::string page_of(const Json& document) { return page_of(std::vector{document.dump()}); }

/// The data that the page's script draws.
Json data_of(const std::string& page) {
    const std::string begin = "<script type=\"application/json\" id=\"data\">";
    const std::size_t at = page.find(begin) + begin.size();
    return Json::parse(page.substr(at, page.find("</script>", at) - at));
}

Json chart_of(const Json& data, const std::string& title) {
    for (const Json& chart : data.at("charts")) {
        if (chart.at("title") == title) return chart;
    }
    ADD_FAILURE() << "no chart '" << title << "' in " << data.at("charts");
    return {};
}

std::string lines_of(const Json& samples) {
    std::string lines;
    for (const Json& sample : samples) lines += sample.dump() + "\n";
    return lines;
}

std::size_t count_of(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
    return count;
}

// ---- measure

TEST(ReportPageTest, AmplificationStandsBesideTheModelAndItsBand) {
    const Json chart = chart_of(data_of(page_of(tests::measure_document())), "Amplification against block size");
    EXPECT_EQ(chart.at("x").at("log"), true);
    EXPECT_EQ(chart.at("y").at("log"), true);
    EXPECT_EQ(chart.at("marked"), 64.0);
    const Json& measured = chart.at("series").at(0);
    const Json& model = chart.at("series").at(1);
    ASSERT_EQ(measured.at("points").size(), 20U);
    EXPECT_EQ(measured.at("points").at(0), Json::array({4.0, 1.0}));
    EXPECT_EQ(model.at("style"), "model");
    EXPECT_EQ(model.at("points").at(19).at(0), double{2 << 20});
    EXPECT_NEAR(model.at("points").at(0).at(1).get<double>(), 1.1, 1e-9);
    EXPECT_NEAR(model.at("band").at(0).at(1).get<double>(), 0.85, 1e-9);
    EXPECT_NEAR(model.at("band").at(0).at(2).get<double>(), 1.35, 1e-9);
}

TEST(ReportPageTest, SweepIsDrawnInTheOrderOfItsWrites) {
    const Json data = data_of(page_of(tests::measure_document()));
    const Json chart = chart_of(data, "Copied bytes against the number of writes");
    EXPECT_EQ(chart.at("series").at(0).at("points"),
              Json::array({Json::array({1000.0, 900.0 * 4096}), Json::array({100000.0, 9000.0 * 4096})}));
    EXPECT_EQ(chart_of(data, "What each child copied").at("labels"), (Json{"child 1", "child 2"}));
    EXPECT_EQ(chart_of(data, "What each level copied").at("labels").size(), 3U);
}

TEST(ReportPageTest, DocumentOfMeasureTodayBecomesAPage) {
    const CommandResult measured =
        tests::run_command({VMCOW_COMMAND, "measure", "--size", "1M", "--writes", "50", "--json"});
    ASSERT_EQ(measured.end, tests::kChildExitedWell) << measured.err;
    const std::string page = page_of(std::vector{measured.out});
    EXPECT_NE(page.find("50 writes of 8 B, uniform"), std::string::npos);
    EXPECT_EQ(chart_of(data_of(page), "What was written, and what it cost").at("series").at(0).at("points").at(0),
              Json::array({0.0, 400.0}));
}

// ---- watch

TEST(ReportPageTest, EachProcessHasALineOverTime) {
    const Json data = data_of(page_of(tests::watch_document()));
    const Json copied = chart_of(data, "Copied since the fork").at("series");
    ASSERT_EQ(copied.size(), 2U);
    EXPECT_EQ(copied.at(0).at("name"), "server 101");  // the process that copied most comes first
    EXPECT_EQ(copied.at(0).at("points").at(4), Json::array({4.0, 5.0 * 2 * 2 * 4096}));
    EXPECT_EQ(chart_of(data, "Changed bytes").at("series").size(), 1U);  // of the other one they are unknown
}

TEST(ReportPageTest, LimitIsDrawnWhereTheCopiesComeNearIt) {
    Json document = tests::watch_document();
    EXPECT_EQ(chart_of(data_of(page_of(document)), "Copied since the fork").at("series").size(), 2U);
    document["forecast"]["limit_bytes"] = 1 << 17;
    EXPECT_EQ(chart_of(data_of(page_of(document)), "Copied since the fork").at("series").at(2).at("style"), "limit");
}

TEST(ReportPageTest, HeatMapHasTheShareOfEachPieceThatIsCopied) {
    const Json heat = data_of(page_of(tests::watch_document())).at("heat");
    ASSERT_EQ(heat.size(), 1U);
    EXPECT_EQ(heat.at(0).at("times"), (Json{0.0, 1.0}));
    ASSERT_EQ(heat.at(0).at("rows").size(), 2U);
    EXPECT_EQ(heat.at(0).at("rows").at(0).at("label"), "7f0000000000 [heap]");
    EXPECT_EQ(heat.at(0).at("rows").at(0).at("shares"), (Json{0.0, 1.0}));
    EXPECT_EQ(heat.at(0).at("rows").at(1).at("shares"), (Json{0.25, nullptr}));
}

TEST(ReportPageTest, LinesOfSamplesMakeTheSameChartsAsTheDocument) {
    Json document = tests::watch_document();
    for (const char* member : {"heat", "functions", "forecast"}) document.erase(member);
    const Json of_document = data_of(page_of(document));
    EXPECT_EQ(data_of(page_of(std::vector{lines_of(document.at("samples"))})), of_document);
    EXPECT_EQ(of_document.at("heat").size(), 2U);  // made from the mappings, one for each process
}

TEST(ReportPageTest, LastLineThatIsCutOffIsReportedAndTheRestIsUsed) {
    const std::string lines = lines_of(tests::watch_samples({}));
    const std::string page = page_of(std::vector{lines.substr(0, lines.size() - 20)});
    EXPECT_NE(page.find("line 10, the last one, is cut off: it is left out"), std::string::npos);
    EXPECT_EQ(chart_of(data_of(page), "Copied since the fork").at("series").at(0).at("points").size(), 4U);
}

TEST(ReportPageTest, LongSeriesAreThinnedButKeepTheirPeak) {
    Json document = tests::watch_document({.processes = 1, .times = 5000, .mappings = 0});
    document["samples"][3210]["copied_bytes"] = 1e12;
    const std::string page = page_of(document);
    const Json points = chart_of(data_of(page), "Copied since the fork").at("series").at(0).at("points");
    EXPECT_LE(points.size(), 600U);
    EXPECT_NE(std::find(points.begin(), points.end(), Json::array({3210.0, 1e12})), points.end());
    EXPECT_EQ(points.front().at(0), 0.0);
    EXPECT_EQ(points.back().at(0), 4999.0);
    EXPECT_NE(page.find("At most 600 samples of a line are drawn"), std::string::npos);
}

TEST(ReportPageTest, OfManyProcessesTheRestIsOneLine) {
    Json document = tests::watch_document({.processes = 30, .times = 2, .mappings = 1});
    document.erase("forecast");
    const Json series = chart_of(data_of(page_of(document)), "Copied since the fork").at("series");
    ASSERT_EQ(series.size(), 10U);
    EXPECT_EQ(series.at(9).at("name"), "21 others together");
    EXPECT_EQ(series.at(9).at("points").at(0), Json::array({0.0, 21 * 22 / 2 * 4096.0}));
}

TEST(ReportPageTest, ThousandsOfMappingsStayReadable) {
    Json document = tests::watch_document({.processes = 1, .times = 2, .mappings = 3000});
    document.erase("heat");
    const std::string page = page_of(document);
    EXPECT_LE(data_of(page).at("heat").at(0).at("rows").size(), 64U);
    EXPECT_NE(page.find("The 40 with the most, of 3000; the others have"), std::string::npos);
}

TEST(ReportPageTest, WhatIsUnknownIsAQuestionMark) {
    const std::string page = page_of(tests::watch_document({.processes = 1, .times = 1}));
    EXPECT_NE(page.find("<b>?</b><span>of that by the parent</span>"), std::string::npos);
    EXPECT_NE(page.find("<b>0 B</b><span>swapped, at most</span>"), std::string::npos);
    EXPECT_NE(page.find("<td class=\"text\">?</td><td class=\"text\">?</td><td class=\"text\">?</td><td>10</td>"),
              std::string::npos);
}

// ---- compare

TEST(ReportPageTest, CrossoverIsDrawnPerGiBOfTheValue) {
    const std::string page = page_of(tests::compare_document());
    const Json memory = chart_of(data_of(page), "Writes against memory in all");
    EXPECT_EQ(memory.at("x").at("title"), "writes per GiB");
    EXPECT_EQ(memory.at("series").at(1).at("points").at(1), Json::array({40000.0, 640000.0}));
    const Json time = chart_of(data_of(page), "Writes against time in all");
    EXPECT_EQ(time.at("series").at(1).at("points").at(0), Json::array({4000.0, nullptr}));
    EXPECT_NE(page.find("Below 100,000 writes a GiB, blocks."), std::string::npos);
    EXPECT_NE(page.find("<td>1.25 ns</td>"), std::string::npos);
}

TEST(ReportPageTest, BlocksAreShadesOfOneColourAndPeersAreDashed) {
    Json document = tests::compare_document();
    for (Json& step : document["crossover"]) {
        for (const char* name : {"block-8", "block-64", "block-256"}) {
            step["engines"].push_back({{"name", name}, {"total_memory_bytes", 4096}, {"total_seconds", 1}});
        }
        step["engines"].push_back(
            {{"name", "php"}, {"total_memory_bytes", 4096}, {"total_seconds", 1}, {"peer", true}});
    }
    const std::string page = page_of(document);
    const Json lines = chart_of(data_of(page), "Writes against memory in all").at("series");
    ASSERT_EQ(lines.size(), 6U);
    EXPECT_TRUE(lines[0].at("shade").is_null());
    EXPECT_EQ(lines[2].at("shade"), 0.0);
    EXPECT_EQ(lines[3].at("shade"), 0.5);
    EXPECT_EQ(lines[4].at("shade"), 1.0);
    EXPECT_EQ(lines[4].at("style"), "line");
    EXPECT_EQ(lines[5].at("style"), "peer");
    EXPECT_NE(page.find("In other languages: php."), std::string::npos);
    EXPECT_EQ(page_of(tests::compare_document()).find("In other languages"), std::string::npos);
}

// ---- several

TEST(ReportPageTest, OfTwoDocumentsThePageHasTheDifference) {
    Json after = tests::measure_document();
    after["copied_bytes"] = 1800 * 4096;
    after["amplification"] = 460.8;
    const std::string page = page_of(std::vector{tests::measure_document().dump(), after.dump()});
    EXPECT_NE(page.find("<td class=\"text\">copied</td><td>3.5 MiB</td><td>7.0 MiB</td><td>+3.5 MiB</td><td>2 ×</td>"),
              std::string::npos);
    EXPECT_NE(
        page.find("<td class=\"text\">amplification</td><td>460.8 ×</td><td>460.8 ×</td><td>none</td><td>1 ×</td>"),
        std::string::npos);
    const Json overlay = chart_of(data_of(page), "Amplification against block size");
    ASSERT_EQ(overlay.at("series").size(), 4U);
    EXPECT_EQ(overlay.at("series").at(0).at("name"), "a.json: from the bytes that changed");
    EXPECT_EQ(overlay.at("series").at(2).at("name"), "b.json: from the bytes that changed");
}

TEST(ReportPageTest, MoreThanTwoStandSideBySide) {
    const std::string text = tests::watch_document().dump();
    const std::string page = page_of(std::vector{text, text, text});
    EXPECT_NE(page.find("Side by side"), std::string::npos);
    EXPECT_EQ(chart_of(data_of(page), "Copied since the fork, all processes").at("series").size(), 3U);
}

/// Document `i` of many. Its forked process has i + 1 times as many copies as the forked process of the first document.
Json forked_document(int i) {
    Json document = tests::watch_document({.processes = 1, .times = 2, .mappings = i + 1});
    document["title"] = "run " + std::to_string(i);
    for (Json& sample : document["samples"]) {
        sample["has_relative"] = true;
        sample["compared_pages"] = sample["copied_pages"];
        sample["changed_bytes"] = 4096;
        sample["identical_pages"] = 1;
    }
    // A parent is no part of what forks cost.
    Json parent = document["samples"][1];
    parent.update({{"pid", 7}, {"has_relative", false}, {"copied_pages", 1000}, {"copied_bytes", 1000 * 4096}});
    document["samples"].push_back(parent);
    return document;
}

TEST(ReportPageTest, OfManyEachHasARowAndABarForWhatForksCost) {
    std::vector<std::string> texts;
    for (int i = 0; i < 5; ++i) texts.push_back(forked_document(i).dump());
    const std::string page = page_of(texts);
    EXPECT_NE(page.find("All at a glance"), std::string::npos);
    EXPECT_EQ(page.find("Side by side"), std::string::npos);
    EXPECT_NE(page.find("<td class=\"text\">run 2</td><td>1</td><td>16.0 MiB</td><td>8.0 MiB</td><td>24.0 KiB</td>"
                        "<td>0 B</td><td>4.0 KiB</td><td>17 %</td><td>6 ×</td>"),
              std::string::npos);
    EXPECT_NE(page.find("<h2>run 2: server: 2 processes, 3 samples</h2>"), std::string::npos);
    const Json bars = chart_of(data_of(page), "What writes cost");
    EXPECT_EQ(bars.at("labels"), (Json{"run 0", "run 1", "run 2", "run 3", "run 4"}));
    EXPECT_EQ(bars.at("series").at(0).at("name"), "copied");
    EXPECT_EQ(bars.at("series").at(0).at("points").at(4), (Json{4.0, 10.0 * 4096}));
}

TEST(ReportPageTest, ProcessThatEndsIsSummedUpWhenMostOfItsCopiesWereCompared) {
    std::vector<std::string> texts;
    for (int i = 0; i < 5; ++i) {
        Json document = forked_document(i);
        Json& last = document["samples"][1];
        last["compared_pages"] = 0;
        last["changed_bytes"] = 0;
        texts.push_back(document.dump());
    }
    EXPECT_NE(page_of(texts).find("<td class=\"text\">run 2</td><td>1</td><td>16.0 MiB</td><td>8.0 MiB</td>"
                                  "<td>12.0 KiB</td><td>0 B</td><td>4.0 KiB</td><td>33 %</td><td>3 ×</td>"),
              std::string::npos);
}

// ---- what programs say of themselves

Json document_with_own_figures() {
    Json document = tests::watch_document();
    document["title"] = "Redis";
    document["own_figures"] = {
        {{"name", "rdb_last_cow_size"}, {"theirs_bytes", 1 << 20}, {"ours_bytes", 1 << 19}, {"note", "half <of> it"}},
        {{"name", "unknown"}, {"theirs_bytes", 0}, {"ours_bytes", nullptr}}};
    return document;
}

TEST(ReportPageTest, WhatAProgramCountsItselfStandsBesideWhatWasCounted) {
    const std::string page = page_of(document_with_own_figures());
    EXPECT_NE(page.find("<h1>Redis: server: 2 processes, 10 samples</h1>"), std::string::npos);
    EXPECT_NE(page.find("What the program counts itself"), std::string::npos);
    EXPECT_NE(page.find("<td class=\"text\">rdb_last_cow_size</td><td>1.0 MiB</td><td>512.0 KiB</td><td>-50.0 %</td>"
                        "<td class=\"text\">half &lt;of&gt; it</td>"),
              std::string::npos);
    EXPECT_NE(page.find("<td class=\"text\">unknown</td><td>0 B</td><td>?</td><td>?</td>"), std::string::npos);
}

TEST(ReportPageTest, OwnFiguresOfSeveralAreOneTableAboveThem) {
    const std::string page = page_of(std::vector{document_with_own_figures().dump(), tests::watch_document().dump()});
    EXPECT_NE(page.find("<th>Redis</th><th>b.json</th>"), std::string::npos);
    EXPECT_NE(page.find("<td class=\"text\">Redis</td><td class=\"text\">rdb_last_cow_size</td><td>1.0 MiB</td>"),
              std::string::npos);
    EXPECT_NE(page.find("<h2>b.json: server: "), std::string::npos);
}

TEST(ReportPageTest, TitleIsWhatIsAskedFor) {
    const TemporaryDirectory folder;
    const std::string path = write_file(folder, "a.json", tests::watch_document().dump());
    EXPECT_EQ(report({path, "--html", folder / "page", "--title", "A & B"}).end, tests::kChildExitedWell);
    EXPECT_NE(read_text_file(folder / "page").find("<h1>A &amp; B</h1>"), std::string::npos);
}

// ---- what holds for every page

TEST(ReportPageTest, WordsOfProgramsNeverBecomeMarkup) {
    const std::string evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'<!--";
    const std::string harmless = page_of(tests::watch_document());
    const std::string page = page_of(tests::watch_document({.command = evil, .mapping_name = evil}));
    for (const char* tag : {"<script", "</script", "<img", "<!--"}) {
        EXPECT_EQ(count_of(page, tag), count_of(harmless, tag)) << tag;
    }
    EXPECT_NE(data_of(page).at("heat").at(0).at("title").get<std::string>().find("</script>"), std::string::npos);
}

TEST(ReportPageTest, PageFetchesNothing) {
    const std::string page = page_of(tests::measure_document());
    for (const char* fetched : {" src=", "<link", "@import", "url("}) EXPECT_EQ(count_of(page, fetched), 0U) << fetched;
}

// ---- the terminal

std::string text_of(const Json& document, std::vector<std::string> words = {}, const std::string& locale = "C.UTF-8") {
    const TemporaryDirectory folder;
    words.insert(words.begin(), {write_file(folder, "a.json", document.dump()), "--text"});
    const CommandResult result = report(words, {.text = "", .environment = {"LC_ALL=" + locale}, .out_path = ""});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    return result.out;
}

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = text.find('\n', at);
        lines.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

bool is_ascii(const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c == '\n' || (c >= 0x20 && c < 0x7f); });
}

TEST(ReportTextTest, RisingLineBeginsLowOnTheLeftAndEndsHighOnTheRight) {
    const std::string text = text_of(tests::watch_document({.processes = 1}), {"--ascii"});
    EXPECT_TRUE(is_ascii(text)) << text;
    const std::vector<std::string> lines = split(text);
    const auto title = std::find(lines.begin(), lines.end(), "Copied since the fork");
    ASSERT_GT(lines.end() - title, 18) << text;
    EXPECT_EQ(title[1].substr(0, 11), "  40.0 KiB+") << text;
    EXPECT_EQ(title[1].substr(title[1].size() - 3), "a a") << text;
    EXPECT_EQ(title[13].find('a'), 11U) << text;  // 8 of 40 KiB, at the left end
    EXPECT_EQ(title[16].substr(0, 11), "       0 B+") << text;
    EXPECT_NE(text.find("  a server 100: 40.0 KiB at the end"), std::string::npos) << text;
}

TEST(ReportTextTest, DotsOfBrailleWhereTheLocaleHasThemAndAsciiWhereNot) {
    const Json document = tests::measure_document();
    EXPECT_NE(text_of(document).find("⠁"), std::string::npos);
    EXPECT_TRUE(is_ascii(text_of(document, {}, "C")));
    EXPECT_TRUE(is_ascii(text_of(document, {"--ascii"})));
}

TEST(ReportTextTest, OwnFiguresAreATable) {
    const TemporaryDirectory folder;
    const std::string path = write_file(folder, "a.json", document_with_own_figures().dump());
    const CommandResult result = report({path, "--text", "--ascii"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_NE(result.out.find("rdb_last_cow_size        1.0 MiB     512.0 KiB     -50.0 %"), std::string::npos)
        << result.out;
}

TEST(ReportTextTest, NoLineIsWiderThanEightyColumns) {
    for (const Json& document : {tests::measure_document(), tests::watch_document(), tests::compare_document()}) {
        for (const std::string& line : split(text_of(document))) {
            EXPECT_LE(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; }), 80) << line;
        }
    }
}

TEST(ReportTextTest, BarsAreAsLongAsTheirValues) {
    Json document = tests::measure_document();
    for (const char* member : {"what_if", "sweep"}) document.erase(member);
    const std::string text = text_of(document, {"--ascii"});
    EXPECT_NE(text.find("written ####"), std::string::npos) << text;
    EXPECT_NE(text.find("page tables  ?\n"), std::string::npos) << text;
    const std::vector<std::string> lines = split(text);
    const auto longest = std::max_element(lines.begin() + 3, lines.end(), [](const auto& a, const auto& b) {
        return std::count(a.begin(), a.end(), '#') < std::count(b.begin(), b.end(), '#');
    });
    EXPECT_NE(longest->find("copied"), std::string::npos) << text;
}

TEST(ReportTextTest, ControlCharactersOfNamesDoNotReachTheTerminal) {
    const std::string text = text_of(tests::watch_document({.command = "\x1b[2Jserver\n\x07"}));
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_NE(text.find("\\x1b[2Jserver\\n\\x07"), std::string::npos) << text;
}

TEST(ReportTextTest, OfTwoDocumentsTheDifferenceStandsAboveTheirChart) {
    const TemporaryDirectory folder;
    const std::string a = write_file(folder, "a.json", tests::watch_document().dump());
    const std::string b = write_file(folder, "b.ndjson", lines_of(tests::watch_samples({.processes = 4})));
    const CommandResult result = report({a, b, "--text", "--ascii"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_NE(result.out.find("  copied, at most"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("  a a.json: "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("  b b.ndjson: "), std::string::npos) << result.out;
}

// ---- bad input

/// Expects one line on standard error that holds `thing`, and nothing on standard output.
void expect_complaint(const CommandResult& result, int exit_status, const std::string& thing) {
    EXPECT_EQ(result.end, (ChildEnd{exit_status, 0})) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(result.err.starts_with("vmcow report: ")) << result.err;
    EXPECT_NE(result.err.find(thing), std::string::npos) << result.err << "; not: " << thing;
}

void expect_refused(const std::string& text, const std::string& thing) {
    const TemporaryDirectory folder;
    const std::string path = write_file(folder, "a.json", text);
    expect_complaint(report({path, "--html", folder / "page"}), 1, thing);
    EXPECT_FALSE(std::filesystem::exists(folder / "page"));
}

TEST(ReportInputTest, WhatIsNoDocumentIsRefusedInOneLineThatSaysWhereAndWhy) {
    expect_refused("", "a.json' is empty");
    expect_refused(" \n\n", "a.json' is empty");
    expect_refused("{\n  \"kind\": \"watch\",\n  \"samples\": [,]\n}\n",
                   "is not JSON: parse error at line 3, column 15");
    expect_refused("{\"kind\": \"watch\", \"samples\": [", "is not JSON: parse error at line 1, column 31");
    expect_refused("pid,copied\n1,2\n", "is not JSON: parse error at line 1");
    expect_refused(std::string("\x7f"
                               "ELF\0\1",
                               6),
                   "is not JSON");
    expect_refused("[1, 2]", "no document of vmcow's");
    expect_refused("{}", "no document of vmcow measure, watch or compare");
    expect_refused("{\"kind\": \"doctor\"}", "of the kind 'doctor', none of measure, watch, compare");
    expect_refused("{\"kind\": 7}", "'kind' is not a string");
}

TEST(ReportInputTest, MembersOfAnotherTypeAreNamed) {
    const auto refused = [](Json document, const Json::json_pointer& at, const Json& value, const std::string& thing) {
        document[at] = value;
        expect_refused(document.dump(), "'a.json': " + thing);
    };
    refused(tests::measure_document(), "/copied_bytes"_json_pointer, "many", "'copied_bytes' is not a number");
    refused(tests::measure_document(), "/what_if"_json_pointer, 3, "'what_if' is not an array");
    refused(tests::measure_document(), "/what_if/2"_json_pointer, 3, "'what_if' is not an array of objects");
    refused(tests::measure_document(), "/what_if/2/block_bytes"_json_pointer, 0, "'block_bytes' is no size");
    refused(tests::measure_document(), "/sweep/0/writes"_json_pointer, nullptr, "'writes' is no count");
    refused(tests::measure_document(), "/notes"_json_pointer, Json::array({1}), "'notes' is not an array of strings");
    refused(tests::watch_document(), "/samples/3/pid"_json_pointer, nullptr, "a sample has no 'pid'");
    refused(tests::watch_document(), "/samples/3/elapsed"_json_pointer, nullptr, "a sample has no 'elapsed'");
    refused(tests::watch_document(), "/samples/0/mappings/0/start"_json_pointer, -1, "'start' is no address");
    refused(tests::watch_document(), "/heat/0/bucket_bytes"_json_pointer, 0, "'heat' has an empty range, or buckets");
    refused(tests::watch_document(), "/heat/0/times"_json_pointer, Json::array({1}),
            "'heat' has not as many rows as times");
    refused(tests::watch_document(), "/forecast"_json_pointer, "soon", "'forecast' is not an object");
    refused(tests::watch_document(), "/title"_json_pointer, 7, "'title' is not a string");
    refused(tests::watch_document(), "/own_figures"_json_pointer, 7, "'own_figures' is not an array");
    refused(document_with_own_figures(), "/own_figures/1/name"_json_pointer, "",
            "'own_figures' has one without a 'name'");
    refused(document_with_own_figures(), "/own_figures/1/theirs_bytes"_json_pointer, "1M",
            "'theirs_bytes' is not a number");
    refused(tests::compare_document(), "/engines/0/read_ns"_json_pointer, "fast", "'read_ns' is not a number");
}

TEST(ReportInputTest, BrokenLineAmongOthersIsNamed) {
    const Json samples = tests::watch_samples({});
    expect_refused(samples[0].dump() + "\n{\"pid\": 1, \n" + samples[1].dump() + "\n", "line 2, byte ");
    expect_refused(samples[0].dump() + "\n[]\n" + samples[1].dump() + "\n", "line 2: no sample of a process");
}

TEST(ReportInputTest, DocumentsOfSeveralKindsAreRefused) {
    const TemporaryDirectory folder;
    const std::string a = write_file(folder, "a.json", tests::watch_document().dump());
    const std::string b = write_file(folder, "b.json", tests::measure_document().dump());
    expect_complaint(report({a, b, "--text"}), 1, "documents of one kind: 'a.json' is of watch, 'b.json' of measure");
}

TEST(ReportInputTest, FileThatIsTooLargeIsRefusedBeforeItIsParsed) {
    const TemporaryDirectory folder;
    const std::string path = write_file(folder, "a.json", "");
    std::filesystem::resize_file(path, std::size_t{300} << 20);
    expect_complaint(report({path, "--text"}), 1, "is larger than a report can take: 256.0 MiB");
}

TEST(ReportInputTest, FilesThatCannotBeReadOrWrittenAreNamed) {
    const TemporaryDirectory folder;
    const std::string path = write_file(folder, "a.json", tests::measure_document().dump());
    expect_complaint(report({folder / "none", "--text"}), 1, "none': No such file or directory");
    expect_complaint(report({folder.path().string(), "--text"}), 1, "Is a directory");
    expect_complaint(report({path, "--html", folder / "none/page"}), 1, "none/page': No such file or directory");
    expect_complaint(report({path, "--html", folder.path().string()}), 1, "Is a directory");
    expect_complaint(report({path, "--html", "/dev/full"}), 1, "No space left on device");
    expect_complaint(report({path, "--text"}, {.text = "", .environment = {}, .out_path = "/dev/full"}), 1,
                     "standard output: No space left on device");
    EXPECT_EQ(read_text_file(path), tests::measure_document().dump());
}

TEST(ReportBudgetTest, WhatExceedsItIsNamedAndWhatKeepsItPasses) {
    const TemporaryDirectory folder;
    const std::string measure = write_file(folder, "a.json", tests::measure_document().dump());
    const std::string watch = write_file(folder, "b.json", tests::watch_document().dump());
    const std::string compare = write_file(folder, "c.json", tests::compare_document().dump());
    // The documents hold 3.5 MiB and 120 KiB of copies.
    EXPECT_EQ(report({measure, "--budget", "copied=4M,amplification=461,identical=2%"}).end, tests::kChildExitedWell);
    EXPECT_EQ(report({watch, "--budget", "copied=120K"}).end, tests::kChildExitedWell);
    expect_complaint(report({measure, "--budget", "copied=3M,identical=2%"}), 1, "'a.json': budget exceeded: copied");
    expect_complaint(report({watch, "--budget", "copied=119K"}), 1, "'b.json': budget exceeded: copied");
    expect_complaint(report({compare, "--budget", "copied=1G"}), 1, "'c.json': budget exceeded: copied");
}

TEST(ReportInputTest, WrongCommandLineIsAUsageError) {
    const TemporaryDirectory folder;
    const std::string path = write_file(folder, "a.json", tests::measure_document().dump());
    expect_complaint(report({}), 2, "FILE is required");
    expect_complaint(report({path}), 2, "--html FILE, --text or --budget LIMITS");
    expect_complaint(report({path, "--budget", "copied"}), 2, "--budget");
    expect_complaint(report({path, "--txt"}), 2, "unknown flag '--txt'");
    expect_complaint(report({path, "--html"}), 2, "--html: a value is missing");
    expect_complaint(report({path, "--html", path}), 2, "would replace a document that is to be read");
    expect_complaint(report({path, "--html", "-", "--text"}), 2, "cannot both have standard output");
    expect_complaint(report({path, "--html", folder / "page", "--ascii"}), 2, "--ascii needs --text");
    expect_complaint(report({path, "--text", "--title", "a"}), 2, "--title needs --html");
}

}  // namespace
