// vmcow compare: what each engine copies, and what the command prints about it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/meter/compare/engines.hpp"

namespace {

using nlohmann::json;
using tests::CommandResult;

CommandResult compare(std::vector<std::string> words, const tests::CommandInput& input = {}) {
    words.insert(words.begin(), {VMCOW_COMMAND, "compare"});
    return tests::run_command(words, input);
}

json compared(std::vector<std::string> words) {
    words.emplace_back("--json");
    const CommandResult result = compare(std::move(words));
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(result.err, "");
    return json::parse(result.out);
}

std::map<std::string, json> engines_of(const json& document) {
    std::map<std::string, json> engines;
    for (const json& engine : document["engines"]) engines.emplace(engine["name"], engine);
    return engines;
}

void expect_complaint(const CommandResult& result, int exit_status, const std::string& thing) {
    EXPECT_EQ(result.end.exit_status, exit_status) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(thing), std::string::npos) << result.err << "; not: " << thing;
}

TEST(CompareCommandTest, EachEngineCopiesWhatItHasTo) {
    constexpr std::uint64_t kSize = 1 << 20;
    const json document =
        compared({"--size", "1M", "--writes", "16", "--pattern", "stride", "--aligned", "--children", "2"});
    EXPECT_EQ(document["kind"], "compare");
    EXPECT_EQ(document["workload"]["children"], 2);
    const auto engines = engines_of(document);
    ASSERT_EQ(engines.size(), 16U);
    EXPECT_EQ(engines.at("deep-copy")["copied_bytes"], 2 * kSize);
    EXPECT_EQ(engines.at("whole-buffer")["copied_bytes"], 2 * (kSize - 8));  // all but the word that is written
    EXPECT_EQ(engines.at("pages")["copied_bytes"], 2 * 16 * 4096);
    EXPECT_EQ(engines.at("pages-resident")["copied_bytes"], 2 * 16 * 4096);
    EXPECT_EQ(engines.at("moved")["copied_bytes"], 0);
    EXPECT_EQ(engines.at("pages")["amplification"], 512.0);
    for (const auto& [name, engine] : engines) {
        EXPECT_GT(engine["build_seconds"], 0) << name;
        EXPECT_GE(engine["memory_after_bytes"], engine["memory_before_bytes"]) << name;
        if (name.starts_with("block-")) {
            const std::uint64_t leaf = std::stoull(name.substr(6));
            constexpr std::uint64_t kWrites = 32;  // of both children
            EXPECT_GE(engine["copied_bytes"], kWrites * leaf) << name;
            EXPECT_LT(engine["copied_bytes"], kWrites * (leaf + 1024)) << name;
        }
    }
    EXPECT_TRUE(document["advice"].get<std::string>().starts_with("Use "));
}

TEST(CompareCommandTest, SweepSaysWhatEachEngineTakesForSoManyWrites) {
    const json document = compared({"--size", "256K", "--engines", "deep-copy,block-64", "--sweep", "1,10000"});
    ASSERT_EQ(document["crossover"].size(), 2U);
    EXPECT_EQ(document["crossover"][1]["writes"], 10000);
    const json& few = document["crossover"][0]["engines"];
    const json& many = document["crossover"][1]["engines"];
    EXPECT_EQ(few[0]["total_memory_bytes"], many[0]["total_memory_bytes"]);
    EXPECT_LT(few[1]["total_memory_bytes"], many[1]["total_memory_bytes"]);
    EXPECT_LT(few[1]["total_memory_bytes"], few[0]["total_memory_bytes"]);
}

