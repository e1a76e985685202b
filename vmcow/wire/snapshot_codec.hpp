#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "vmcow/image/layers.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// A snapshot among the bytes of a message. The files of the snapshot are among the descriptors of the message, in the
/// order base, oldest delta, …
struct SnapshotRecord {
    std::uint64_t extent_bytes = 0;
    std::uint64_t slot_address = 0;
    std::uint64_t delta_count = 0;
    std::array<std::uint64_t, Layers::kMaxDeltas> delta_pages{};
    std::array<char, 64> name{};  // zero-terminated, cut off if it is longer
};

/// A snapshot that is ready to be sent.
struct PackedSnapshot {
    SnapshotRecord record;
    std::vector<sys::UniqueFd> fds;
};

/// Makes a snapshot ready to be sent.
/// Throws: std::system_error -- EMFILE, ENOMEM.
/// Cost:   as Snapshot::parts.
[[nodiscard]] PackedSnapshot pack(const Snapshot& snapshot);

/// The files of snapshots that this process has sent. When such a file comes back in another snapshot, the object that
/// this process has is used instead of a second mapping of the same pages: the two snapshots are relatives, as if both
/// had been made here.
///
/// A file is recognized by its device and inode, which no other file has while the file lives; so the files are kept
/// open.
class SentFiles {
public:
    /// Takes over the files that `pack(snapshot)` has made, after they were sent. A snapshot whose base had to be
    /// copied for sending is not recognized later.
    /// Pre:    `fds` are all the descriptors that `pack(snapshot)` has made.
    /// Throws: std::system_error -- EBADF.
    void add(const Snapshot& snapshot, std::vector<sys::UniqueFd> fds);

    /// The base whose file `fd` is; nullptr if it is the file of none. Throws: std::system_error -- EBADF.
    [[nodiscard]] std::shared_ptr<const ReadOnlyImage> base(int fd) const;
    /// The delta whose file `fd` is; nullptr if it is the file of none. Throws: std::system_error -- EBADF.
    [[nodiscard]] std::shared_ptr<const Delta> delta(int fd) const;

private:
    using Identity = std::pair<dev_t, ino_t>;

    std::map<Identity, std::shared_ptr<const ReadOnlyImage>> bases_;
    std::map<Identity, std::shared_ptr<const Delta>> deltas_;
    std::vector<sys::UniqueFd> fds_;
};

/// Takes over a snapshot that another process sent. Nothing about it is trusted (I3). Each call of `next_fd` returns
/// the next descriptor of the message. Files that are in `sent`, if that is not null, are recognized.
/// Throws: std::system_error -- EBADMSG, naming what is wrong; ENOMEM; what `next_fd` throws.
[[nodiscard]] Snapshot unpack(const SnapshotRecord& record, const std::function<sys::UniqueFd()>& next_fd,
                              const SentFiles* sent = nullptr);

}  // namespace vmcow
