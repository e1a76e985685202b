#include <fmt/format.h>

#include <cmath>

#include "vmcow/cli/compare/compare_formats.hpp"
#include "vmcow/cli/kit/human.hpp"

namespace vmcow::cli {
namespace {

using meter::EngineFigures;
using meter::Workload;

std::string bytes_text(const std::optional<std::uint64_t>& bytes) { return bytes ? human_bytes(*bytes) : "?"; }

std::string amplification_text(const std::optional<double>& times) {
    if (!times) return "?";
    return *times < 1000 ? fmt::format("{:.2f}", *times)
                         : human_count(static_cast<std::uint64_t>(std::llround(*times)));
}

template <class T>
std::string cell(const std::optional<T>& value) {
    return value ? fmt::format("{}", *value) : "";
}

}  // namespace

std::string compare_text(const CompareOptions& options, const CompareResult& result) {
    const Workload& workload = options.workload;
    std::string text =
        fmt::format("{} {}, {}, by {} {}, to a value of {}\n\n", human_count(workload.writes),
                    workload.writes == 1 ? "write" : "writes", name_of(workload.pattern), options.children,
                    options.children == 1 ? "child" : "children one after the other", human_bytes(workload.size_bytes));
    text += fmt::format("{:<15}{:>10}{:>11}{:>10}{:>10}{:>11}{:>11}{:>11}{:>10}\n", "engine", "build", "hand over",
                        "a read", "a write", "before", "after", "copied", "amplif.");
    for (const EngineFigures& engine : result.engines) {
        text += fmt::format("{:<15}{:>10}{:>11}{:>10}{:>10}{:>11}{:>11}{:>11}{:>10}\n", engine.name,
                            human_seconds(engine.build_seconds), human_seconds(engine.hand_over_seconds),
                            human_seconds(engine.read_ns * 1e-9), human_seconds(engine.write_ns * 1e-9),
                            bytes_text(engine.memory_before_bytes), bytes_text(engine.memory_after_bytes),
                            bytes_text(engine.copied_bytes), amplification_text(engine.amplification));
    }
    text += '\n' + meter::advise(result.engines, workload, options.children) + '\n';
    for (const std::string& note : result.notes) text += fmt::format("note: {}\n", note);
    return text;
}

std::string compare_csv(const CompareResult& result) {
    std::string text =
        "name,build_seconds,read_ns,write_ns,hand_over_seconds,memory_before_bytes,memory_after_bytes,copied_bytes,"
        "amplification\n";
    for (const EngineFigures& engine : result.engines) {
        text += fmt::format("{},{},{},{},{},{},{},{},{}\n", engine.name, engine.build_seconds, engine.read_ns,
                            engine.write_ns, engine.hand_over_seconds, cell(engine.memory_before_bytes),
                            cell(engine.memory_after_bytes), cell(engine.copied_bytes), cell(engine.amplification));
    }
    return text;
}

}  // namespace vmcow::cli