/// The data that the page holds for its charts.
json data_of(const std::string& page) {
    const std::string before = "<script type=\"application/json\" id=\"data\">";
    const std::size_t begin = page.find(before) + before.size();
    return json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

TEST(CompareCommandTest, ThePageIsDrawnOverTenfoldNumbersOfWrites) {
    const tests::TemporaryDirectory folder;
    const std::string file = folder / "page.html";
    const CommandResult result =
        compare({"--size", "64K", "--writes", "500", "--engines", "pages,moved,block-64", "--html", file});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_NE(result.out.find("\nUse "), std::string::npos) << result.out;  // the table is printed too
    std::stringstream page;
    page << std::ifstream(file).rdbuf();
    EXPECT_NE(page.str().find("<p class=\"verdict\">Use "), std::string::npos);
    const json chart = data_of(page.str())["charts"][0];
    EXPECT_EQ(chart["x"]["title"], "writes per GiB");
    ASSERT_EQ(chart["series"].size(), 3U);
    std::vector<double> writes;
    for (const json& point : chart["series"][0]["points"]) writes.push_back(point[0].get<double>() / (1 << 14));
    EXPECT_EQ(writes, (std::vector<double>{1, 10, 100, 500, 1000}));  // at most one write for each of the 8192 words
}

TEST(CompareCommandTest, ThePageMayBeStandardOutputAndItsSweepBeGiven) {
    const CommandResult result =
        compare({"--size", "64K", "--writes", "5", "--engines", "pages", "--sweep", "2,7", "--html", "-"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(result.out.rfind("<!DOCTYPE html>", 0), 0U);
    EXPECT_EQ(data_of(result.out)["charts"][0]["series"][0]["points"].size(), 2U);
}

TEST(CompareCommandTest, TableAndCsvHaveALineForEachEngine) {
    const CommandResult table = compare({"--size", "64K", "--writes", "10", "--engines", "pages,moved"});
    EXPECT_EQ(table.end, tests::kChildExitedWell) << table.err;
    EXPECT_NE(table.out.find("\npages "), std::string::npos) << table.out;
    EXPECT_NE(table.out.find("\nmoved "), std::string::npos) << table.out;
    EXPECT_NE(table.out.find("\nUse pages"), std::string::npos) << table.out;
    const CommandResult csv = compare({"--size", "64K", "--writes", "10", "--engines", "pages,moved", "--csv", "-"});
    EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 3) << csv.out;
    EXPECT_EQ(csv.out.rfind("name,build_seconds,", 0), 0U) << csv.out;
}

TEST(CompareCommandTest, ATraceIsReplayedUpToTheNumberOfWritesAskedFor) {
    const tests::TemporaryDirectory folder;
    const std::string trace = folder / "trace.csv";
    std::ofstream(trace) << "offset,length\n0,8\n8192,8\n40960,8\n";
    const auto copied = [&](std::vector<std::string> words) {
        words.insert(words.begin(), {"--trace", trace, "--engines", "pages"});
        return compared(std::move(words))["engines"][0]["copied_bytes"].get<std::uint64_t>();
    };
    EXPECT_EQ(copied({}), 3 * 4096U);
    EXPECT_EQ(copied({"--writes", "2"}), 2 * 4096U);
    expect_complaint(compare({"--trace", trace, "--writes", "4"}), 2, "4 writes are more than the 3 of the trace");
}

TEST(CompareEngineTest, ApartItCopiesTheSame) {
    const vmcow::meter::Workload workload{.size_bytes = 1 << 16, .writes = 100};
    const auto here = vmcow::meter::run_engine("block-64", workload, 2);
    const auto apart = vmcow::meter::run_engine_apart("block-64", workload, 2);
    EXPECT_EQ(apart.name, "block-64");
    EXPECT_EQ(apart.copied_bytes, here.copied_bytes);
    EXPECT_EQ(apart.memory_after_bytes, here.memory_after_bytes);
    EXPECT_EQ(apart.checksum, here.checksum);
}

TEST(CompareEngineTest, WhatGoesWrongApartIsAnErrorHere) {
    const vmcow::meter::Workload workload{.size_bytes = std::uint64_t{1} << 45};
    try {
        static_cast<void>(vmcow::meter::run_engine_apart("deep-copy", workload, 1));
        FAIL() << "32 TiB were there";
    } catch (const std::runtime_error& error) {
        EXPECT_EQ(std::string(error.what()).rfind("deep-copy: ", 0), 0U) << error.what();
    }
}

TEST(CompareCommandTest, WhatMakesNoSenseIsALineAndStatusTwo) {
    expect_complaint(compare({"--engines", "pages,nothing"}), 2, "'nothing' is no engine");
    expect_complaint(compare({"--engines", "pages,pages"}), 2, "there twice");
    expect_complaint(compare({"--engines", ""}), 2, "--engines");
    expect_complaint(compare({"--children", "0"}), 2, "--children");
    expect_complaint(compare({"--size", "4", "--write-bytes", "8"}), 2, "write");
    expect_complaint(compare({"--sweep", "1,x", "--json"}), 2, "--sweep");
    expect_complaint(compare({"--sweep", "1"}), 2, "--json");
    expect_complaint(compare({"--sweep", "1,0", "--json"}), 2, "--sweep");
    expect_complaint(compare({"--html", "-", "--json"}), 2, "--html -");
    expect_complaint(compare({"--html", "-", "--csv", "-"}), 2, "--html -");
    expect_complaint(compare({"--html", "/nowhere/page.html", "--size", "64K"}), 1, "/nowhere");
    expect_complaint(compare({"--trace", "/nowhere/trace"}), 1, "/nowhere/trace");
    expect_complaint(compare({"--trace", "x", "--pattern", "hot"}), 2, "--trace");
    expect_complaint(compare({"--size", "1000G"}), 1, "of memory");
    expect_complaint(compare({"--csv", "/nowhere/file", "--size", "64K"}), 1, "/nowhere");
}

}  // namespace
