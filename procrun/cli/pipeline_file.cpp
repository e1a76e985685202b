#include "procrun/cli/pipeline_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <functional>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/sys/bounded_read.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::cli {

namespace {

using vmcow::cli::parse_count;
using vmcow::cli::parse_duration;
using vmcow::cli::parse_size;

/// Reads the tables of one file. Every error names the place in the file.
class Reader {
public:
    explicit Reader(std::string name) : name_(std::move(name)) {}

    PipelineFile read(const toml::table& root) {
        check_keys(root, {"stage", "timeout", "kill_after", "pipe_size", "retry"});
        PipelineFile file;
        set(file.timeout, root, "timeout", parse_duration);
        set(file.kill_after, root, "kill_after", parse_duration);
        set(file.pipe_bytes, root, "pipe_size", parse_size);
        set_count(file.retries, root, "retry");
        const toml::array* const stages = root["stage"].as_array();
        if (stages == nullptr || stages->empty()) fail(root.source(), "there is no stage; each begins with [[stage]]");
        for (const toml::node& node : *stages) {
            const toml::table* const stage = node.as_table();
            if (stage == nullptr) fail(node.source(), "a stage is a table; each begins with [[stage]]");
            where_ = fmt::format("stage {}: ", file.text.stages.size() + 1);
            StageText text = read_stage(*stage);
            read_sources(text, *stage, file.text.stages);
            file.text.stages.push_back(std::move(text));
        }
        return file;
    }

private:
    [[noreturn]] void fail(const toml::source_region& at, const std::string& reason) const {
        throw PipelineFileError(fmt::format("{}:{}:{}: {}{}", name_, at.begin.line, at.begin.column, where_, reason));
    }

    void check_keys(const toml::table& table, std::initializer_list<std::string_view> known) const {
        for (const auto& [key, value] : table) {
            if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
            fail(key.source(), fmt::format("unknown key '{}'; there are: {}", key.str(), fmt::join(known, ", ")));
        }
    }

    [[nodiscard]] std::string text_of(const toml::node& node, std::string_view key) const {
        const auto* const text = node.as_string();
        if (text == nullptr) fail(node.source(), fmt::format("'{}' is no string", key));
        if (text->get().find('\0') != std::string::npos) fail(node.source(), fmt::format("a zero byte in '{}'", key));
        return text->get();
    }

    template <class Target, class Parse>
    void set(Target& target, const toml::table& table, std::string_view key, Parse parse) const {
        const toml::node* const node = table.get(key);
        if (node == nullptr) return;
        try {
            target = parse(text_of(*node, key));
        } catch (const std::invalid_argument& error) {
            fail(node->source(), fmt::format("{}: {}", key, error.what()));
        }
    }

    void set_count(std::optional<std::uint64_t>& target, const toml::table& table, std::string_view key) const {
        const toml::node* const node = table.get(key);
        if (node == nullptr) return;
        const auto* const number = node->as_integer();
        if (number == nullptr || number->get() < 0) fail(node->source(), fmt::format("'{}' is no count", key));
        target = static_cast<std::uint64_t>(number->get());
    }

    StageText read_stage(const toml::table& table) {
        check_keys(table, {"name", "from", "join", "run", "argv", "stdin", "stdout", "stderr", "directory",
                           "environment", "limits", "values"});
        StageText stage = read_program(table);
        const auto same = [](const std::string& text) { return text; };
        set(stage.name, table, "name", same);
        set(stage.directory, table, "directory", same);
        for (const auto& [key, descriptor] : {std::pair{"stdin", 0}, std::pair{"stdout", 1}, std::pair{"stderr", 2}}) {
            std::optional<std::string> file;
            set(file, table, key, same);
            if (!file) continue;
            const auto kind = descriptor == 0 ? Redirection::Kind::read : Redirection::Kind::write;
            stage.redirections.push_back({.kind = kind, .descriptor = descriptor, .source = -1, .file = *file});
        }
        if (const toml::node* const node = table.get("environment")) read_environment(stage, *node);
        if (const toml::node* const node = table.get("values")) {
            const auto* const flag = node->as_boolean();
            if (flag == nullptr) fail(node->source(), "'values' is true or false");
            stage.values = flag->get();
        }
        if (const toml::node* const node = table.get("limits")) read_limits(stage.limits, *node);
        return stage;
    }

