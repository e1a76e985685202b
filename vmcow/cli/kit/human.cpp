#include "vmcow/cli/kit/human.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstddef>

namespace vmcow::cli {
namespace {

struct SmallUnit {
    double seconds;
    const char* name;
};

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
    if (bytes < 1024) return fmt::format("{} B", bytes);
    constexpr std::array<const char*, 6> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = static_cast<double>(bytes) / 1024;
    std::size_t unit = 0;
    // 1023.95 would be shown as 1024.0 of the smaller unit.
    while (value >= 1023.95 && unit + 1 < kUnits.size()) {
        value /= 1024;
        ++unit;
    }
    return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_seconds(double seconds) {
    if (!std::isfinite(seconds)) return "?";
    if (seconds < 0) return "-" + human_seconds(-seconds);
    if (seconds == 0) return "0 s";
    if (seconds >= 59.95) {
        if (seconds >= 1e15) return fmt::format("{:.1e} s", seconds);
        const auto whole = static_cast<std::uint64_t>(std::llround(seconds));
        if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
        return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
    }
    if (seconds < 999.5e-9) return fmt::format("{:.0f} ns", seconds * 1e9);
    constexpr std::array<SmallUnit, 3> kUnits = {{{1e-6, "µs"}, {1e-3, "ms"}, {1, "s"}}};
    for (const SmallUnit& unit : kUnits) {
        if (seconds < 999.95 * unit.seconds) return fmt::format("{:.1f} {}", seconds / unit.seconds, unit.name);
    }
    return fmt::format("{:.1f} s", seconds);
}

std::string human_count(std::uint64_t count) {
    std::string digits = std::to_string(count);
    for (std::size_t left = digits.size(); left > 3; left -= 3) digits.insert(left - 3, 1, ',');
    return digits;
}

}  // namespace vmcow::cli
