#include <nlohmann/json.hpp>

#include "vmcow/cli/measure/measure_formats.hpp"
#include "vmcow/cli/measure/what_if_formats.hpp"

namespace vmcow::cli {
namespace {

using Json = nlohmann::ordered_json;
using meter::ViewRun;
using meter::Workload;

template <class Value>
Json or_null(const std::optional<Value>& value) {
    return value ? Json(*value) : Json();
}
Json or_null(const std::optional<PageCount>& pages) { return pages ? Json(pages->value) : Json(); }

Json expectation(const meter::Expectation& expected) {
    return {{"copied_pages", expected.blocks}, {"sigma", or_null(expected.sigma)}};
}

Json workload_json(const MeasureOptions& options) {
    const Workload& workload = options.workload;
    Json json = {{"size_bytes", workload.size_bytes},
                 {"writes", workload.writes},
                 // Each write of a trace has a length of its own.
                 {"write_bytes", options.trace ? Json() : Json(workload.write_bytes)},
                 {"pattern", name_of(workload.pattern)},
                 {"aligned", workload.aligned},
                 {"seed", workload.seed},
                 {"rewrite_same", workload.rewrite_same}};
    if (options.trace) json["trace"] = *options.trace;
    return json;
}

/// The figures of one run, or of all runs together.
Json run_json(const ViewRun& run) {
    return {{"logical_bytes", or_null(run.figures.logical_bytes)},
            {"distinct_bytes", or_null(run.figures.distinct_bytes)},
            {"changed_bytes", or_null(run.figures.changed_bytes)},
            {"copied_pages", run.figures.copied.value},
            {"copied_bytes", run.figures.copied_bytes()},
            {"identical_pages", or_null(run.figures.identical)},
            {"amplification", or_null(run.figures.amplification())},
            {"expected", expectation(run.expected)},
            {"residual_sigma", or_null(run.residual())},
            {"minor_faults", run.minor_faults},
            {"anonymous_bytes", run.anonymous_bytes},
            {"page_table_bytes", or_null(run.figures.page_table_bytes)},
            {"resident_bytes", or_null(run.figures.resident_bytes)},
            {"seconds", run.seconds}};
}

Json level_json(const meter::LevelRun& level, std::size_t number) {
    Json json = {{"level", number}};
    json.update(run_json(level.run));
    json["residual_sigma"] = or_null(level.residual());
    json["placed_pages"] = level.placed.value;
    json["placed_pages_written"] = level.placed_written.value;
    return json;
}

Json call_json(const meter::ResidentCall& call) {
    return {{"preparation", describe(call.preparation)}, {"copied_pages", call.copied.value},
            {"changed_pages", call.changed.value},       {"refreshed_pages", call.refreshed.value},
            {"minor_faults", call.minor_faults},         {"seconds", call.seconds},
            {"restore_seconds", call.restore_seconds}};
}

Json resident_json(const meter::ResidentRun& run) {
    return {{"first", call_json(run.first)},
            {"again", call_json(run.again)},
            {"resident_pages", run.resident.value},
            {"faults_saved", run.faults_saved()}};
}

void add_parts(Json& document, const MeasureResult& result) {
    for (const ViewRun& child : result.children) document["children"].push_back(run_json(child));
    for (std::size_t i = 0; i < result.levels.size(); ++i) {
        document["levels"].push_back(level_json(result.levels[i], i + 1));
    }
    if (result.resident) document["resident"] = resident_json(*result.resident);
}

}  // namespace

std::string measure_json(const MeasureOptions& options, const MeasureResult& result) {
    Json document = {{"kind", "measure"}, {"workload", workload_json(options)}};
    document.update(run_json(result.total));
    document["residual_sigma"] = or_null(result.residual);
    document["memory_bytes"] = or_null(result.memory_bytes());
    document["page_scan"] = name_of(result.page_scan);
    document["image_page_bytes"] = result.image_page_bytes();
    add_parts(document, result);
    for (std::size_t i = 0; i < result.sweep.size(); ++i) {
        Json row = {{"writes", options.writes[i]}};
        row.update(run_json(result.sweep[i]));
        document["sweep"].push_back(std::move(row));
    }
    document["what_if"] = what_if_json(result.what_if);
    document["best_block_bytes"] = best_block_json(result.what_if);
    document["notes"] = result.notes;
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace vmcow::cli
