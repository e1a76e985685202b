// `scripts/real_programs` where none of its programs is installed.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/support.hpp"

namespace {

using tests::ChildEnd;
using tests::CommandResult;
using tests::TemporaryDirectory;

CommandResult real_programs(std::vector<std::string> words, const std::vector<std::string>& environment = {}) {
    words.insert(words.begin(), REAL_PROGRAMS);
    words.insert(words.begin(), environment.begin(), environment.end());
    words.insert(words.begin(), "env");
    return tests::run_command(words);
}

/// Expects one line on standard error that holds `thing`, and nothing on standard output.
void expect_usage_error(const CommandResult& result, const std::string& thing) {
    EXPECT_EQ(result.end, (ChildEnd{2, 0})) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(thing), std::string::npos) << result.err << "; not: " << thing;
}

/// Links the tools of the script into `folder`, but no servers. `jq` is a link to `true`, which does nothing.
void link_tools(const TemporaryDirectory& folder) {
    for (const char* tool : {"bash", "env", "realpath", "dirname", "mkdir", "mktemp", "rm", "sed", "true"}) {
        for (const char* place : {"/usr/bin/", "/bin/"}) {
            if (!std::filesystem::exists(std::string(place) + tool)) continue;
            std::filesystem::create_symlink(std::string(place) + tool, folder / tool);
            break;
        }
    }
    std::filesystem::create_symlink(folder / "true", folder / "jq");
}

TEST(RealProgramsTest, HelpNamesEachProgramAndFlag) {
    const CommandResult result = real_programs({"--help"});
    EXPECT_EQ(result.end, tests::kChildExitedWell) << result.err;
    for (const char* word :
         {"redis", "gunicorn", "puma", "php", "--no-install", "--html", "--json", "--text", "--vmcow"}) {
        EXPECT_NE(result.out.find(std::string("  ") + word), std::string::npos) << word << " in " << result.out;
    }
}

TEST(RealProgramsTest, WrongCommandLineIsAUsageErrorBeforeAnythingIsDone) {
    expect_usage_error(real_programs({"memcached"}), "memcached: none of redis, gunicorn, puma, php");
    expect_usage_error(real_programs({"php", "nginx"}), "nginx: none of");
    expect_usage_error(real_programs({"--htm", "a"}), "unknown flag --htm");
    expect_usage_error(real_programs({"--html"}), "--html needs a value");
    expect_usage_error(real_programs({"--json", ""}), "--json needs a value");
}

TEST(RealProgramsTest, WhatIsNotInstalledIsLeftOutInOneLineAndNothingStays) {
    const TemporaryDirectory folder;
    const TemporaryDirectory temporary;
    link_tools(folder);
    const CommandResult result =
        real_programs({"--no-install", "--vmcow", VMCOW_COMMAND, "--json", folder / "json", "--html", folder / "page",
                       "redis", "php"},
                      {"PATH=" + folder.path().string(), "TMPDIR=" + temporary.path().string()});
    EXPECT_EQ(result.end, (ChildEnd{1, 0}));
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err,
              "redis: no redis-benchmark here, it is left out: run without --no-install\n"
              "php: no php here, it is left out: run without --no-install\n"
              "real_programs: nothing was run\n");
    EXPECT_FALSE(std::filesystem::exists(folder / "page"));
    EXPECT_TRUE(std::filesystem::is_empty(temporary.path()));
}

}  // namespace
