// vmcow measure: its JSON, its table and its options, beside what the model expects.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/meter/model/trace.hpp"

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

/// Expects one line on standard error that holds `thing`, and nothing on standard output.
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
    // A sanitizer's memory may fault too. RunWorkloadTest shows that nothing else does.
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

TEST(MeasureCommandTest, WhatIfHasEverySizeAndTheBestOne) {
    const json report = measured({"--size", "4M", "--writes", "300"});
    const json& blocks = report.at("what_if");
    ASSERT_EQ(blocks.size(), 13U);
    std::uint64_t least = ~std::uint64_t{0};
    for (const json& block : blocks) {
        EXPECT_EQ(block.at("total_bytes"),
                  block.at("copied_bytes").get<std::uint64_t>() + block.at("overhead_bytes").get<std::uint64_t>());
        EXPECT_TRUE(block.at("children_copied_bytes").is_null());
        least = std::min(least, block.at("total_bytes").get<std::uint64_t>());
        if (block.at("block_bytes") == 4096) {
            EXPECT_EQ(block.at("copied_bytes"), report.at("copied_bytes"));
            EXPECT_EQ(block.at("amplification"), report.at("amplification"));
            EXPECT_EQ(block.at("expected_bytes"), report.at("expected").at("copied_pages").get<double>() * 4096);
        }
        if (block.at("block_bytes") == report.at("best_block_bytes")) {
            EXPECT_EQ(block.at("total_bytes"), least);
        }
    }
    EXPECT_EQ(blocks.front().at("block_bytes"), 4);
    EXPECT_EQ(blocks.back().at("block_bytes"), 2 << 20);
    const CommandResult table = measure({"--size", "4M", "--writes", "300"});
    EXPECT_NE(table.out.find("model of copied"), std::string::npos) << table.out;
    EXPECT_EQ(std::count(table.out.begin(), table.out.end(), '*'), 2) << table.out;
}

TEST(MeasureCommandTest, ChildrenAddUp) {
    const json report = measured({"--size", "4M", "--writes", "300", "--children", "3"});
    ASSERT_EQ(report.at("children").size(), 3U);
    for (const char* field : {"copied_pages", "copied_bytes", "changed_bytes", "logical_bytes", "identical_pages"}) {
        std::uint64_t sum = 0;
        for (const json& child : report.at("children")) sum += child.at(field).get<std::uint64_t>();
        EXPECT_EQ(report.at(field), sum) << field;
    }
    EXPECT_EQ(report.at("memory_bytes").get<std::uint64_t>(), (4U << 20) +
                                                                  report.at("copied_bytes").get<std::uint64_t>() +
                                                                  report.at("page_table_bytes").get<std::uint64_t>());
    for (const json& block : report.at("what_if")) {
        EXPECT_GE(block.at("children_copied_bytes"), block.at("copied_bytes"));
        if (block.at("block_bytes") == 4096) {
            EXPECT_EQ(block.at("children_copied_bytes"), report.at("copied_bytes"));
        }
    }
    const CommandResult table = measure({"--size", "4M", "--writes", "300", "--children", "3"});
    EXPECT_NE(table.out.find("in each of 3 children at once"), std::string::npos) << table.out;
}

TEST(MeasureCommandTest, LevelsAreEachBesideTheModel) {
    const json report = measured({"--size", "4M", "--writes", "300", "--levels", "3"});
    ASSERT_EQ(report.at("levels").size(), 3U);
    std::uint64_t copied = 0;
    for (std::size_t i = 0; i < 3; ++i) {
        const json& level = report.at("levels")[i];
        EXPECT_EQ(level.at("level"), i + 1);
        EXPECT_LE(std::abs(level.at("residual_sigma").get<double>()), 4);
        copied += level.at("copied_pages").get<std::uint64_t>();
    }
    EXPECT_EQ(report.at("copied_pages"), copied);
    EXPECT_LE(std::abs(report.at("residual_sigma").get<double>()), 4);
}

TEST(MeasureCommandTest, SweepHasARowForEachNumberOfWritesBesideTheModel) {
    const json report = measured({"--size", "4M", "--writes", "10..1000,50"});
    ASSERT_EQ(report.at("sweep").size(), 4U);
    const std::vector<std::uint64_t> writes = {10, 100, 1000, 50};
    for (std::size_t i = 0; i < 4; ++i) {
        const json& row = report.at("sweep")[i];
        EXPECT_EQ(row.at("writes"), writes[i]);
        EXPECT_EQ(row.at("logical_bytes"), writes[i] * 8);
        const double off = row.at("copied_pages").get<double>() - row.at("expected").at("copied_pages").get<double>();
        EXPECT_LE(std::abs(off), 4 * row.at("expected").at("sigma").get<double>());
    }
    EXPECT_EQ(report.at("workload").at("writes"), 50) << "the figures outside are of the last run";
    EXPECT_EQ(report.at("copied_pages"), report.at("sweep").back().at("copied_pages"));
    const CommandResult table = measure({"--size", "4M", "--writes", "10..1000", "--budget", "copied=500K"});
    EXPECT_EQ(table.end.exit_status, 1) << "the largest run is past it";
    EXPECT_NE(table.out.find("1,000"), std::string::npos) << table.out;
}

