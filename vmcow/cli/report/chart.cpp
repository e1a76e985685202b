#include "vmcow/cli/report/chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "vmcow/cli/kit/human.hpp"

namespace vmcow::cli {
namespace {

/// A larger double is no exact count, and may not fit into a std::uint64_t.
constexpr double kMostCounted = 0x1p63;

std::string format_known(double value, Unit unit) {
    if (value < 0) return "-" + format_known(-value, unit);
    if (!(value < kMostCounted)) return fmt::format("{:.3g}", value);
    switch (unit) {
        case Unit::bytes:
            return human_bytes(static_cast<std::uint64_t>(std::llround(value)));
        case Unit::seconds:
            // A read takes a nanosecond or two, so the digits after the point matter.
            return value > 0 && value < 99.95e-9 ? fmt::format("{:.3g} ns", value * 1e9) : human_seconds(value);
        case Unit::share:
            return fmt::format("{:.{}f} %", 100 * value, value > 0 && value < 0.1 ? 1 : 0);
        case Unit::times:
            return fmt::format("{:.4g} ×", value);
        case Unit::count:
            break;
    }
    if (value < 1000 && value != std::floor(value)) return fmt::format("{:.4g}", value);
    return human_count(static_cast<std::uint64_t>(std::llround(value)));
}

/// Adds to `kept` the lowest and the highest of the points from `begin` to `end`, in their order; one point if it is
/// both.
void keep_extremes(const std::vector<Point>& points, std::size_t begin, std::size_t end, std::vector<Point>& kept) {
    std::optional<std::size_t> lowest;
    std::optional<std::size_t> highest;
    for (std::size_t i = begin; i < end; ++i) {
        if (!points[i].y) continue;
        if (!lowest || *points[i].y < *points[*lowest].y) lowest = i;
        if (!highest || *points[i].y > *points[*highest].y) highest = i;
    }
    if (!lowest) {
        kept.push_back(points[begin]);  // a gap stays a gap
        return;
    }
    kept.push_back(points[std::min(*lowest, *highest)]);
    if (*lowest != *highest) kept.push_back(points[std::max(*lowest, *highest)]);
}

}  // namespace

std::string format_value(const MaybeNumber& value, Unit unit) {
    if (!value || std::isnan(*value)) return "?";
    return format_known(*value, unit);
}

bool thin_out(Series& series, std::size_t most) {
    const std::vector<Point>& points = series.points;
    if (points.size() <= most) return false;
    std::vector<Point> kept = {points.front()};
    const std::size_t stretches = (most - 2) / 2;
    const std::size_t inner = points.size() - 2;
    for (std::size_t i = 0; i < stretches; ++i) {
        keep_extremes(points, 1 + i * inner / stretches, 1 + (i + 1) * inner / stretches, kept);
    }
    kept.push_back(points.back());
    series.points = std::move(kept);
    return true;
}

}  // namespace vmcow::cli
