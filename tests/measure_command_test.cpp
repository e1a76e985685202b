#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/support.hpp"

namespace {

using nlohmann::json;
using tests::CommandResult;

CommandResult measure(std::vector<std::string> words, const tests::CommandInput& input = {}) {
    words.insert(words.begin(), {VMCOW_COMMAND, "measure"});
    return tests::run_command(words, input);
}

json measured(std::vector<std::string> words) {
    words.emplace_back("--json");
    const CommandResult result = measure(std::move(words));
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(result.err, "");
    return json::parse(result.out);
}

/// One line on standard error that holds `thing`, and nothing on standard output.
void expect_complaint(const CommandResult& result, int exit_status, const std::string& thing) {
    EXPECT_EQ(result.end.exit_status, exit_status) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(result.err.starts_with("vmcow measure: ")) << result.err;
    EXPECT_NE(result.err.find(thing), std::string::npos) << result.err << "; not: " << thing;
}

TEST(MeasureCommandTest, JsonHasEveryFieldOfTheWorkload) {
    const json report = measured({"--size", "4M", "--writes", "300", "--write-bytes", "24", "--pattern", "zipf",
                                  "--aligned", "--seed", "9", "--rewrite-same", "0.25"});
    const json expected = {{"size_bytes", 4 << 20}, {"writes", 300}, {"write_bytes", 24},   {"pattern", "zipf"},
                           {"aligned", true},       {"seed", 9},     {"rewrite_same", 0.25}};
    EXPECT_EQ(report.at("workload"), expected);
}

TEST(MeasureCommandTest, JsonHasTheMeterBesideTheModel) {
    const json report = measured({"--size", "4M", "--writes", "300"});
    EXPECT_EQ(report.at("logical_bytes"), 2400);
    EXPECT_EQ(report.at("changed_bytes"), report.at("distinct_bytes"));
    const auto copied = report.at("copied_pages").get<std::uint64_t>();
    EXPECT_EQ(report.at("copied_bytes"), copied * 4096);
    EXPECT_EQ(report.at("anonymous_bytes"), copied * 4096);
    EXPECT_EQ(report.at("resident_bytes"), copied * 4096);
    // A sanitizer's own memory may fault too; that nothing else does is for RunWorkloadTest to show.
    EXPECT_GE(report.at("minor_faults"), copied);
    EXPECT_EQ(report.at("identical_pages"), 0);
    EXPECT_GT(report.at("page_table_bytes"), 0);
    EXPECT_DOUBLE_EQ(report.at("amplification").get<double>(), static_cast<double>(copied) * 4096 / 2400);
    const auto expected = report.at("expected").at("copied_pages").get<double>();
    const auto sigma = report.at("expected").at("sigma").get<double>();
    EXPECT_DOUBLE_EQ(report.at("residual_sigma").get<double>(), (static_cast<double>(copied) - expected) / sigma);
    EXPECT_LE(std::abs(report.at("residual_sigma").get<double>()), 4);
    EXPECT_GT(report.at("seconds"), 0);
    const bool all_as_wanted = report.at("image_page_bytes") == 2 << 20 && report.at("page_scan") == "PAGEMAP_SCAN" &&
                               report.at("minor_faults") == copied;
    EXPECT_EQ(report.at("notes").empty(), all_as_wanted) << report.at("notes");
}

TEST(MeasureCommandTest, ResidualIsZeroWhereChancePlaysNoPart) {
    const json report = measured({"--size", "1M", "--writes", "10", "--pattern", "stride"});
    EXPECT_EQ(report.at("expected"), (json{{"copied_pages", 10.0}, {"sigma", 0.0}}));
    EXPECT_EQ(report.at("residual_sigma"), 0.0);
}

TEST(MeasureCommandTest, SmallPagesAndTheSlowScanAreUsedWhenAskedForAndReported) {
    const json report = measured({"--size", "4M", "--writes", "10", "--small-pages", "--page-scan", "pagemap"});
    EXPECT_EQ(report.at("image_page_bytes"), 4096);
    EXPECT_EQ(report.at("page_scan"), "pagemap");
    EXPECT_FALSE(report.at("notes").empty());
}

TEST(MeasureCommandTest, SameSeedGivesTheSameCounts) {
    const json first = measured({"--size", "4M", "--writes", "300", "--pattern", "hot", "--seed", "5"});
    const json second = measured({"--size", "4M", "--writes", "300", "--pattern", "hot", "--seed", "5"});
    for (const char* field : {"copied_pages", "distinct_bytes", "changed_bytes", "expected"}) {
        EXPECT_EQ(first.at(field), second.at(field)) << field;
    }
}

TEST(MeasureCommandTest, TableShowsWhatTheJsonHas) {
    const json report = measured({"--size", "4M", "--writes", "300"});
    const CommandResult table = measure({"--size", "4M", "--writes", "300"});
    EXPECT_EQ(table.end, tests::kChildExitedWell) << table.err;
    const auto copied = std::to_string(report.at("copied_pages").get<std::uint64_t>());
    EXPECT_NE(table.out.find(copied + " of 1,024 pages"), std::string::npos) << table.out;
    EXPECT_NE(table.out.find("σ from it"), std::string::npos) << table.out;
    EXPECT_NE(table.out.find("bytes copied for each byte written"), std::string::npos) << table.out;
}

TEST(MeasureCommandTest, BudgetExceededIsExitOneBehindTheWholeOutput) {
    const std::vector<std::string> words = {"--size", "1M", "--writes", "10", "--pattern", "stride", "--budget"};
    std::vector<std::string> kept = words;
    kept.emplace_back("copied=40K,amplification=512,identical=0%");
    EXPECT_EQ(measure(kept).end, tests::kChildExitedWell);
    std::vector<std::string> exceeded = words;
    exceeded.emplace_back("copied=39K,amplification=500");
    const CommandResult result = measure(exceeded);
    EXPECT_EQ(result.end.exit_status, 1);
    EXPECT_NE(result.out.find("10 of 256 pages"), std::string::npos) << result.out;
    EXPECT_EQ(result.err,
              "vmcow measure: budget exceeded: copied 40.0 KiB (40960 bytes), 1.0 KiB (1024 bytes) more than 39.0 KiB "
              "(39936 bytes); amplification 512, 12 more than 500\n");
}

TEST(MeasureCommandTest, HelpShowsAnExample) {
    const CommandResult help = measure({"--help"});
    EXPECT_EQ(help.end, tests::kChildExitedWell);
    EXPECT_NE(help.out.find("Example: vmcow measure"), std::string::npos) << help.out;
}

TEST(MeasureCommandTest, WrongCommandLineIsAUsageErrorThatNamesTheThing) {
    const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
        {{"--sizes", "1M"}, "'--sizes'"},
        {{"1M"}, "'1M'"},
        {{"--size", "0"}, "--size: '0' is zero"},
        {{"--size", "99999999999999999999"}, "--size: '99999999999999999999' is too large"},
        {{"--size", "16E"}, "--size: '16E' is too large"},
        {{"--size", "15E"}, "larger than an address space"},
        {{"--size", "many"}, "--size: 'many'"},
        {{"--size"}, "--size: a value is missing"},
        {{"--size", "4K", "--write-bytes", "8K"}, "a write of 8192 bytes is larger than the image of 4096"},
        {{"--write-bytes", "0"}, "--write-bytes: '0' is zero"},
        {{"--writes", "0"}, "--writes: '0'"},
        {{"--writes", "-1"}, "--writes: '-1'"},
        {{"--writes", "18446744073709551615"}, "more than 64 bits can count"},
        {{"--pattern", "zip"}, "--pattern: 'zip'"},
        {{"--rewrite-same", "1.5"}, "--rewrite-same: '1.5'"},
        {{"--rewrite-same", "half"}, "--rewrite-same: 'half'"},
        {{"--page-scan", "fast"}, "--page-scan: 'fast'"},
        {{"--budget", "copied=lots"}, "--budget: 'lots'"},
        {{"--budget", "pages=3"}, "--budget: 'pages'"},
    };
    for (const auto& [words, thing] : cases) expect_complaint(measure(words), 2, thing);
}

TEST(MeasureCommandTest, ImageLargerThanMemoryIsRefusedBeforeItIsMade) {
    expect_complaint(measure({"--size", "32T"}), 1, "needs up to");
}

TEST(MeasureCommandTest, FullDiskOnOutputIsReported) {
    tests::CommandInput full;
    full.out_path = "/dev/full";
    expect_complaint(measure({"--size", "64K"}, full), 1, "standard output: No space left on device");
    expect_complaint(measure({"--size", "64K", "--json"}, full), 1, "standard output: No space left on device");
}

}  // namespace
