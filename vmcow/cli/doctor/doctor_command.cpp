#include "vmcow/cli/doctor/doctor_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/facilities.hpp"
#include "vmcow/facilities/facility.hpp"

namespace vmcow::cli {
namespace {

struct DoctorOptions {
    bool json = false;
    bool all = false;
};

constexpr std::size_t kColumns = 100;
constexpr std::size_t kMarkWidth = 9;
constexpr std::size_t kNameWidth = 24;

std::string_view mark_of(FacilityState state) {
    switch (state) {
        case FacilityState::present:
            return "ok";
        case FacilityState::limited:
            return "limited";
        case FacilityState::absent:
            return "no";
        case FacilityState::unknown:
            break;
    }
    return "?";
}

/// Breaks `text` between words so that each line ends before kColumns; every line but the first begins at `indent`.
std::string wrapped(std::string_view text, std::size_t indent) {
    std::string lines;
    std::size_t column = indent;
    while (!text.empty()) {
        const std::size_t space = std::min(text.find(' '), text.size());
        const std::string_view word = text.substr(0, space);
        if (column > indent && column + 1 + word.size() > kColumns) {
            lines += "\n" + std::string(indent, ' ');
            column = indent;
        } else if (column > indent) {
            lines += ' ';
            ++column;
        }
        lines += word;
        column += word.size();
        text.remove_prefix(std::min(space + 1, text.size()));
    }
    return lines;
}

std::string note(std::string_view label, std::string_view text) {
    constexpr std::size_t kLabelWidth = 10;
    constexpr std::size_t kIndent = 2 + kMarkWidth + 2;
    return fmt::format("{:{}}{:<{}}{}\n", "", kIndent, label, kLabelWidth, wrapped(text, kIndent + kLabelWidth));
}

std::string row(const Facility& facility, bool all) {
    const std::string detail = wrapped(one_line(facility.detail), 2 + kMarkWidth + kNameWidth);
    std::string text =
        fmt::format("  {:<{}}{:<{}}{}\n", mark_of(facility.state), kMarkWidth, facility.name, kNameWidth, detail);
    const bool present = facility.state == FacilityState::present;
    if (present && !all) return text;
    text += note("used for", facility.used_for);
    text += note("without", facility.without);
    // While the state is unknown, so is what would turn the facility on.
    if (facility.state == FacilityState::limited || facility.state == FacilityState::absent) {
        text += note("turn on", facility.enable);
    }
    return text;
}

std::string summary(const std::vector<Facility>& facilities) {
    const auto count = [&](FacilityState state) {
        return std::count_if(facilities.begin(), facilities.end(), [&](const Facility& f) { return f.state == state; });
    };
    std::string text =
        fmt::format("{} present, {} limited, {} absent, {} unknown", count(FacilityState::present),
                    count(FacilityState::limited), count(FacilityState::absent), count(FacilityState::unknown));
    const auto needed = [&](FacilityState state) {
        return std::any_of(facilities.begin(), facilities.end(),
                           [&](const Facility& f) { return f.required && f.state == state; });
    };
    if (needed(FacilityState::absent)) return text + "; something required is missing";
    if (needed(FacilityState::unknown)) return text + "; something required could not be found out";
    return text + "; everything required is there";
}

std::string user_line(const Host& host) {
    const std::string who = host.user_id == 0 ? "root" : fmt::format("user {}", host.user_id);
    if (!host.capabilities) return who + ", capabilities unknown";
    if (host.capabilities->empty()) return who + ", without capabilities that matter here";
    return fmt::format("{} with {}", who, fmt::join(*host.capabilities, ", "));
}

std::string table(const Host& host, const std::vector<Facility>& facilities, bool all) {
    std::string text = fmt::format("Linux {} on {}\n{}\n", host.kernel_release, host.machine, user_line(host));
    std::string group;
    for (const Facility& facility : facilities) {
        const std::string heading = facility.required ? "required" : facility.group;
        if (heading != group) text += "\n" + heading + "\n";
        group = heading;
        text += row(facility, all);
    }
    return text + "\n" + summary(facilities) + "\n";
}

std::string json_text(const Host& host, const std::vector<Facility>& facilities) {
    using Json = nlohmann::ordered_json;
    Json list = Json::array();
    for (const Facility& facility : facilities) {
        list.push_back({{"name", facility.name},
                        {"group", facility.group},
                        {"state", name_of(facility.state)},
                        {"detail", facility.detail},
                        {"used_for", facility.used_for},
                        {"without", facility.without},
                        {"enable", facility.enable},
                        {"since", facility.since.empty() ? Json() : Json(facility.since)},
                        {"required", facility.required}});
    }
    const Json document = {
        {"kernel", {{"release", host.kernel_release}, {"machine", host.machine}}},
        {"user", {{"id", host.user_id}, {"capabilities", host.capabilities ? Json(*host.capabilities) : Json()}}},
        {"facilities", list}};
    // Paths of control groups are bytes, not always UTF-8.
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void run_doctor(const DoctorOptions& options) {
    const Host host = describe_host();
    const std::vector<Facility> facilities = probe_all();
    write_stdout(options.json ? json_text(host, facilities) : table(host, facilities, options.all));
    require_from(facilities);
}

}  // namespace

void add_doctor_command(CLI::App& app) {
    const auto options = std::make_shared<DoctorOptions>();
    CLI::App* verb = app.add_subcommand(
        "doctor",
        "Show what this kernel and this user can do, what that is used for, and how to turn on what is missing");
    verb->add_flag("--json", options->json, "Print JSON instead of the table");
    verb->add_flag("--all", options->all,
                   "Say of all facilities what they are used for, not only of those that are missing");
    verb->footer(
        "Each facility is tried out once; nothing on the machine is changed.\n"
        "Exit status: 0; 77 if this kernel lacks something that is required.");
    verb->callback([options] { run_doctor(*options); });
}

}  // namespace vmcow::cli
