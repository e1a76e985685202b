#include "vmcow/cli/compare/compare_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "vmcow/cli/compare/peer_program.hpp"
#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/cli/kit/human.hpp"
#include "vmcow/meter/compare/compared_value.hpp"
#include "vmcow/meter/compare/peer_workload.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/proc/field.hpp"

namespace vmcow::cli {
namespace {

using meter::EngineFigures;
using meter::Workload;

/// A longer list of writes takes a peer longer to read than to apply.
constexpr std::uint64_t kMostPeerWrites = std::uint64_t{4} << 20;
/// About the longest time for one number of writes, if the numbers are chosen here.
constexpr double kStepSeconds = 15;
/// About the longest time for all of these numbers together.
constexpr double kSweepSeconds = 45;

std::optional<std::uint64_t> available_bytes() { return sys::read_proc_bytes("/proc/meminfo", "MemAvailable"); }

/// The message about an engine that would not fit into memory; nullopt if all fit.
std::optional<std::string> memory_complaint(const CompareOptions& options, const Workload& workload) {
    const std::optional<std::uint64_t> available = available_bytes();
    for (const std::string& name : options.engines) {
        const std::uint64_t needed = meter::engine_memory_needed(name, workload, options.children);
        if (available && needed > *available) {
            return fmt::format("{} needs up to {} of memory for this, {} are available", name, human_bytes(needed),
                               human_bytes(*available));
        }
    }
    return std::nullopt;
}

/// Refuses now, before the kernel kills this process or another one half way.
void require_memory(const CompareOptions& options) {
    Workload largest = options.workload;
    for (const std::uint64_t writes : options.sweep) largest.writes = std::max(largest.writes, writes);
    if (const auto complaint = memory_complaint(options, largest))
        throw Failure(*complaint + "; choose a smaller --size or other --engines");
}

/// The peers that have not failed so far. A peer that fails is left out from then on, and a warning says why.
class Peers {
public:
    Peers(const CompareOptions& options, CompareResult& result) : options_(options), result_(result) {
        if (!options.peers) return;
        FoundPeers found = find_peers(options.peer_folder);
        programs_ = std::move(found.programs);
        result_.warnings = std::move(found.warnings);
    }

    void run(const Workload& workload, std::vector<EngineFigures>& engines) {
        if (programs_.empty()) return;
        const auto file = meter::peer_workload(workload, options_.children, kMostPeerWrites);
        if (!file) {
            warn(fmt::format("the peers were not run with {} writes: a peer takes at most {} writes of a word",
                             human_count(workload.writes), human_count(kMostPeerWrites)));
            return;
        }
        if (!has_memory(workload, sys::file_bytes(file->get()))) return;
        std::erase_if(programs_, [&](const PeerProgram& peer) { return !run_one(peer, *file, workload, engines); });
    }

private:
    /// Adds each text once, because every step of a sweep adds the same.
    static void add(std::vector<std::string>& texts, std::string text) {
        if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(std::move(text));
    }
    void warn(std::string text) { add(result_.warnings, std::move(text)); }
    /// Whether the peers would fit into memory. For each word, a Python list has a pointer and an object of 32 bytes, a
    /// PHP array 16 bytes and spare room.
    bool has_memory(const Workload& workload, std::uint64_t file_bytes) {
        const std::uint64_t needed = workload.size_bytes * (6 + 4 * options_.children) + 6 * file_bytes;
        const std::optional<std::uint64_t> available = available_bytes();
        if (!available || needed <= *available) return true;
        warn(fmt::format("the peers were not run with {} writes: they may need {} of memory, {} are available",
                         human_count(workload.writes), human_bytes(needed), human_bytes(*available)));
        return false;
    }
    bool run_one(const PeerProgram& peer, const sys::UniqueFd& file, const Workload& workload,
                 std::vector<EngineFigures>& engines) {
        try {
            PeerAnswer answer = run_peer(peer, file, workload, options_.children, options_.peer_timeout);
            if (answer.figures.checksum != engines.front().checksum) {
                throw std::runtime_error(
                    fmt::format("it does not hold what {} holds after the same writes", engines.front().name));
            }
            if (!answer.about.empty()) add(result_.notes, fmt::format("{}: {}", peer.name, answer.about));
            engines.push_back(std::move(answer.figures));
            return true;
        } catch (const std::exception& error) {
            warn(fmt::format("{} is left out: {}", peer.name, error.what()));
            return false;
        }
    }

