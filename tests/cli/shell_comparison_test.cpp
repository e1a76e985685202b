// Every pipeline text that `procrun run` accepts does what bash and dash make of it.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "procrun/pipeline/pipeline_text.hpp"
#include "procrun/program/program_path.hpp"
#include "tests/cli/pipeline_texts.hpp"
#include "tests/support/support.hpp"
#include "vmcow/sys/fd.hpp"

namespace {

using tests::PipelineTexts;
using tests::TemporaryDirectory;
using vmcow::sys::read_text_file;
using vmcow::sys::UniqueFd;

constexpr std::uint64_t kSeed = 20;
constexpr const char* kPatience = "100";

void write_file(const std::string& path, const std::string& text) {
    const UniqueFd file = vmcow::sys::open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    vmcow::sys::write_all(file.get(), std::as_bytes(std::span(text)), path);
}

std::string in_single_quotes(std::string_view text) {
    std::string quoted = "'";
    for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return quoted + "'";
}

/// Sorts the lines, because stages finish in any order.
std::string sorted_lines(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    std::sort(lines.begin(), lines.end());
    std::string sorted;
    for (const std::string& line : lines) sorted += line + "\n";
    return sorted;
}

/// The shell or command that runs a text. The script of a batch calls it `run`.
struct Runner {
    std::string name;
    std::string shell;    ///< executes the script
    std::string command;  ///< gets the text as $1
};

/// Everything that one run of a text shows.
struct Trace {
    std::string status;
    std::string stages;  ///< each stage's own account of its words, descriptors and input
    std::string out;
    std::string err;
    std::map<std::string, std::string> files;  ///< the files in the directory where it ran

    bool operator==(const Trace&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Trace& trace) {
    out << "status " << trace.status << trace.stages << "out: " << trace.out << "err: " << trace.err;
    for (const auto& [name, text] : trace.files) out << "file '" << name << "': " << text << "\n";
    return out;
}

/// Runs texts, each in a new directory that holds a file `in`, and keeps their traces.
class Batch {
public:
    explicit Batch(const std::vector<std::string>& texts) : texts_(texts) {
        std::filesystem::create_directory(folder_ / "bin");
        std::filesystem::create_symlink(SHOW_STAGE, folder_ / "bin/show");
        std::filesystem::create_directory(folder_ / "home");
    }

    std::vector<Trace> run(const Runner& runner) const {
        const std::string root = folder_ / runner.name;
        std::filesystem::create_directory(root);
        // All shells get the same directories, so that their answers cannot differ because of them.
        std::string script = "export SHOW_LOG=../stages HOME=" + in_single_quotes(folder_ / "home") +
                             " PATH=" + in_single_quotes(folder_ / "bin") + ":/usr/bin:/bin LC_ALL=C.UTF-8\n" +
                             "run() {\n    ( " + runner.command +
                             " ) < /dev/null > ../out 2> ../err\n    echo $? > ../status\n}\n";
        for (std::size_t i = 0; i < texts_.size(); ++i) {
            const std::string place = root + "/" + std::to_string(i) + "/here";
            std::filesystem::create_directories(place);
            write_file(place + "/in", "what is in it\n");
            script += "cd " + in_single_quotes(place) + "\nrun " + in_single_quotes(texts_[i]) + "\n";
        }
        write_file(root + "/script", script);
        // A text that is no pipeline in that shell can wait for ever; all processes end with the batch.
        const tests::CommandResult result =
            tests::run_command({"timeout", "--kill-after=5", kPatience, runner.shell, root + "/script"});
        EXPECT_EQ(result.end, tests::kChildExitedWell) << runner.name << ": " << result.err;
        std::vector<Trace> traces;
        for (std::size_t i = 0; i < texts_.size(); ++i) traces.push_back(trace_in(root + "/" + std::to_string(i)));
        return traces;
    }

private:
    static Trace trace_in(const std::string& root) {
        const auto text_of = [&](const std::string& name) {
            const std::string path = root + "/" + name;
            return std::filesystem::exists(path) ? read_text_file(path) : "";
        };
        Trace trace{.status = text_of("status"),
                    .stages = sorted_lines(text_of("stages")),
                    .out = sorted_lines(text_of("out")),
                    .err = sorted_lines(text_of("err")),
                    .files = {}};
        for (const auto& entry : std::filesystem::directory_iterator(root + "/here")) {
            trace.files[entry.path().filename()] = sorted_lines(read_text_file(entry.path()));
        }
        return trace;
    }

