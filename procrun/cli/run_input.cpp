#include "procrun/cli/run_input.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "procrun/cli/pipeline_file.hpp"
#include "procrun/program/program_path.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/sys/error.hpp"

namespace procrun::cli {

namespace {

using vmcow::cli::ExitCode;
using vmcow::cli::Failure;
using vmcow::cli::human_bytes;
using vmcow::cli::one_line;

constexpr const char* kBetweenPrograms = ":::";

PipelineText parse_text(const std::string& text) {
    try {
        return parse_pipeline(text);
    } catch (const PipelineSyntaxError& error) {
        // The drawing is for people. A program that reads standard error gets the one line alone.
        if (isatty(STDERR_FILENO) == 1) fmt::print(stderr, "{}", error.pointed(text));
        throw Failure(error.what(), ExitCode::usage);
    }
}

PipelineText parse_words(const std::vector<std::string>& words) {
    PipelineText text;
    text.stages.emplace_back();
    for (const std::string& word : words) {
        if (word == kBetweenPrograms) {
            text.stages.emplace_back();
        } else {
            text.stages.back().argv.push_back(word);
        }
    }
    for (std::size_t i = 0; i < text.stages.size(); ++i) {
        if (text.stages[i].argv.empty()) {
            throw Failure(fmt::format("stage {} is empty: a program is missing beside :::", i + 1), ExitCode::usage);
        }
        if (text.stages[i].argv.front().empty()) {
            throw Failure(fmt::format("stage {}: the program's name is empty", i + 1), ExitCode::usage);
        }
    }
    return text;
}

RunPlan plan_of_file(const std::string& path) {
    try {
        PipelineFile file = read_pipeline_file(path);
        return {.text = std::move(file.text),
                .timeout = file.timeout,
                .kill_after = file.kill_after,
                .pipe_bytes = file.pipe_bytes,
                .retries = file.retries};
    } catch (const PipelineFileError& error) {
        throw Failure(error.what(), ExitCode::usage);
    }
}

template <class Value>
void set_if_none(std::optional<Value>& limit, const std::optional<Value>& for_all) {
    if (!limit) limit = for_all;
}

std::string redirection_text(const Redirection& redirection) {
    switch (redirection.kind) {
        case Redirection::Kind::read:
            return fmt::format("reads '{}'", redirection.file);
        case Redirection::Kind::write:
            return fmt::format("descriptor {} goes to '{}', which is replaced", redirection.descriptor,
                               redirection.file);
        case Redirection::Kind::append:
            return fmt::format("descriptor {} is appended to '{}'", redirection.descriptor, redirection.file);
        case Redirection::Kind::duplicate:
            return fmt::format("descriptor {} goes where {} goes", redirection.descriptor, redirection.source);
    }
    vmcow::sys::assert_failed("Redirection::Kind is one of its enumerators", __FILE__, __LINE__);
}

std::string limits_text(const StageLimits& limits) {
    std::vector<std::string> parts;
    if (limits.memory_bytes) parts.push_back("memory " + human_bytes(*limits.memory_bytes));
    if (limits.processor_time) {
        parts.push_back("processor time " +
                        vmcow::cli::human_seconds(std::chrono::duration<double>(*limits.processor_time).count()));
    }
    if (limits.open_files) parts.push_back(fmt::format("descriptors below {}", *limits.open_files));
    if (limits.output_bytes) parts.push_back("output " + human_bytes(*limits.output_bytes));
    return fmt::format("{}", fmt::join(parts, ", "));
}

std::string program_text(const StageText& stage) {
    const std::string& program = stage.argv.front();
    if (stage.directory) return fmt::format("{}, looked up in '{}' at its start", program, *stage.directory);
    if (const auto missing = find_missing_program(program)) return missing->describe();
    const std::vector<std::string> paths = program_paths(program);
    const auto found = std::find_if(paths.begin(), paths.end(),
                                    [](const std::string& path) { return access(path.c_str(), X_OK) == 0; });
    return found != paths.end() ? *found : program;
}

std::vector<std::size_t> sources_of(const PipelineText& text, std::size_t index) {
    if (const auto& from = text.stages[index].from) return from->stages;
    return index > 0 ? std::vector{index - 1} : std::vector<std::size_t>{};
}

std::vector<std::size_t> readers_of(const PipelineText& text, std::size_t index) {
    std::vector<std::size_t> readers;
    for (std::size_t i = index + 1; i < text.stages.size(); ++i) {
        const std::vector<std::size_t> sources = sources_of(text, i);
        if (std::find(sources.begin(), sources.end(), index) != sources.end()) readers.push_back(i);
    }
    return readers;
}

std::string stages_text(std::vector<std::size_t> stages) {
    for (std::size_t& stage : stages) ++stage;  // people count from 1
    return fmt::format("stage {}", fmt::join(stages, ", "));
}

std::string join_text(const StageText& stage) {
    if (!stage.from || stage.from->stages.size() < 2) return {};
    return stage.from->by_line ? ", by line" : ", one after the other";
}

/// Where the values of a stage come from; empty for a stage that takes no values.
std::string values_text(const RunPlan& plan, std::size_t index) {
    if (!plan.text.stages[index].values.value_or(false)) return {};
    std::vector<std::size_t> sources = sources_of(plan.text, index);
    if (sources.empty()) return plan.values.empty() ? "none come to it" : "those that are given below";
    std::erase_if(sources, [&](std::size_t source) { return !plan.text.stages[source].values.value_or(false); });
    return sources.empty() ? "none come to it" : "what comes out of " + stages_text(sources);
}

std::string stage_text(const RunPlan& plan, std::size_t index) {
    const PipelineText& text = plan.text;
    const StageText& stage = text.stages[index];
    std::string lines = fmt::format("stage {}  {}\n", index + 1, one_line(quote_words(stage.argv)));
    const auto add = [&](const std::string& line) { lines += "         " + one_line(line) + "\n"; };
    if (!stage.name.empty()) add("name       " + stage.name);
    add("program    " + program_text(stage));
    const std::vector<std::size_t> sources = sources_of(text, index);
    if (!sources.empty()) add("input      " + stages_text(sources) + join_text(stage));
    const std::vector<std::size_t> readers = readers_of(text, index);
    if (!readers.empty()) add("output     " + stages_text(readers));
    if (const std::string values = values_text(plan, index); !values.empty()) add("values     " + values);
    for (const Redirection& redirection : stage.redirections) add("file       " + redirection_text(redirection));
    if (stage.directory) add("directory  " + *stage.directory);
    for (const auto& [name, value] : stage.variables) {
        add(value ? fmt::format("variable   {}={}", name, *value) : fmt::format("variable   {} is removed", name));
    }
    if (stage.limits != StageLimits{}) add("limits     " + limits_text(stage.limits));
    return lines;
}

}  // namespace

RunPlan read_plan(const RunInput& input) {
    if (input.file && !input.words.empty()) {
        throw Failure("a pipeline and --file: give one of them, not both", ExitCode::usage);
    }
    if (!input.file && input.words.empty()) {
        throw Failure("a pipeline is missing: procrun run -- 'sort words | uniq -c'", ExitCode::usage);
    }
    RunPlan plan;
    if (input.file) {
        plan = plan_of_file(*input.file);
    } else {
        plan.text = input.words.size() == 1 ? parse_text(input.words.front()) : parse_words(input.words);
    }
    plan.value_files = input.values;
    plan.saved_values = input.saved_values;
    for (const std::string& file : input.values) {
        vmcow::LoadedImage loaded = vmcow::load_image(file);
        plan.values.push_back({std::move(loaded.snapshot), loaded.type});
    }
    const bool has_values = !plan.values.empty() || !plan.saved_values.empty();
    for (StageText& stage : plan.text.stages) {
        set_if_none(stage.values, std::optional(has_values));
        set_if_none(stage.limits.memory_bytes, input.limits.memory_bytes);
        set_if_none(stage.limits.processor_time, input.limits.processor_time);
        set_if_none(stage.limits.open_files, input.limits.open_files);
        set_if_none(stage.limits.output_bytes, input.limits.output_bytes);
    }
    return plan;
}

std::string text_of(const RunPlan& plan) {
    std::string text;
    for (std::size_t i = 0; i < plan.text.stages.size(); ++i) text += stage_text(plan, i);
    const auto seconds = [](std::chrono::nanoseconds time) {
        return vmcow::cli::human_seconds(std::chrono::duration<double>(time).count());
    };
    for (std::size_t i = 0; i < plan.values.size(); ++i) {
        text += fmt::format("value    {} is '{}', {}\n", i, one_line(plan.value_files[i]),
                            human_bytes(plan.values[i].snapshot.extent_bytes()));
    }
    for (std::size_t i = 0; i < plan.saved_values.size(); ++i) {
        text += fmt::format("save     value {} that comes out at the end as '{}'\n", i, one_line(plan.saved_values[i]));
    }
    if (plan.pipe_bytes)
        text += fmt::format("pipes    {} each, where the kernel grants it\n", human_bytes(*plan.pipe_bytes));
    if (plan.timeout) {
        text += fmt::format("timeout  {}", seconds(*plan.timeout));
        text += plan.kill_after ? fmt::format(", and SIGKILL {} after SIGTERM\n", seconds(*plan.kill_after)) : "\n";
    }
    if (plan.retries) text += fmt::format("retry    up to {} times when it fails\n", *plan.retries);
    return text;
}

}  // namespace procrun::cli
