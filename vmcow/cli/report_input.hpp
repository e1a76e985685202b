#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/chart.hpp"

namespace vmcow::cli {

using ReportJson = nlohmann::ordered_json;

enum class ReportKind { measure, watch, compare };

[[nodiscard]] std::string_view name_of(ReportKind kind) noexcept;

/// A document that one of the commands wrote, or is about to write.
struct ReportInput {
    std::string name;  ///< that of the file, as in "before.json"
    ReportJson document;
    std::vector<std::string> notes = {};  ///< what the reader has to say of it
};

/// What the document says it is, or what it has: documents of `measure` once had no "kind".
/// Throws: std::invalid_argument -- it is none of ours.
[[nodiscard]] ReportKind kind_of(const ReportJson& document);

/// What a reader calls the document: its "title", or else the name of its file.
/// Throws: std::invalid_argument -- the title is no string.
[[nodiscard]] std::string title_of(const ReportInput& input);

/// Reads the document at `path`: JSON, or the lines of `vmcow watch --ndjson`, of which the last may be cut off.
/// Throws: std::system_error -- no such file; Failure -- too large, not JSON (with line and column), or none of ours.
[[nodiscard]] ReportInput read_report_input(const std::string& path);

/// The member `key` of `object`: nothing where there is none or where it is null, which is how unknown is written.
/// Throws: std::invalid_argument -- it is something else than what was asked for, with its name.
[[nodiscard]] Value number_of(const ReportJson& object, const char* key);
[[nodiscard]] std::string text_of(const ReportJson& object, const char* key);

/// The same for an array of objects, empty where there is none.
[[nodiscard]] const std::vector<ReportJson>& objects_of(const ReportJson& object, const char* key);

/// The same for an object, an empty one where there is none.
[[nodiscard]] const ReportJson& object_of(const ReportJson& object, const char* key);

/// The numbers of an array; unknown where one is null.
[[nodiscard]] std::vector<Value> numbers_of(const ReportJson& array, const char* name);

/// "notes" of the document.
[[nodiscard]] std::vector<std::string> notes_of(const ReportJson& document);

}  // namespace vmcow::cli