    void read_sources(StageText& stage, const toml::table& table, const std::vector<StageText>& before) const {
        const toml::node* const from = table.get("from");
        const toml::node* const join = table.get("join");
        if (from == nullptr && join == nullptr) return;
        if (from == nullptr)
            fail(join->source(), "'join' says how several stages of 'from' become one; 'from' is missing");
        StageSources sources;
        if (const toml::array* const names = from->as_array()) {
            for (const toml::node& name : *names) add_source(sources, name, before);
        } else {
            add_source(sources, *from, before);
        }
        if (join != nullptr) {
            const std::string order = text_of(*join, "join");
            if (order != "lines" && order != "order") fail(join->source(), "'join' is \"lines\" or \"order\"");
            sources.by_line = order == "lines";
        }
        stage.from = std::move(sources);
    }

    void add_source(StageSources& sources, const toml::node& node, const std::vector<StageText>& before) const {
        const std::string name = text_of(node, "from");
        const auto named = [&](const StageText& stage) { return !name.empty() && stage.name == name; };
        const auto found = std::find_if(before.begin(), before.end(), named);
        if (found == before.end()) fail(node.source(), fmt::format("no stage above is named '{}'", name));
        const auto index = static_cast<std::size_t>(found - before.begin());
        if (std::find(sources.stages.begin(), sources.stages.end(), index) != sources.stages.end()) {
            fail(node.source(), fmt::format("'{}' stands twice in 'from'", name));
        }
        if (std::find_if(found + 1, before.end(), named) != before.end()) {
            fail(node.source(), fmt::format("two stages above are named '{}'", name));
        }
        sources.stages.push_back(index);
    }

    StageText read_program(const toml::table& table) const {
        const toml::node* const run = table.get("run");
        const toml::node* const argv = table.get("argv");
        if ((run == nullptr) == (argv == nullptr))
            fail(table.source(), "a stage has either 'run' or 'argv', to say what to run");
        return run != nullptr ? read_run(*run) : read_argv(*argv);
    }

    StageText read_run(const toml::node& node) const {
        PipelineText parsed;
        try {
            parsed = parse_pipeline(text_of(node, "run"));
        } catch (const PipelineSyntaxError& error) {
            fail(node.source(), fmt::format("run: {}", error.what()));
        }
        if (parsed.stages.size() != 1) fail(node.source(), "'run' is one program; each has a [[stage]] of its own");
        return std::move(parsed.stages.front());
    }

    StageText read_argv(const toml::node& node) const {
        const toml::array* const words = node.as_array();
        if (words == nullptr || words->empty()) fail(node.source(), "'argv' is a list of at least one string");
        StageText stage;
        for (const toml::node& word : *words) stage.argv.push_back(text_of(word, "argv"));
        return stage;
    }

    void read_environment(StageText& stage, const toml::node& node) const {
        const toml::table* const table = node.as_table();
        if (table == nullptr) fail(node.source(), "'environment' is a table of names and strings");
        for (const auto& [key, value] : *table) {
            const std::string variable(key.str());
            if (variable.empty() || variable.find_first_of(std::string_view("=\0", 2)) != std::string::npos) {
                fail(key.source(), fmt::format("'{}' is no name of a variable", variable));
            }
            const auto* const taken = value.as_boolean();
            if (taken != nullptr && taken->get()) fail(value.source(), "a variable is a string, or false to remove it");
            stage.variables[variable] = taken != nullptr ? std::nullopt : std::optional(text_of(value, variable));
        }
    }

    void read_limits(StageLimits& limits, const toml::node& node) const {
        const toml::table* const table = node.as_table();
        if (table == nullptr) fail(node.source(), "'limits' is a table");
        check_keys(*table, {"memory", "cpu", "files", "output"});
        set(limits.memory_bytes, *table, "memory", parse_size);
        set(limits.processor_time, *table, "cpu", parse_duration);
        set(limits.output_bytes, *table, "output", parse_size);
        set_count(limits.open_files, *table, "files");
    }

    std::string name_;
    std::string where_;
};

}  // namespace

PipelineFile parse_pipeline_file(const std::string& toml, const std::string& name) {
    toml::table root;
    try {
        root = toml::parse(toml);
    } catch (const toml::parse_error& error) {
        throw PipelineFileError(fmt::format("{}:{}:{}: {}", name, error.source().begin.line,
                                            error.source().begin.column, error.description()));
    }
    return Reader(name).read(root);
}

PipelineFile read_pipeline_file(const std::string& path) {
    const bool is_input = path == "-";
    const std::string name = is_input ? "standard input" : path;
    const auto toml = vmcow::sys::read_at_most(is_input ? "/proc/self/fd/0" : path, kMostPipelineFileBytes);
    if (!toml) {
        throw PipelineFileError(fmt::format("{}: larger than a pipeline can be: {}", name,
                                            vmcow::cli::human_bytes(kMostPipelineFileBytes)));
    }
    return parse_pipeline_file(*toml, name);
}

}  // namespace procrun::cli
