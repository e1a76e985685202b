#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "vmcow/layers.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// A snapshot as it stands among the bytes of a message; its files are among the descriptors of the message, in the
/// order base, oldest delta, …
struct SnapshotRecord {
    std::uint64_t extent_bytes = 0;
    std::uint64_t slot_address = 0;
    std::uint64_t delta_count = 0;
    std::array<std::uint64_t, Layers::kMaxDeltas> delta_pages{};
    std::array<char, 64> name{};  // zero-terminated, cut off where it is longer
};

/// A snapshot made ready to be sent.
struct PackedSnapshot {
    SnapshotRecord record;
    std::vector<sys::UniqueFd> fds;
};

/// Throws: std::system_error -- EMFILE, ENOMEM. Cost: as Snapshot::parts.
[[nodiscard]] PackedSnapshot pack(const Snapshot& snapshot);

/// The files of snapshots that this process has sent. When one of them comes back in another snapshot, it is the object
/// that is here already and not a second mapping of the same pages: the two snapshots are relatives, as if both had
/// been made here.
///
/// A file is known by its device and inode, which no other file has while it lives; so they are kept alive.
class SentFiles {
public:
    /// Takes over the files that `pack(snapshot)` has made, after they were sent. A snapshot whose base had to be
    /// copied for that is not known again. Throws: std::system_error -- EBADF.
    void add(const Snapshot& snapshot, std::vector<sys::UniqueFd> fds);

    /// nullptr when `fd` is none of them. Throws: std::system_error -- EBADF.
    [[nodiscard]] std::shared_ptr<const ReadOnlyImage> base(int fd) const;
    [[nodiscard]] std::shared_ptr<const Delta> delta(int fd) const;

private:
    using Identity = std::pair<dev_t, ino_t>;

    std::map<Identity, std::shared_ptr<const ReadOnlyImage>> bases_;
    std::map<Identity, std::shared_ptr<const Delta>> deltas_;
    std::vector<sys::UniqueFd> fds_;
};

/// Takes a snapshot over that another process sent. Nothing about it is trusted (I3). `next_fd` gives the descriptors,
/// one for each call.
/// Throws: std::system_error -- EBADMSG, naming what is wrong; ENOMEM; what `next_fd` throws.
[[nodiscard]] Snapshot unpack(const SnapshotRecord& record, const std::function<sys::UniqueFd()>& next_fd,
                              const SentFiles* sent = nullptr);

}  // namespace vmcow
