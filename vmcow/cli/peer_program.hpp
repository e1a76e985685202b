#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/measure/compare.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::cli {

/// A program that does in another language what an engine of `vmcow compare` does, in a file NAME.peer.
///
/// Shape:  it reads a workload (measure/peer_workload.hpp) from standard input, builds the value, and for each child
///         hands it over, applies the writes and does the reads; all that the children have is kept to the end. Then it
///         prints one JSON object, and exits with 0:
///
///     build_seconds                                     of the value
///     hand_over_seconds, write_seconds, read_seconds    of all children together, by a clock that never goes back
///     memory_before_bytes, memory_after_bytes           of the value, and with all children; null if not known
///     copied_bytes                                      the same
///     checksum      of what the last child read: 16 hexadecimal digits, from 0 on (c << 5 | c >> 59) ^ word
///     about         one line on what it runs in, and where the memory is known from; may be missing
struct PeerProgram {
    std::string name;
    std::string path;
};

struct FoundPeers {
    std::vector<PeerProgram> programs;
    std::vector<std::string> warnings;  ///< what is not there, and how to get it
};

/// The programs NAME.peer in `folder`, by name; without one in that of the environment's VMCOW_PEERS, or else where
/// scripts/peers puts them, beside the build that this command belongs to. Throws: std::system_error -- a folder that
/// was named cannot be read.
[[nodiscard]] FoundPeers find_peers(const std::optional<std::string>& folder);

/// What it said. `copied`, `amplification` and `name` as those of any engine.
struct PeerAnswer {
    measure::EngineFigures figures;
    std::string about;
};

/// Runs a peer, alone in a process group that is killed in the end, for `timeout` at the most.
/// Throws: std::runtime_error -- what is wrong with it or with what it said, in a few words; std::system_error -- it
///         could not be started.
[[nodiscard]] PeerAnswer run_peer(const PeerProgram& peer, const sys::UniqueFd& workload_file,
                                  const measure::Workload& workload, std::uint64_t children,
                                  std::chrono::nanoseconds timeout);

}  // namespace vmcow::cli
