#include "vmcow/cli/compare/compare_formats.hpp"

namespace vmcow::cli {
namespace {

using meter::EngineFigures;
using meter::Workload;
using Json = nlohmann::ordered_json;

template <class T>
Json json_of(const std::optional<T>& value) {
    return value ? Json(*value) : Json();
}

Json json_of(const EngineFigures& engine) {
    Json json{{"name", engine.name},
              {"build_seconds", engine.build_seconds},
              {"read_ns", engine.read_ns},
              {"write_ns", engine.write_ns},
              {"hand_over_seconds", engine.hand_over_seconds},
              {"memory_before_bytes", json_of(engine.memory_before_bytes)},
              {"memory_after_bytes", json_of(engine.memory_after_bytes)},
              {"copied_bytes", json_of(engine.copied_bytes)},
              {"amplification", json_of(engine.amplification)}};
    if (engine.is_peer) json["peer"] = true;
    return json;
}

Json json_of(const CompareOptions& options, const Crossover& step) {
    Workload workload = options.workload;
    workload.writes = step.writes;
    Json all = Json::array();
    for (const EngineFigures& engine : step.engines) {
        all.push_back({{"name", engine.name},
                       {"total_memory_bytes", json_of(engine.memory_after_bytes)},
                       {"total_seconds", engine.total_seconds(workload, options.children)}});
        if (engine.is_peer) all.back()["peer"] = true;
    }
    return {{"writes", step.writes}, {"engines", std::move(all)}};
}

}  // namespace

Json compare_json(const CompareOptions& options, const CompareResult& result) {
    const Workload& workload = options.workload;
    Json json{{"kind", "compare"},
              {"workload",
               {{"size_bytes", workload.size_bytes},
                {"writes", workload.writes},
                {"write_bytes", workload.write_bytes},
                {"pattern", name_of(workload.pattern)},
                {"aligned", workload.aligned},
                {"seed", workload.seed},
                {"rewrite_same", workload.rewrite_same},
                {"children", options.children}}},
              {"engines", Json::array()}};
    for (const EngineFigures& engine : result.engines) json["engines"].push_back(json_of(engine));
    for (const Crossover& step : result.crossover) json["crossover"].push_back(json_of(options, step));
    json["advice"] = meter::advise(result.engines, workload, options.children);
    json["notes"] = {"moved: a child has the value itself, so nobody keeps the value as it was",
                     "pages-resident: a call after the first one, which has copied the pages"};
    for (const auto* const texts : {&result.notes, &result.warnings}) {
        for (const std::string& text : *texts) json["notes"].push_back(text);
    }
    return json;
}

}  // namespace vmcow::cli
