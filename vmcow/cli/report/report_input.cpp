#include "vmcow/cli/report/report_input.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <utility>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/sys/bounded_read.hpp"

namespace vmcow::cli {
namespace {

using Json = ReportJson;

/// The most bytes that are read. A parsed document takes about four times its size.
constexpr std::size_t kMostBytes = std::size_t{256} << 20;

[[noreturn]] void reject(const std::string& path, const std::string& why) {
    throw Failure(fmt::format("'{}' {}", path, why));
}

/// The message of nlohmann-json behind its number: "parse error at line 3, column 7: syntax error while …".
std::string reason_of(const Json::exception& error) {
    const std::string_view what = error.what();
    const std::size_t end = what.find("] ");
    return std::string(end == std::string_view::npos ? what : what.substr(end + 2));
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

/// Takes the first line off `text`.
std::string_view next_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    return line;
}

/// Whether `json` is a sample of a process, which has a "pid". A document has a "kind", or members that tell its kind.
bool is_sample(const Json& json) { return json.is_object() && !json.contains("kind") && json.contains("pid"); }

bool looks_like_lines(std::string_view text) {
    while (!text.empty()) {
        const std::string_view line = next_line(text);
        if (is_blank(line)) continue;
        const Json first = Json::parse(line, nullptr, false);
        return is_sample(first);
    }
    return false;
}

/// The document that `vmcow watch --json` would have made of the samples in `text`.
Json parse_lines(const std::string& path, std::string_view text, std::vector<std::string>& notes) {
    Json samples = Json::array();
    for (std::size_t number = 1; !text.empty(); ++number) {
        const std::string_view line = next_line(text);
        if (is_blank(line)) continue;
        try {
            Json sample = Json::parse(line);
            if (!is_sample(sample)) reject(path, fmt::format("line {}: no sample of a process", number));
            samples.push_back(std::move(sample));
        } catch (const Json::parse_error& error) {
            if (!text.empty()) reject(path, fmt::format("line {}, byte {}: not JSON", number, error.byte));
            notes.push_back(fmt::format("line {}, the last one, is cut off: it is left out", number));
        }
    }
    return {{"kind", "watch"}, {"samples", std::move(samples)}};
}

Json parse(const std::string& path, const std::string& text, std::vector<std::string>& notes) {
    if (is_blank(std::string_view(text).substr(0, text.find('\n'))) && text.find_first_not_of(" \t\r\n") == text.npos) {
        reject(path, "is empty");
    }
    if (looks_like_lines(text)) return parse_lines(path, text, notes);
    try {
        return Json::parse(text);
    } catch (const Json::parse_error& error) {
        reject(path, "is not JSON: " + reason_of(error));
    }
}

[[noreturn]] void wrong_type(const char* key, const char* wanted) {
    throw std::invalid_argument(fmt::format("'{}' is not {}", key, wanted));
}

/// The member `key`, or null.
const Json& member(const Json& object, const char* key) {
    static const Json null;
    if (!object.is_object()) throw std::invalid_argument(fmt::format("what should have '{}' is no object", key));
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
}

}  // namespace

std::string_view name_of(ReportKind kind) noexcept {
    switch (kind) {
        case ReportKind::measure:
            return "measure";
        case ReportKind::watch:
            return "watch";
        case ReportKind::compare:
            break;
    }
    return "compare";
}

ReportKind kind_of(const Json& document) {
    if (!document.is_object()) throw std::invalid_argument("is JSON, but no document of vmcow's");
    const std::string kind = text_of(document, "kind");
    for (const ReportKind known : {ReportKind::measure, ReportKind::watch, ReportKind::compare}) {
        if (kind == name_of(known)) return known;
    }
    if (!kind.empty()) {
        throw std::invalid_argument(fmt::format("is of the kind '{}', none of measure, watch, compare", kind));
    }
    if (document.contains("workload") && document.contains("copied_pages")) return ReportKind::measure;
    throw std::invalid_argument("is JSON, but no document of vmcow measure, watch or compare");
}

std::string title_of(const ReportInput& input) {
    std::string title = text_of(input.document, "title");
    return title.empty() ? input.name : title;
}

ReportInput read_report_input(const std::string& path) {
    const std::optional<std::string> text = sys::read_at_most(path, kMostBytes);
    if (!text) reject(path, "is larger than a report can take: " + human_bytes(kMostBytes));
    ReportInput input{.name = std::filesystem::path(path).filename().string(), .document = {}};
    input.document = parse(path, *text, input.notes);
    try {
        (void)kind_of(input.document);
    } catch (const std::invalid_argument& error) {
        reject(path, error.what());
    }
    return input;
}

MaybeNumber number_of(const Json& object, const char* key) {
    const Json& value = member(object, key);
    if (value.is_null()) return std::nullopt;
    if (!value.is_number()) wrong_type(key, "a number");
    return value.get<double>();
}

std::string text_of(const Json& object, const char* key) {
    const Json& value = member(object, key);
    if (value.is_null()) return {};
    if (!value.is_string()) wrong_type(key, "a string");
    return value.get<std::string>();
}

const std::vector<Json>& objects_of(const Json& object, const char* key) {
    static const std::vector<Json> none;
    const Json& value = member(object, key);
    if (value.is_null()) return none;
    if (!value.is_array()) wrong_type(key, "an array");
    const auto& items = value.get_ref<const Json::array_t&>();
    for (const Json& item : items) {
        if (!item.is_object()) wrong_type(key, "an array of objects");
    }
    return items;
}

const Json& object_of(const Json& object, const char* key) {
    static const Json empty = Json::object();
    const Json& value = member(object, key);
    if (value.is_null()) return empty;
    if (!value.is_object()) wrong_type(key, "an object");
    return value;
}

std::vector<MaybeNumber> numbers_of(const Json& array, const char* name) {
    if (!array.is_array()) wrong_type(name, "an array");
    std::vector<MaybeNumber> numbers;
    numbers.reserve(array.size());
    for (const Json& item : array) {
        if (!item.is_number() && !item.is_null()) wrong_type(name, "an array of numbers");
        numbers.push_back(item.is_null() ? MaybeNumber() : MaybeNumber(item.get<double>()));
    }
    return numbers;
}

std::vector<std::string> notes_of(const Json& document) {
    const Json& notes = member(document, "notes");
    if (notes.is_null()) return {};
    if (!notes.is_array()) wrong_type("notes", "an array");
    std::vector<std::string> lines;
    for (const Json& note : notes) {
        if (!note.is_string()) wrong_type("notes", "an array of strings");
        lines.push_back(note.get<std::string>());
    }
    return lines;
}

}  // namespace vmcow::cli
