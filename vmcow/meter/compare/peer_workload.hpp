#pragma once

#include <cstdint>
#include <optional>

#include "vmcow/meter/model/workload.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::meter {

/// The standard input of a peer: a program that does in another language what an engine of `vmcow compare` does. It
/// gets the writes of a workload word by word, so that it needs to know nothing of patterns and seeds.
///
/// Shape:  a sealed memfd; all numbers are little-endian u64.
///
///     0   "vmcowcmp"
///     8   1               the version
///     16  words           how many the value has; word i is at first x ^ x << 21 ^ x << 42 with x = i + 1
///     24  children        how many get the value, one after the other
///     32  writes, reads   how many of each follow
///     48  writes times    index, mask, bits: the word becomes word & ~mask | bits
///         reads times     index of a word that is read after all writes
///
/// Returns: nothing if there are more than `most` writes of a word.
/// Throws:  std::system_error -- ENOMEM, EMFILE.
[[nodiscard]] std::optional<sys::UniqueFd> peer_workload(const Workload& workload, std::uint64_t children,
                                                         std::uint64_t most);

}  // namespace vmcow::meter
