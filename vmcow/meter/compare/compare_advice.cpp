#include <fmt/format.h>

#include <string>
#include <vector>

#include "vmcow/meter/compare/engines.hpp"

namespace vmcow::meter {
namespace {

/// Figures that are closer together may be in the other order in the next run.
constexpr double kMuchMore = 1.1;

std::string bytes_text(double bytes) {
    if (bytes < (1 << 20)) return fmt::format("{:.3g} KiB", bytes / 1024);
    return fmt::format("{:.{}f} MiB", bytes / (1 << 20), bytes < (10 << 20) ? 2 : 1);
}

std::string reason_of(const EngineFigures& engine) {
    const std::string copied = bytes_text(static_cast<double>(engine.copied_bytes.value_or(0)));
    if (engine.name == "deep-copy") return "one copy of all before the first write";
    if (engine.name == "whole-buffer") return "one copy of all with the first write, and none after it";
    if (engine.name == "pages") return "the pages that are written to are copied, " + copied;
    if (engine.name == "pages-resident") return "pages that an earlier call copied are refreshed, which takes no fault";
    if (engine.name == "dedup") return "what is equal is there once, and writes copied " + copied;
    return "a write copies a small block and the way to it, together " + copied;
}

std::string seconds_text(double seconds) {
    if (seconds >= 1) return fmt::format("{:.3g} s", seconds);
    return seconds >= 1e-3 ? fmt::format("{:.3g} ms", seconds * 1e3) : fmt::format("{:.3g} µs", seconds * 1e6);
}

/// The engine with the least `cost` among those that `may` be chosen; nullptr if there is none.
template <class May, class Cost>
const EngineFigures* least_of(const std::vector<EngineFigures>& engines, May&& may, Cost&& cost) {
    const EngineFigures* least = nullptr;
    for (const EngineFigures& each : engines) {
        if (may(each) && (least == nullptr || cost(each) < cost(*least))) least = &each;
    }
    return least;
}

double memory(const EngineFigures& engine) { return static_cast<double>(engine.memory_after_bytes.value_or(0)); }

bool is_resident(const EngineFigures& engine) { return engine.name == "pages-resident"; }
/// Whether the engine can be advised. A moved value is not shared: the caller no longer has it. A peer is a program in
/// another language.
bool leaves_the_value(const EngineFigures& engine) { return !engine.is_peer && engine.name != "moved"; }
/// Whether the engine serves a first call as well: resident pages need a process that has been called before.
bool works_at_once(const EngineFigures& engine) { return leaves_the_value(engine) && !is_resident(engine); }

}  // namespace

std::string advise(const std::vector<EngineFigures>& engines, const Workload& workload, std::uint64_t children) {
    const auto seconds = [&](const EngineFigures& each) { return each.total_seconds(workload, children); };
    const EngineFigures* fastest = least_of(engines, works_at_once, seconds);
    const EngineFigures* const resident = least_of(engines, is_resident, seconds);
    if (fastest == nullptr) fastest = resident;
    if (fastest == nullptr) return "Nothing was compared that leaves the caller its value.";
    const double fast_enough = seconds(*fastest) * kMuchMore;
    const auto is_fast_enough = [&](const EngineFigures& each) {
        return (&each == fastest || works_at_once(each)) && seconds(each) <= fast_enough;
    };
    const EngineFigures& best = *least_of(engines, is_fast_enough, memory);
    std::string advice = fmt::format("Use {} ({}): handing the value over and writing to it took {}", best.name,
                                     reason_of(best), seconds_text(seconds(best)));
    advice += &best == fastest ? ", the least of all that leave the caller its value,"
                               : fmt::format(", no more than a tenth above {}, the fastest,", fastest->name);
    advice += fmt::format(" and {} of memory in the end", bytes_text(memory(best)));
    if (resident != nullptr && resident != &best && seconds(*resident) * kMuchMore < seconds(best)) {
        advice += fmt::format("; a process that is called again and again does it in {} (pages-resident: {})",
                              seconds_text(seconds(*resident)), reason_of(*resident));
    }
    const EngineFigures* const smallest = least_of(engines, works_at_once, memory);
    if (smallest != nullptr && memory(*smallest) * kMuchMore < memory(best)) {
        advice += fmt::format("; where memory counts, {} needs {} less, and {:.3g} times as long", smallest->name,
                              bytes_text(memory(best) - memory(*smallest)), seconds(*smallest) / seconds(best));
    }
    return advice + ".";
}

}  // namespace vmcow::meter
