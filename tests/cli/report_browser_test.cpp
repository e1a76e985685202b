// The pages of `vmcow report` as a browser shows them.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tests/cli/report_documents.hpp"
#include "tests/support/support.hpp"
#include "vmcow/cli/kit/html_document.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using tests::CommandResult;
using tests::Json;
using tests::TemporaryDirectory;

constexpr const char* kBrowser = "/usr/bin/chromium";

void write_file(const std::string& path, const std::string& text) {
    const vmcow::sys::UniqueFd file = vmcow::sys::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    vmcow::sys::write_all(file.get(), std::as_bytes(std::span(text)), path);
}

/// Makes `name`.html of documents.
void make_report(const TemporaryDirectory& folder, const std::string& name, const std::vector<Json>& documents) {
    std::vector<std::string> words = {VMCOW_COMMAND, "report", "--html", folder / (name + ".html")};
    for (std::size_t i = 0; i < documents.size(); ++i) {
        words.push_back(folder / (name + std::to_string(i) + ".json"));
        write_file(words.back(), documents[i].dump());
    }
    const CommandResult result = tests::run_command(words);
    ASSERT_EQ(result.end, tests::kChildExitedWell) << result.err;
}

/// A page that holds each page in frames: at the width of a desk and of a phone, in light and in dark colours. The
/// title gets what each frame reports of itself.
std::string page_of_frames(const std::vector<std::string>& pages) {
    std::string frames;
    for (const char* look : {"color-scheme:light;width:1200px", "color-scheme:light;width:390px",
                             "color-scheme:dark;width:1200px", "color-scheme:dark;width:390px"}) {
        for (const std::string& page : pages) {
            frames += "<iframe src=\"" + page + ".html#check\" style=\"height:700px;" + look + "\"></iframe>";
        }
    }
    return "<!DOCTYPE html><title></title>" + frames + R"(<script>
addEventListener('load', () => {
  document.title = JSON.stringify([...document.querySelectorAll('iframe')].map(frame => ({
    page: frame.getAttribute('src'), look: frame.getAttribute('style'),
    ...frame.contentDocument.documentElement.dataset })));
});</script>)";
}

/// What the browser makes of the page at `path`: the HTML, and the messages of its console on standard error.
CommandResult browse(const TemporaryDirectory& folder, const std::string& path) {
    return tests::run_command({"timeout", "100", kBrowser, "--headless", "--no-sandbox", "--disable-gpu",
                               "--disable-quic", "--no-first-run", "--disable-background-networking",
                               "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
                               "--user-data-dir=" + (folder / "browser"), "--allow-file-access-from-files",
                               "--enable-logging=stderr", "--dump-dom", "file://" + path});
}

std::vector<std::string> console_of(const std::string& log) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; (at = log.find("CONSOLE", at)) != std::string::npos;) {
        const std::size_t end = log.find('\n', at);
        lines.push_back(log.substr(at, end - at));
        at = end;
    }
    return lines;
}

/// Every chart of every kind of page is drawn without an error, at the width of a desk and of a phone, in light and in
/// dark colours. A page with an empty chart and an error shows that the test would see either.
TEST(ReportBrowserTest, ABrowserDrawsEveryChartAndFindsNothingWrong) {
    if (!std::filesystem::exists(kBrowser)) GTEST_SKIP() << "no " << kBrowser << " here (Debian's package chromium)";
    const TemporaryDirectory folder;
    const Json watch = tests::watch_document({.command = "</script><script>throw 1</script>"});
    make_report(folder, "measure", {tests::measure_document()});
    make_report(folder, "watch", {watch});
    make_report(folder, "compare", {tests::compare_document()});
    make_report(folder, "difference", {tests::watch_document(), watch});
    make_report(folder, "many", {watch, watch, watch, watch, watch});
    (void)tests::run_command({PROCRUN_COMMAND, "run", "--quiet", "--html", folder / "pipeline.html", "--",
                              "timeout 3 yes | cat >/dev/null"});
    write_file(folder / "wrong.html",
               vmcow::cli::html_document({.title = "wrong",
                                          .body = "<div class=\"chart\"><canvas id=\"c\"></canvas></div>",
                                          .json = "{}",
                                          .script = "chart('c', () => ({ type: 'line', data: { datasets: [] } }));"
                                                    "throw new Error('seen');"}));
    write_file(folder / "all.html",
               page_of_frames({"measure", "watch", "compare", "difference", "many", "pipeline", "wrong"}));

    const CommandResult shown = browse(folder, folder / "all.html");
    ASSERT_EQ(shown.end, tests::kChildExitedWell) << shown.err;
    const std::size_t begin = shown.out.find("<title>") + 7;
    const Json pages = Json::parse(shown.out.substr(begin, shown.out.find("</title>") - begin));
    ASSERT_EQ(pages.size(), 28U);
    for (const Json& page : pages) {
        const bool wrong = page.at("page") == "wrong.html#check";
        ASSERT_TRUE(page.contains("charts")) << page;
        EXPECT_GE(std::stoi(page.at("charts").get<std::string>()), wrong ? 1 : 5) << page;
        const int drawn = std::stoi(page.at("chartsDrawn").get<std::string>());
        EXPECT_EQ(drawn, wrong ? 0 : std::stoi(page.at("charts").get<std::string>())) << page;
        const bool dark = page.at("look").get<std::string>().find("dark") != std::string::npos;
        EXPECT_EQ(page.at("dark"), dark ? "true" : "false") << page;
        EXPECT_LE(std::stoi(page.at("tooWide").get<std::string>()), 0) << page;
    }
    const std::vector<std::string> console = console_of(shown.err);
    EXPECT_EQ(console.size(), 4U) << shown.err;
    for (const std::string& line : console) EXPECT_NE(line.find("Error: seen"), std::string::npos) << line;
}

}  // namespace