    const std::vector<std::string>& texts_;
    TemporaryDirectory folder_;
};

bool is_taken(const std::string& text) {
    try {
        return !procrun::parse_pipeline(text).stages.empty();
    } catch (const procrun::PipelineSyntaxError&) {
        return false;
    }
}

/// Whether the files that a text reads are there. `procrun run` opens files before anything starts, and starts nothing
/// without one; a shell runs the other stages.
bool has_its_input(const std::string& text) {
    for (const procrun::StageText& stage : procrun::parse_pipeline(text).stages) {
        for (const procrun::Redirection& redirection : stage.redirections) {
            const bool reads = redirection.kind == procrun::Redirection::Kind::read;
            if (reads && redirection.file != "in" && !redirection.file.starts_with("/")) return false;
        }
    }
    return true;
}

/// Checks that `texts` are all accepted, and do here what they do in bash and in dash.
void expect_same_as_in_shells(const std::vector<std::string>& texts) {
    const Batch batch(texts);
    // In a script, eval reads a text as `sh -c` does, without one more process for each text.
    const std::vector<Trace> here =
        batch.run({"here", "dash", in_single_quotes(PROCRUN_COMMAND) + " run --quiet -- \"$1\""});
    const std::vector<Trace> bash = batch.run({"bash", "bash", "eval \"$1\""});
    const std::vector<Trace> dash = batch.run({"dash", "dash", "eval \"$1\""});
    for (std::size_t i = 0; i < texts.size(); ++i) {
        EXPECT_EQ(here[i], bash[i]) << "bash, text " << i << ": " << in_single_quotes(texts[i]);
        EXPECT_EQ(here[i], dash[i]) << "dash, text " << i << ": " << in_single_quotes(texts[i]);
    }
}

class ShellComparisonTest : public testing::Test {
protected:
    void SetUp() override {
        for (const char* const shell : {"bash", "dash"}) {
            if (procrun::find_missing_program(shell)) GTEST_SKIP() << shell << " is missing";
        }
    }
};

/// VMCOW_PIPELINES, or a number that runs in a short time.
std::size_t number_of_texts() {
    const char* const wanted = std::getenv("VMCOW_PIPELINES");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    constexpr std::size_t kUsual = 100;  // a sanitized program takes long to start
#else
    constexpr std::size_t kUsual = 400;
#endif
    return wanted != nullptr ? std::stoul(wanted) : kUsual;
}

TEST_F(ShellComparisonTest, ATextThatShellsReadInTheirOwnWayIsTakenOnlyIfItIsReadSo) {
    std::vector<std::string> taken;
    for (const char* const text : {"show 1\\\n>f",      "show > 2>&1",
                                   "show a=~",          "show >&2>&1",
                                   "show 2>&1>f",       "show > 22>&1",
                                   "show a=b:~",        "show a+=~",
                                   "show > a=~",        "show a=\\\n~",
                                   "show 2\\\n>&1",     "show 2>\\\n&1",
                                   "show a |\\\n show", "show \\\n~",
                                   "show \\\n#a",       "sh\\\now a\\\n#b",
                                   "A\\\n=b show",      "i\\\nf",
                                   "time show",         "show | time show",
                                   "show 2>\\\n\\\n>f", "show '1'\\\n>f",
                                   "show 1\\\n2>f",     "show a2>&1",
                                   "show >f2>&1",       "show >f 2>\\\n&\\\n1",
                                   "show --o=~",        "show h:~"}) {
        if (is_taken(text)) taken.emplace_back(text);
    }
    EXPECT_GE(taken.size(), 8U);
    expect_same_as_in_shells(taken);
}

// Wild texts find what is accepted by mistake; plain texts fail a parser that refuses everything.
TEST_F(ShellComparisonTest, RandomPipelinesThatAreTakenDoTheSameInBashAndDash) {
    constexpr std::size_t kBatch = 500;
    PipelineTexts source(kSeed);
    std::size_t plain = 0;
    std::size_t plain_taken = 0;
    std::size_t wild_taken = 0;
    for (std::size_t left = number_of_texts(); left > 0 && !HasFailure();) {
        std::vector<std::string> taken;
        for (std::size_t i = std::min(left, kBatch); i > 0; --i, --left) {
            const bool is_plain = left % 2 == 0;
            std::string text = source.next(is_plain ? PipelineTexts::Kind::plain : PipelineTexts::Kind::wild);
            if (is_plain) ++plain;
            if (!is_taken(text) || !has_its_input(text)) continue;
            ++(is_plain ? plain_taken : wild_taken);
            taken.push_back(std::move(text));
        }
        expect_same_as_in_shells(taken);
    }
    EXPECT_GE(2 * plain_taken, plain) << "of those that all shells know";
    RecordProperty("taken", std::to_string(plain_taken) + " of " + std::to_string(plain) + " plain, " +
                                std::to_string(wild_taken) + " wild");
    EXPECT_GT(wild_taken, 0U);
}

}  // namespace
