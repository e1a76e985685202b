#include "procrun/cli/sample_text.hpp"

#include <nlohmann/json.hpp>

namespace procrun::cli {

namespace {

using Json = nlohmann::ordered_json;

Json json_of(const StageSample& stage) {
    const StageView& view = stage.view;
    const auto number = [](const auto& value) { return value ? Json(*value) : Json(); };
    return {{"running", stage.running},
            {"state", stage.running ? name_of(view.state) : "ended"},
            {"read_bytes", view.transferred ? Json(view.transferred->read) : Json()},
            {"written_bytes", view.transferred ? Json(view.transferred->written) : Json()},
            {"resident_bytes", number(view.resident_bytes)},
            {"input_queued_bytes", view.input ? Json(view.input->queued_bytes) : Json()},
            {"input_capacity_bytes", view.input ? Json(view.input->capacity_bytes) : Json()}};
}

}  // namespace

const char* name_of(StageState state) noexcept {
    switch (state) {
        case StageState::running:
            return "running";
        case StageState::blocked_read:
            return "blocked_read";
        case StageState::blocked_write:
            return "blocked_write";
        case StageState::waiting:
            return "waiting";
        case StageState::unknown:
            break;
    }
    return "unknown";
}

std::string ndjson_of(const PipelineSample& sample) {
    Json stages = Json::array();
    for (const StageSample& stage : sample.stages) stages.push_back(json_of(stage));
    Json document = {{"seconds", sample.seconds}, {"stages", stages}, {"input", Json()}};
    if (sample.input) {
        document["input"] = {
            {"file", sample.input->file}, {"position", sample.input->position}, {"bytes", sample.input->bytes}};
    }
    return document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace procrun::cli
