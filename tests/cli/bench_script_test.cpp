// `scripts/bench` without running a benchmark: what it makes of results that already exist.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/support.hpp"

namespace {

using tests::ChildEnd;
using tests::CommandResult;

constexpr ChildEnd kFailed{1, 0};
constexpr ChildEnd kUsageError{2, 0};

/// Three repetitions of `ours/call`, a row that failed, and a row without a partner.
constexpr const char* kResult = R"({
  "context": {"date": "2026-12-01T00:34:00+00:00", "num_cpus": 4, "cpu": "AMD EPYC", "processors": "2",
              "kind": "virtual machine", "kernel": "Linux 6.18.44"},
  "benchmarks": [
    {"run_name": "ours/call/iterations:1/repeats:3/manual_time", "run_type": "iteration", "real_time": 1.5,
     "time_unit": "us", "label": "path resident | 2"},
    {"run_name": "ours/call/iterations:1/repeats:3/manual_time", "run_type": "iteration", "real_time": 1.7,
     "time_unit": "us", "label": "path resident | 2"},
    {"run_name": "ours/call/iterations:1/repeats:3/manual_time", "run_type": "iteration", "real_time": 9.9,
     "time_unit": "us", "label": "path resident | 2"},
    {"run_name": "ours/call/iterations:1/repeats:3/manual_time", "run_type": "aggregate", "aggregate_name": "mean",
     "real_time": 4.4, "time_unit": "us"},
    {"run_name": "ours/parts/manual_time", "run_type": "iteration", "real_time": 30, "time_unit": "ms"},
    {"run_name": "ours/failing/manual_time", "run_type": "iteration", "real_time": 0, "time_unit": "us",
     "error_occurred": true, "error_message": "no memory"},
    {"run_name": "peer/alone", "run_type": "iteration", "real_time": 2, "time_unit": "s"},
    {"run_name": "raw/fork", "run_type": "iteration", "real_time": 61.2, "time_unit": "ms"},
    {"run_name": "raw/write", "run_type": "iteration", "real_time": 700, "time_unit": "ns"}]
})";

constexpr const char* kBars = R"(# Bars of each form.
ours/call <= 1/5000 * raw/fork
ours/call <= 2 * raw/write + raw/write
ours/parts <= 1.25/processors * raw/fork
raw/fork >= 10 * raw/write
? php/write <= 1 * raw/write
)";

constexpr const char* kTable = R"(
| row | time | beside | its time | ratio | bar | remarks |
|---|--:|---|--:|--:|---|---|
| `ours/call` | 1.7 µs | `raw/fork` | 61.2 ms | 1/36000 | ≤ 1/5000 | path resident \| 2 |
| `ours/call` less `raw/write` | 1 µs | `raw/write` | 700 ns | 1.43 | ≤ 2 | |
| `ours/parts` | 30 ms | `raw/fork` | 61.2 ms | 0.49 | ≤ 1.25/processors | |
| `ours/failing` | failed | | | | | no memory |
| `peer/alone` | 2 s | | | | | |
| `raw/fork` | 61.2 ms | `raw/write` | 700 ns | 87429 | ≥ 10 | |
| `php/write` | not run | `raw/write` | 700 ns | ? | ≤ 1, not run | |

Measured on 2026-12-01: AMD EPYC, 2 processors, virtual machine, Linux 6.18.44.

)";

class BenchScriptTest : public testing::Test {
protected:
    void SetUp() override {
        if (tests::run_command({"sh", "-c", "command -v jq"}).end != tests::kChildExitedWell) {
            GTEST_SKIP() << "jq is missing";
        }
        write("sample.json", kResult);
        write("sample.ratios", kBars);
    }

