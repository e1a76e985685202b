#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/meter/compare/engines.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::cli {

/// A peer: an executable NAME.peer that does in another language what an engine of `vmcow compare` does.
///
/// Shape:  the peer reads a workload (vmcow/meter/compare/peer_workload.hpp) from standard input and builds the value.
///         For each child it hands the value over, applies the writes and does the reads; it keeps all that the
///         children have to the end. Then it prints one JSON object and exits with 0:
///
///     build_seconds                                    for the value
///     hand_over_seconds, write_seconds, read_seconds   for all children together, by a clock that never goes back
///     memory_before_bytes, memory_after_bytes          of the value, and with all children; null if not known
///     copied_bytes                                     for all children together; null if not known
///     checksum   of the words that the last child read: 16 hexadecimal digits of c, which begins as 0 and becomes
///                (c << 5 | c >> 59) ^ word with each word
///     about      one line that names the language's runtime and the source of the memory figures; may be missing
struct PeerProgram {
    std::string name;
    std::string path;
};

struct FoundPeers {
    std::vector<PeerProgram> programs;
    std::vector<std::string> warnings;  ///< files that are left out, and peers of scripts/peers that are missing
};

/// The programs NAME.peer in `folder`, sorted by name. Without `folder`, those in the folder that the environment's
/// VMCOW_PEERS names, or else where scripts/peers puts them, beside the build that this command belongs to.
/// Throws: std::system_error -- `folder` cannot be read.
[[nodiscard]] FoundPeers find_peers(const std::optional<std::string>& folder);

/// What a peer has answered, in the figures of an engine.
struct PeerAnswer {
    meter::EngineFigures figures;
    std::string about;
};

/// Runs a peer for at most `timeout`, in a process group of its own, which is killed in the end.
/// Throws: std::runtime_error -- what is wrong with the peer or with its answer, in a few words; std::system_error --
///         the peer could not be started.
[[nodiscard]] PeerAnswer run_peer(const PeerProgram& peer, const sys::UniqueFd& workload_file,
                                  const meter::Workload& workload, std::uint64_t children,
                                  std::chrono::nanoseconds timeout);

}  // namespace vmcow::cli
