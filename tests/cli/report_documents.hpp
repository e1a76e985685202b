#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tests {

using Json = nlohmann::ordered_json;

/// Documents as the commands write them, small and with known figures.

/// 1000 writes of 8 bytes. Each block size copies twice the bytes of the size before, and the model expects 10 % more.
[[nodiscard]] inline Json measure_document(double logical_bytes = 8000) {
    Json what_if = Json::array();
    for (std::uint64_t block = 4; block <= (2 << 20); block *= 2) {
        const double copied = static_cast<double>(block) * 2000;
        what_if.push_back({{"block_bytes", block},
                           {"copied_bytes", copied},
                           {"amplification", copied / logical_bytes},
                           {"overhead_bytes", (1 << 28) / block},
                           {"total_bytes", copied + (1 << 28) / static_cast<double>(block)},
                           {"expected_bytes", copied * 1.1},
                           {"sigma_bytes", copied / 4},
                           {"children_copied_bytes", nullptr}});
    }
    const Json part = {{"copied_pages", 900},
                       {"copied_bytes", 900 * 4096},
                       {"changed_bytes", 7900},
                       {"identical_pages", nullptr},
                       {"amplification", 460.8}};
    Json step = part;
    step["writes"] = 1000;
    step["expected"] = {{"copied_pages", 905.5}, {"sigma", 3.25}};
    Json many = step;
    many["writes"] = 100000;
    many["copied_bytes"] = 9000 * 4096;
    return {{"kind", "measure"},
            {"workload", {{"size_bytes", 1 << 24}, {"writes", 1000}, {"write_bytes", 8}, {"pattern", "uniform"}}},
            {"logical_bytes", logical_bytes},
            {"distinct_bytes", 7950},
            {"changed_bytes", 7900},
            {"copied_pages", 900},
            {"copied_bytes", 900 * 4096},
            {"identical_pages", 9},
            {"amplification", 460.8},
            {"expected", {{"copied_pages", 905.5}, {"sigma", 3.25}}},
            {"residual_sigma", -1.69},
            {"minor_faults", 900},
            {"page_table_bytes", nullptr},
            {"resident_bytes", 900 * 4096},
            {"seconds", 0.0125},
            {"what_if", what_if},
            {"best_block_bytes", 64},
            {"children", Json::array({part, part})},
            {"levels", Json::array({part, part, part})},
            {"sweep", Json::array({many, step})},
            {"notes", Json::array({"a note"})}};
}

struct WatchShape {
    int processes = 2;
    int times = 5;
    int mappings = 2;
    std::string command = "server";
    std::string mapping_name = "[heap]";
};

/// At time t, process i has (t + 1) * (i + 1) copied pages in each mapping. The changed bytes of the first are unknown.
[[nodiscard]] inline Json watch_samples(const WatchShape& shape) {
    Json samples = Json::array();
    for (int time = 0; time < shape.times; ++time) {
        for (int i = 0; i < shape.processes; ++i) {
            const int pages = (time + 1) * (i + 1);
            Json mappings = Json::array();
            for (int m = 0; m < shape.mappings; ++m) {
                const std::uint64_t start = 0x7f0000000000 + static_cast<std::uint64_t>(m) * (1 << 24);
                mappings.push_back({{"start", start},
                                    {"end", start + (1 << 22)},
                                    {"name", shape.mapping_name},
                                    {"copied_pages", pages},
                                    {"copied_bytes", pages * 4096},
                                    {"changed_bytes", nullptr}});
            }
            const int copied = pages * shape.mappings;
            samples.push_back({{"time", 1.7e9 + time},
                               {"elapsed", time},
                               {"pid", 100 + i},
                               {"parent_pid", i == 0 ? 1 : 100},
                               {"command", shape.command},
                               {"resident_bytes", 1 << 24},
                               {"shared_bytes", 1 << 23},
                               {"copied_pages", copied},
                               {"copied_bytes", copied * 4096},
                               {"copied_by_parent_pages", nullptr},
                               {"new_bytes", 0},
                               {"swapped_bytes", 0},
                               {"changed_bytes", i == 0 ? Json() : Json(copied * 16)},
                               {"identical_pages", i == 0 ? Json() : Json(1)},
                               {"amplification", nullptr},
                               {"mappings", mappings}});
        }
    }
    return samples;
}

[[nodiscard]] inline Json watch_document(const WatchShape& shape = {}) {
    return {
        {"kind", "watch"},
        {"command", shape.command},
        {"interval_seconds", 1},
        {"method", "PAGEMAP_SCAN"},
        {"samples", watch_samples(shape)},
        {"functions", Json::array({{{"function", shape.command},
                                    {"file", "a.c"},
                                    {"line", 7},
                                    {"object", "server"},
                                    {"copied_pages", 30},
                                    {"share", 0.75}},
                                   {{"function", nullptr},
                                    {"file", nullptr},
                                    {"line", nullptr},
                                    {"object", nullptr},
                                    {"copied_pages", 10},
                                    {"share", 0.25}}})},
        {"heat", Json::array({{{"pid", 100},
                               {"start", 0x7f0000000000},
                               {"end", 0x7f0000400000},
                               {"bucket_bytes", 1 << 21},
                               {"times", {0, 1}},
                               {"copied_pages", Json::array({Json::array({0, 128}), Json::array({512, nullptr})})}}})},
        {"forecast",
         {{"limit_bytes", 1 << 20},
          {"limit_source", "--limit"},
          {"copied_bytes_per_second", 8192},
          {"seconds_left", 90}}},
        {"cost", {{"scans", 5}, {"scan_seconds", 0.01}, {"longest_scan_seconds", 0.004}, {"share_of_target", 0.001}}},
        {"notes", Json::array()}};
}

[[nodiscard]] inline Json compare_document() {
    const auto engine = [](const char* name, double factor) {
        return Json{{"name", name},
                    {"build_seconds", 0.01 * factor},
                    {"read_ns", 1.25 * factor},
                    {"write_ns", 20 * factor},
                    {"hand_over_seconds", nullptr},
                    {"memory_before_bytes", 1 << 26},
                    {"memory_after_bytes", (1 << 26) * factor},
                    {"copied_bytes", 1e6 * factor},
                    {"amplification", 8 * factor}};
    };
    const auto step = [](int writes) {
        return Json{
            {"writes", writes},
            {"engines",
             Json::array({{{"name", "pages"}, {"total_memory_bytes", 1 << 26}, {"total_seconds", 0.5}},
                          {{"name", "blocks"}, {"total_memory_bytes", 64.0 * writes}, {"total_seconds", nullptr}}})}};
    };
    return {{"kind", "compare"},
            {"workload", {{"size_bytes", 1 << 28}, {"writes", 1000}, {"write_bytes", 8}}},
            {"engines", Json::array({engine("pages", 1), engine("blocks", 1.5)})},
            {"crossover", Json::array({step(1000), step(100000), step(10000)})},
            {"advice", "Below 100,000 writes a GiB, blocks."},
            {"notes", Json::array()}};
}

}  // namespace tests
