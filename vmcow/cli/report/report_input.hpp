#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/report/chart.hpp"

namespace vmcow::cli {

using ReportJson = nlohmann::ordered_json;

enum class ReportKind { measure, watch, compare };

[[nodiscard]] std::string_view name_of(ReportKind kind) noexcept;

/// A document that one of the commands wrote, or is about to write.
struct ReportInput {
    std::string name;  ///< the name of the file, as in "before.json"
    ReportJson document;
    std::vector<std::string> notes = {};  ///< remarks from reading it, as on a line that is cut off
};

/// The kind that the document names in "kind". Documents of `measure` once had no "kind"; their members tell.
/// Throws: std::invalid_argument -- the document is none of vmcow's.
[[nodiscard]] ReportKind kind_of(const ReportJson& document);

/// The title of the document: its "title", or else the name of its file.
/// Throws: std::invalid_argument -- "title" is no string.
[[nodiscard]] std::string title_of(const ReportInput& input);

/// Reads the document at `path`: JSON, or the lines of `vmcow watch --ndjson`, of which the last may be cut off.
/// Throws: std::system_error -- no such file; Failure -- too large, not JSON (with line and column), or no document of
///         vmcow's.
[[nodiscard]] ReportInput read_report_input(const std::string& path);

/// The number `key` of `object`; nullopt if the member is missing, or null, which stands for unknown.
/// Throws: std::invalid_argument that names the member -- it is no number.
[[nodiscard]] MaybeNumber number_of(const ReportJson& object, const char* key);

/// The string `key` of `object`; empty if the member is missing or null.
/// Throws: std::invalid_argument that names the member -- it is no string.
[[nodiscard]] std::string text_of(const ReportJson& object, const char* key);

/// The array of objects `key` of `object`; empty if the member is missing or null.
/// Throws: std::invalid_argument that names the member -- it is no array of objects.
[[nodiscard]] const std::vector<ReportJson>& objects_of(const ReportJson& object, const char* key);

/// The object `key` of `object`; an empty object if the member is missing or null.
/// Throws: std::invalid_argument that names the member -- it is no object.
[[nodiscard]] const ReportJson& object_of(const ReportJson& object, const char* key);

/// The numbers of an array; null is an unknown number.
/// Throws: std::invalid_argument with `name` -- it is no array of numbers.
[[nodiscard]] std::vector<MaybeNumber> numbers_of(const ReportJson& array, const char* name);

/// The strings in "notes" of the document; empty if the member is missing or null.
/// Throws: std::invalid_argument -- "notes" is no array of strings.
[[nodiscard]] std::vector<std::string> notes_of(const ReportJson& document);

}  // namespace vmcow::cli