    const CompareOptions& options_;
    CompareResult& result_;
    std::vector<PeerProgram> programs_;
};

std::vector<EngineFigures> run_all(const CompareOptions& options, const Workload& workload, Peers& peers) {
    std::vector<EngineFigures> all;
    for (const std::string& name : options.engines) {
        all.push_back(meter::run_engine_apart(name, workload, options.children));
        if (all.back().checksum != all.front().checksum) {
            throw Failure(fmt::format("{} and {} do not hold the same after the same writes", all.front().name, name));
        }
    }
    peers.run(workload, all);
    return all;
}

/// The numbers of writes if none were given: 1, 10, 100 … up to the words of the value or the writes of the trace, and
/// the number of --writes.
std::vector<std::uint64_t> usual_sweep(const Workload& workload) {
    const std::uint64_t most =
        workload.trace ? workload.trace->writes().size() : std::max(meter::word_count(workload), workload.writes);
    std::vector<std::uint64_t> all = {workload.writes};
    for (std::uint64_t writes = 1; writes <= most; writes *= 10) {
        if (writes != workload.writes) all.push_back(writes);
        if (writes > most / 10) break;
    }
    std::sort(all.begin(), all.end());
    return all;
}

/// The time that the writes and reads of all engines took together.
double seconds_of_writes(const CompareOptions& options, const Crossover& step) {
    double ns = 0;
    for (const EngineFigures& engine : step.engines) ns += engine.write_ns + engine.read_ns;
    return ns * 1e-9 * static_cast<double>(step.writes * options.children);
}

class Sweep {
public:
    Sweep(const CompareOptions& options, CompareResult& result, Peers& peers)
        : options_(options), result_(result), peers_(peers) {}

    void run() {
        const bool chosen_here = options_.sweep.empty();
        for (const std::uint64_t writes : chosen_here ? usual_sweep(options_.workload) : options_.sweep) {
            if (chosen_here && !may_run(writes)) continue;
            run_step(writes);
        }
    }

private:
    void run_step(std::uint64_t writes) {
        if (writes == options_.workload.writes) {
            result_.crossover.push_back({writes, result_.engines});
            return;
        }
        Workload workload = options_.workload;
        workload.writes = writes;
        const auto begin = std::chrono::steady_clock::now();
        result_.crossover.push_back({writes, run_all(options_, workload, peers_)});
        last_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        all_seconds_ += last_seconds_;
    }
    /// Whether time and memory allow one more step. The number of --writes always may, because it is measured already.
    bool may_run(std::uint64_t writes) {
        if (writes == options_.workload.writes || result_.crossover.empty()) return true;
        if (ended_) return false;
        const Crossover& last = result_.crossover.back();
        const double times = static_cast<double>(writes) / static_cast<double>(last.writes);
        const double expected = last_seconds_ + (times - 1) * seconds_of_writes(options_, last);
        Workload workload = options_.workload;
        workload.writes = writes;
        std::optional<std::string> why = memory_complaint(options_, workload);
        if (!why && (expected > kStepSeconds || all_seconds_ + expected > kSweepSeconds)) {
            why = fmt::format("they would take about {}", human_seconds(expected));
        }
        if (!why) return true;
        ended_ = true;
        result_.notes.push_back(
            fmt::format("the charts over the number of writes end before {}: {}", human_count(writes), *why));
        return false;
    }

    const CompareOptions& options_;
    CompareResult& result_;
    Peers& peers_;
    double last_seconds_ = 0;
    double all_seconds_ = 0;
    bool ended_ = false;
};

}  // namespace

CompareResult run_compare(const CompareOptions& options) {
    require_memory(options);
    CompareResult result;
    Peers peers(options, result);
    result.engines = run_all(options, options.workload, peers);
    if (!options.sweep.empty() || !options.html.empty()) Sweep(options, result, peers).run();
    return result;
}

}  // namespace vmcow::cli