    void write(const std::string& name, const std::string& text) const { std::ofstream(folder_ / name) << text; }
    [[nodiscard]] std::string read(const std::string& name) const {
        std::ifstream file(folder_ / name);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    [[nodiscard]] CommandResult bench(std::vector<std::string> words) const {
        words.insert(words.begin(), {BENCH_SCRIPT, "--results", folder_.path().string()});
        return tests::run_command(words);
    }
    /// Writes the tables of `page.md`.
    [[nodiscard]] CommandResult write_tables() const { return bench({"--markdown", "--page", folder_ / "page.md"}); }

private:
    tests::TemporaryDirectory folder_;
};

/// A block of a page: its marks and the content between them.
std::string block(const std::string& name, const std::string& content) {
    return "<!-- scripts/bench " + name + " -->\n" + content + "<!-- end of " + name + " -->\n";
}

TEST_F(BenchScriptTest, TableOfAResultReplacesWhatIsBetweenItsMarks) {
    write("page.md", "# Costs\n\n" + block("sample", "| an older table |\n") + "\nThe end.\n");
    const CommandResult result = write_tables();
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_EQ(read("page.md"), "# Costs\n\n" + block("sample", kTable) + "\nThe end.\n");
    EXPECT_EQ(write_tables().end, tests::kChildExitedWell);
    EXPECT_EQ(read("page.md"), "# Costs\n\n" + block("sample", kTable) + "\nThe end.\n") << "written again";
}

TEST_F(BenchScriptTest, BlockWithoutAResultKeepsItsTableOrSaysHowToMeasureIt) {
    write("page.md", block("sample", "") + block("other", "\n| kept |\n") + block("empty", "\n\n"));
    EXPECT_EQ(write_tables().end, tests::kChildExitedWell);
    EXPECT_EQ(read("page.md"),
              block("sample", kTable) + block("other", "\n| kept |\n") +
                  block("empty", "\nNot measured yet: `./scripts/bench --markdown empty` writes this table.\n\n"));
}

TEST_F(BenchScriptTest, MissedBarIsMarkedInTheTableAndTheStatusIsOne) {
    write("sample.ratios", "ours/parts <= 1/4 * raw/fork\nours/failing <= 1 * raw/fork\n");
    write("page.md", block("sample", ""));
    const CommandResult result = write_tables();
    EXPECT_EQ(result.end, kFailed);
    EXPECT_NE(result.out.find("2 of 2 bars missed"), std::string::npos) << result.out;
    const std::string page = read("page.md");
    EXPECT_NE(page.find("| 0.49 | ≤ 1/4, **missed** |"), std::string::npos) << page;
    EXPECT_NE(page.find("| failed | `raw/fork` | 61.2 ms | ? | ≤ 1, **missed**: no time | no memory |"),
              std::string::npos)
        << page;
}

TEST_F(BenchScriptTest, ResultsOfHyperfineAreRowsToo) {
    write("sample.json", R"({"context": {"date": "2026-12-01T00:34:00+00:00", "cpu": "AMD EPYC", "processors": "2"},
        "results": [{"command": "sh/3_stages", "median": 3.478, "min": 3.238, "max": 4.125},
                    {"command": "procrun/3_true", "median": 0.0042, "min": 0.00296, "max": 0.02174}]})");
    write("sample.ratios", "");
    write("page.md", block("sample", ""));
    EXPECT_EQ(write_tables().end, tests::kChildExitedWell);
    EXPECT_EQ(read("page.md"), block("sample", R"(
| row | time | remarks |
|---|--:|---|
| `sh/3_stages` | 3.48 s | 3.238 s to 4.125 s |
| `procrun/3_true` | 4.2 ms | 2.96 ms to 21.74 ms |

Measured on 2026-12-01: AMD EPYC, 2 processors, machine, unknown kernel.

)"));
}

TEST_F(BenchScriptTest, EarlierResultIsPrintedAsAfterItsRun) {
    const CommandResult result = bench({"sample"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    EXPECT_NE(result.out.find("\n  ours/call                                                        1.7 us\n"),
              std::string::npos)
        << result.out;
    EXPECT_NE(result.out.find("\n  ours/call <= 2 * raw/write + raw/write                           1.4286  ok\n"),
              std::string::npos)
        << result.out;
}

TEST_F(BenchScriptTest, PageThatLacksAMarkIsNotTouched) {
    for (const std::string& page : {std::string("# Costs\n"), std::string("<!-- scripts/bench sample -->\ntext\n")}) {
        write("page.md", page);
        const CommandResult result = write_tables();
        EXPECT_EQ(result.end, kFailed) << result.out;
        EXPECT_NE(result.err.find("no line <!-- "), std::string::npos) << result.err;
        EXPECT_EQ(read("page.md"), page);
    }
}

TEST_F(BenchScriptTest, WrongCommandLineIsAUsageError) {
    EXPECT_EQ(bench({"--page", "page.md"}).end, kUsageError);
    EXPECT_EQ(bench({"--markdown", "--page", "/nowhere/page.md"}).end, kUsageError);
    EXPECT_EQ(bench({"--", "--benchmark_filter=a"}).end, kUsageError);
    EXPECT_EQ(bench({"absent"}).end, kFailed) << "a result that is not there";
}

// A run looks for the mark of its table on the page, so that every benchmark needs one.
TEST(PerformancePageTest, EveryBenchmarkHasAPlaceForItsTable) {
    const std::filesystem::path root = std::filesystem::path(BENCH_SCRIPT).parent_path().parent_path();
    std::ifstream file(root / "docs/performance.md");
    const std::string page{std::istreambuf_iterator<char>(file), {}};
    int benchmarks = 0;
    for (const auto& entry : std::filesystem::directory_iterator(root / "bench")) {
        if (entry.path().extension() != ".ratios") continue;
        const std::string name = entry.path().stem().string();
        EXPECT_NE(page.find("\n<!-- scripts/bench " + name + " -->\n"), std::string::npos) << name;
        EXPECT_NE(page.find("\n<!-- end of " + name + " -->\n"), std::string::npos) << name;
        ++benchmarks;
    }
    EXPECT_GE(benchmarks, 7);
}

}  // namespace