TEST(MeasureCommandTest, TraceIsReplayedWhateverItsForm) {
    const tests::TemporaryDirectory folder;
    const vmcow::meter::Trace trace({{4095, 2}, {3 << 20, 100}, {4095, 2}});
    for (const bool binary : {true, false}) {
        const std::string path = folder / "writes";
        std::ofstream(path, std::ios::binary) << (binary ? trace.binary() : trace.csv());
        const json report = measured({"--trace", path});
        EXPECT_EQ(report.at("workload").at("pattern"), "trace");
        EXPECT_EQ(report.at("workload").at("trace"), path);
        EXPECT_TRUE(report.at("workload").at("write_bytes").is_null());
        EXPECT_EQ(report.at("workload").at("size_bytes"), (3 << 20) + 4096);
        EXPECT_EQ(report.at("copied_pages"), 3);
        EXPECT_EQ(report.at("residual_sigma"), 0.0);
        EXPECT_EQ(report.at("changed_bytes"), 102);
        EXPECT_EQ(report.at("logical_bytes"), 104);
        EXPECT_EQ(measured({"--trace", path, "--writes", "1"}).at("copied_pages"), 2) << "the first write alone";
        EXPECT_EQ(measured({"--trace", path, "--size", "8M"}).at("workload").at("size_bytes"), 8 << 20);
    }
}

TEST(MeasureCommandTest, WrongTraceIsAUsageErrorThatNamesThePlace) {
    const tests::TemporaryDirectory folder;
    const std::string path = folder / "writes";
    const auto complain = [&](const std::string& content, const std::string& thing,
                              std::vector<std::string> words = {}) {
        std::ofstream(path, std::ios::binary) << content;
        words.insert(words.end(), {"--trace", path});
        expect_complaint(measure(words), 2, thing);
    };
    complain("", "--trace: " + path + ": a trace without writes");
    complain("offset,length\n1,2\n3;4\n", "line 3");
    complain(vmcow::meter::Trace({{0, 8}}).binary().substr(0, 30), "truncated");
    complain(std::string("\0\1", 2), "not a trace");
    complain("0,8\n5000,8\n", "write 2 of the trace ends at 5008, behind the image of 4096", {"--size", "4K"});
    complain("0,8\n", "2 writes are more than the 1 of the trace", {"--writes", "2"});
    complain("0,8\n", "--pattern excludes --trace", {"--pattern", "zipf"});
    complain("0,8\n", "--write-bytes excludes --trace", {"--write-bytes", "8"});
    complain("0,8\n", "--aligned excludes --trace", {"--aligned"});
    expect_complaint(measure({"--trace", folder / "none"}), 1, "No such file or directory");
}

TEST(MeasureCommandTest, ResidentTellsWhatIsRefreshedInsteadOfCopied) {
    const json report = measured({"--size", "4M", "--writes", "300", "--resident"});
    const json& resident = report.at("resident");
    EXPECT_EQ(resident.at("first").at("copied_pages"), report.at("copied_pages"));
    const auto spared =
        resident.at("first").at("minor_faults").get<std::uint64_t>() -
        std::min(resident.at("first").at("minor_faults"), resident.at("again").at("minor_faults")).get<std::uint64_t>();
    EXPECT_EQ(resident.at("faults_saved"), spared);
    const CommandResult table = measure({"--size", "4M", "--writes", "300", "--resident"});
    EXPECT_NE(table.out.find("faults saved"), std::string::npos) << table.out;
}

TEST(MeasureCommandTest, HugePagesAreHadOrRefused) {
    const CommandResult result = measure({"--size", "4M", "--writes", "10", "--huge-pages", "--json"});
    if (result.end.exit_status == 77) {
        expect_complaint(result, 77, "MADV_COLLAPSE");
    } else {
        EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
        EXPECT_EQ(json::parse(result.out).at("image_page_bytes"), 2 << 20);
    }
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
        {{"--writes", "1,,2"}, "--writes: '' is not a whole number"},
        {{"--writes", "100..10"}, "--writes: '100..10' ends below"},
        {{"--writes", "1.."}, "--writes: '' is not"},
        {{"--writes", "1,0"}, "--writes: '0' is less than 1"},
        {{"--children", "0"}, "--children: '0'"},
        {{"--children", "100000"}, "--children: '100000' is more than 1024"},
        {{"--levels", "65"}, "--levels: '65' is more than 64"},
        {{"--children", "2", "--levels", "2"}, "--children and --levels cannot be measured together"},
        {{"--children", "2", "--resident"}, "--children and --resident"},
        {{"--levels", "2", "--writes", "1,2"}, "--levels and several --writes"},
        {{"--huge-pages", "--small-pages"}, "--small-pages excludes --huge-pages"},
        {{"--huge-pages", "--size", "1M"}, "less than 2 MiB"},
        {{"--budget", "copied=lots"}, "--budget: 'lots'"},
        {{"--budget", "pages=3"}, "--budget: 'pages'"},
    };
    for (const auto& [words, thing] : cases) expect_complaint(measure(words), 2, thing);
}

TEST(MeasureCommandTest, ImageLargerThanMemoryIsRefusedBeforeItIsMade) {
    expect_complaint(measure({"--size", "32T"}), 1, "needs up to");
    expect_complaint(measure({"--size", "1G", "--writes", "10000000", "--children", "1024"}), 1, "needs up to");
}

TEST(MeasureCommandTest, FullDiskOnOutputIsReported) {
    tests::CommandInput full;
    full.out_path = "/dev/full";
    expect_complaint(measure({"--size", "64K"}, full), 1, "standard output: No space left on device");
    expect_complaint(measure({"--size", "64K", "--json"}, full), 1, "standard output: No space left on device");
}

}  // namespace
