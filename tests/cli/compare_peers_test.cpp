// vmcow compare --peers, with programs in the place of other languages, and the advice of the comparison.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/support.hpp"
#include "vmcow/meter/compare/engines.hpp"

namespace {

using nlohmann::json;
using tests::CommandResult;
using tests::TemporaryDirectory;
using vmcow::meter::EngineFigures;

/// A folder with fake peers of these names.
class Peers {
public:
    explicit Peers(const std::vector<std::string>& names) {
        for (const std::string& name : names) std::filesystem::create_symlink(FAKE_PEER, folder_ / (name + ".peer"));
    }
    [[nodiscard]] std::string path(const std::string& name) const { return folder_ / name; }

    [[nodiscard]] CommandResult compare(std::vector<std::string> words, const char* size = "64K") const {
        words.insert(words.begin(), {VMCOW_COMMAND, "compare", "--size", size, "--engines", "pages,block-64", "--peers",
                                     folder_ / "."});
        return tests::run_command(words, {.text = "", .environment = {"FAKE_PEER_PID=" + path("pid")}, .out_path = ""});
    }

private:
    TemporaryDirectory folder_;
};

std::vector<std::string> names_in(const json& engines) {
    std::vector<std::string> names;
    for (const json& engine : engines) names.push_back(engine["name"]);
    return names;
}

/// A peer that knows the format alone reads back what the engines do, whatever the writes are.
TEST(ComparePeersTest, APeerDoesTheSameWritesAndStandsInTheTable) {
    const Peers peers({"right"});
    for (const std::vector<std::string>& writes : std::vector<std::vector<std::string>>{
             {"--writes", "1000"},
             {"--writes", "300", "--write-bytes", "13", "--rewrite-same", "0.5", "--children", "2"},
             {"--writes", "50", "--write-bytes", "3", "--pattern", "zipf"},
             {"--writes", "2", "--write-bytes", "5000"}}) {
        std::vector<std::string> words = writes;
        words.emplace_back("--json");
        const CommandResult result = peers.compare(words, "60001");
        ASSERT_EQ(result.end, tests::kChildExitedWell) << result.err;
        const json document = json::parse(result.out);
        EXPECT_EQ(names_in(document["engines"]), (std::vector<std::string>{"pages", "block-64", "right"}))
            << result.err;
    }
}

TEST(ComparePeersTest, TimesAreOfOneChildAndOneWriteAndUnknownIsNull) {
    const Peers peers({"right"});
    const json document =
        json::parse(peers.compare({"--writes", "100", "--children", "5", "--sweep", "10,100", "--json"}).out);
    const json& peer = document["engines"][2];
    EXPECT_EQ(peer["peer"], true);
    EXPECT_EQ(peer["build_seconds"], 0.5);
    EXPECT_EQ(peer["hand_over_seconds"], 0.05);
    EXPECT_NEAR(peer["write_ns"].get<double>(), 1e6 / 500, 1e-6);
    EXPECT_NEAR(peer["read_ns"].get<double>(), 2e6 / 500, 1e-6);
    EXPECT_EQ(peer["memory_before_bytes"], 4096);
    EXPECT_TRUE(peer["memory_after_bytes"].is_null());
    EXPECT_DOUBLE_EQ(peer["amplification"].get<double>(), 8192.0 / (100 * 8 * 5));
    EXPECT_EQ(names_in(document["crossover"][1]["engines"]).back(), "right");
    const std::vector<std::string> notes = document["notes"];
    EXPECT_EQ(std::count(notes.begin(), notes.end(), "right: as it should be"), 1);

    const CommandResult table = peers.compare({"--writes", "100"});
    EXPECT_NE(table.out.find("\nright "), std::string::npos) << table.out;
    EXPECT_NE(table.out.find("        ?    8.0 KiB"), std::string::npos) << table.out;
    EXPECT_NE(table.out.find("\nnote: right: as it should be\n"), std::string::npos) << table.out;
    const CommandResult csv = peers.compare({"--writes", "100", "--csv", "-"});
    EXPECT_NE(csv.out.find("\nright,0.5,20000,10000,0.25,4096,,8192,10.24\n"), std::string::npos) << csv.out;
}

/// Whatever a peer does, the others are compared, and one line says for each what was wrong.
TEST(ComparePeersTest, APeerThatDoesBadlyIsLeftOutWithALine) {
    const Peers peers(
        {"endless", "fraction", "garbage", "hang", "killed", "negative", "right", "silent", "status", "text", "wrong"});
    const CommandResult result = peers.compare({"--writes", "10", "--peer-timeout", "3s", "--json"});
    ASSERT_EQ(result.end, tests::kChildExitedWell) << result.err;
    const json document = json::parse(result.out);
    EXPECT_EQ(names_in(document["engines"]), (std::vector<std::string>{"pages", "block-64", "right"}));
    const std::vector<std::string> notes = document["notes"];
    for (const char* line :
         {"endless is left out: it printed more than 64 KiB",
          "fraction is left out: 'copied_bytes' is neither a count of bytes nor null",
          "garbage is left out: what it printed is no JSON object", "hang is left out: it had not ended after 3 s",
          "killed is left out: it was ended by signal 9", "negative is left out: 'write_seconds' is no time",
          "silent is left out: it printed nothing", "status is left out: it ended with status 3: last words",
          "text is left out: 'write_seconds' is not a number",
          "wrong is left out: it does not hold what pages holds after the same writes"}) {
        EXPECT_NE(result.err.find("vmcow compare: " + std::string(line) + "\n"), std::string::npos)
            << line << "; not in: " << result.err;
        EXPECT_EQ(std::count(notes.begin(), notes.end(), line), 1) << line;
    }
    // The process that the peer had started is gone, or waits for init to reap it.
    std::string second;
    std::ifstream(peers.path("pid")) >> second;
    ASSERT_FALSE(second.empty());
    std::string stat;
    std::getline(std::ifstream("/proc/" + second + "/stat"), stat);
    EXPECT_TRUE(stat.empty() || stat.find(") Z") != std::string::npos || stat.find(") X") != std::string::npos) << stat;
}

TEST(ComparePeersTest, WhatIsNotThereIsSaidAndIsNoFailure) {
    const Peers peers({"right", "pages", "a,b"});
    std::ofstream(peers.path("no program.peer")) << "text";
    std::filesystem::create_symlink(FAKE_PEER, peers.path("killed"));  // the name is not that of a peer
    const CommandResult result = peers.compare({"--writes", "10", "--csv", "-"});
    ASSERT_EQ(result.end, tests::kChildExitedWell);
    EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 4) << result.out;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 3) << result.err;
    EXPECT_NE(result.err.find("pages.peer' is left out: pages is an engine"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("a,b.peer' is left out: a name"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("does not have php-array, python-list, rust-arc, rust-im\n"), std::string::npos)
        << result.err;
    const CommandResult none =
        tests::run_command({VMCOW_COMMAND, "compare", "--size", "64K", "--engines", "pages", "--peers"},
                           {.text = "", .environment = {"VMCOW_PEERS=/nowhere/peers"}, .out_path = ""});
    EXPECT_EQ(none.end, tests::kChildExitedWell);
    EXPECT_NE(none.err.find("'/nowhere/peers' does not have php-array"), std::string::npos) << none.err;
}

TEST(ComparePeersTest, WhatMakesNoSenseIsALine) {
    const auto status_of = [](std::vector<std::string> words) {
        words.insert(words.begin(), {VMCOW_COMMAND, "compare", "--size", "64K"});
        const CommandResult result = tests::run_command(words);
        EXPECT_EQ(result.out, "");
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
        return result.end.exit_status;
    };
    EXPECT_EQ(status_of({"--peers", "/nowhere"}), 1);
    EXPECT_EQ(status_of({"--peer-timeout", "1s"}), 2);
    EXPECT_EQ(status_of({"--peers", "/tmp", "--peer-timeout", "1"}), 2);
}

/// With more writes than a peer is given, the engines are compared without it.
TEST(ComparePeersTest, TooManyWritesForAPeerAreSaid) {
    const Peers peers({"right"});
    const CommandResult result =
        peers.compare({"--writes", "100", "--write-bytes", "60000", "--sweep", "1,1000", "--json"});
    ASSERT_EQ(result.end, tests::kChildExitedWell) << result.err;
    const json document = json::parse(result.out);
    EXPECT_EQ(names_in(document["engines"]).back(), "right");
    EXPECT_EQ(names_in(document["crossover"][0]["engines"]).back(), "right");
    EXPECT_EQ(names_in(document["crossover"][1]["engines"]).back(), "block-64");
    EXPECT_NE(result.err.find("the peers were not run with 1,000 writes"), std::string::npos) << result.err;
}

// ---- advice

EngineFigures engine(const char* name, double hand_over_seconds, double write_ns, std::uint64_t memory_bytes) {
    EngineFigures figures;
    figures.name = name;
    figures.hand_over_seconds = hand_over_seconds;
    figures.write_ns = write_ns;
    figures.memory_after_bytes = memory_bytes;
    figures.copied_bytes = 1 << 20;
    return figures;
}

std::string advice(const std::vector<EngineFigures>& engines) {
    return vmcow::meter::advise(engines, {.size_bytes = 1 << 20, .writes = 1000}, 1);
}

TEST(CompareAdviceTest, TheFastestThatLeavesTheCallerItsValueAtOnce) {
    EngineFigures peer = engine("rust-arc", 0, 1, 1);
    peer.is_peer = true;
    const std::string text =
        advice({engine("deep-copy", 0.01, 5, 2 << 20), engine("pages", 1e-6, 2000, 1 << 21),
                engine("moved", 0, 1, 1 << 20), engine("pages-resident", 1e-6, 10, 1 << 21), peer});
    EXPECT_EQ(text.rfind("Use pages (the pages that are written to are copied, 1.00 MiB): ", 0), 0U) << text;
    EXPECT_NE(text.find("took 2 ms, the least"), std::string::npos) << text;
    EXPECT_NE(text.find("a process that is called again and again does it in 11 µs (pages-resident"), std::string::npos)
        << text;
}

TEST(CompareAdviceTest, OfThoseThatAreAsFastTheOneWithLessMemory) {
    const std::string text = advice({engine("deep-copy", 0, 100, 2 << 20), engine("block-64", 0, 105, 1 << 20)});
    EXPECT_EQ(text.rfind("Use block-64", 0), 0U) << text;
    EXPECT_NE(text.find("no more than a tenth above deep-copy"), std::string::npos) << text;
}

TEST(CompareAdviceTest, WhatNeedsMuchLessMemoryIsNamedWithItsPrice) {
    const std::string text = advice({engine("deep-copy", 0, 100, 20 << 20), engine("dedup", 0, 300, 5 << 20)});
    EXPECT_NE(text.find("dedup needs 15.0 MiB less, and 3 times as long"), std::string::npos) << text;
    const std::string close = advice({engine("deep-copy", 0, 100, 1050), engine("dedup", 0, 300, 1000)});
    EXPECT_EQ(close.find("dedup"), std::string::npos) << close;
}

TEST(CompareAdviceTest, WithoutAChoiceThereIsOneAllTheSame) {
    EXPECT_EQ(advice({engine("pages-resident", 0, 1, 1)}).rfind("Use pages-resident", 0), 0U);
    EXPECT_EQ(advice({engine("moved", 0, 1, 1)}), "Nothing was compared that leaves the caller its value.");
}

}  // namespace
