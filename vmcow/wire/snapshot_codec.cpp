#include "vmcow/wire/snapshot_codec.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string>
#include <type_traits>

#include "vmcow/image/snapshot_parts.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

static_assert(std::is_trivially_copyable_v<SnapshotRecord>, "it is sent as its bytes");

std::pair<dev_t, ino_t> identity_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) sys::throw_errno("stat descriptor " + std::to_string(fd));
    return {status.st_dev, status.st_ino};
}

template <class Files>
typename Files::mapped_type find_file(const Files& files, int fd) {
    const auto found = files.find(identity_of(fd));
    return found == files.end() ? nullptr : found->second;
}

/// As Snapshot::adopt, over a base that needs no check: it is a sealed file of this process.
Snapshot adopt_over(std::shared_ptr<const ReadOnlyImage> base, SnapshotParts parts, const SentFiles& sent) {
    const PageCount pages = std::max(pages_of(parts.extent_bytes), PageCount{1});
    if (!Snapshot::fits(base->bytes(), parts.extent_bytes)) {
        sys::throw_error(EBADMSG, "received image: its size does not fit its extent");
    }
    std::vector<std::shared_ptr<const Delta>> deltas;
    for (SnapshotParts::DeltaPart& part : parts.deltas) {
        auto delta = sent.delta(part.fd.get());
        // The delta may have been sent over another base: then it may have pages that this image does not have.
        const bool is_ours =
            delta && PageCount{delta->pages().size()} == part.pages && delta->pages().back().value < pages.value;
        deltas.push_back(is_ours ? std::move(delta) : Delta::adopt(std::move(part.fd), part.pages, pages));
    }
    return Snapshot(std::make_shared<const Layers>(std::move(base), parts.extent_bytes, deltas));
}

}  // namespace

PackedSnapshot pack(const Snapshot& snapshot) {
    SnapshotParts parts = snapshot.parts();
    PackedSnapshot packed;
    VMCOW_ASSERT(parts.deltas.size() <= packed.record.delta_pages.size() && "a snapshot has a few deltas");
    packed.record.extent_bytes = parts.extent_bytes;
    packed.record.slot_address = parts.slot_address;
    packed.record.delta_count = parts.deltas.size();
    snapshot.name().copy(packed.record.name.data(), packed.record.name.size() - 1);
    packed.fds.push_back(std::move(parts.base));
    for (std::size_t i = 0; i < parts.deltas.size(); ++i) {
        packed.record.delta_pages[i] = parts.deltas[i].pages.value;
        packed.fds.push_back(std::move(parts.deltas[i].fd));
    }
    return packed;
}

void SentFiles::add(const Snapshot& snapshot, std::vector<sys::UniqueFd> fds) {
    VMCOW_ASSERT(!fds.empty() && "a snapshot has a base");
    const Layers& layers = *snapshot.layers();
    const Identity base = identity_of(fds.front().get());
    if (base != identity_of(layers.base().fd())) return;
    VMCOW_ASSERT(fds.size() == 1 + layers.deltas().size() && "a snapshot is sent as its base and its deltas");
    bases_.insert_or_assign(base, layers.shared_base());
    for (std::size_t i = 1; i < fds.size(); ++i) {
        deltas_.insert_or_assign(identity_of(fds[i].get()), layers.deltas()[i - 1]);
    }
    std::move(fds.begin(), fds.end(), std::back_inserter(fds_));
}

std::shared_ptr<const ReadOnlyImage> SentFiles::base(int fd) const { return find_file(bases_, fd); }

std::shared_ptr<const Delta> SentFiles::delta(int fd) const { return find_file(deltas_, fd); }

Snapshot unpack(const SnapshotRecord& record, const std::function<sys::UniqueFd()>& next_fd, const SentFiles* sent) {
    if (record.delta_count > record.delta_pages.size()) {
        sys::throw_error(EBADMSG, "received message: a snapshot with too many deltas");
    }
    SnapshotParts parts;
    parts.extent_bytes = record.extent_bytes;
    parts.slot_address = record.slot_address;
    parts.base = next_fd();
    for (std::size_t i = 0; i < record.delta_count; ++i) {
        sys::UniqueFd fd = next_fd();
        parts.deltas.push_back({std::move(fd), {record.delta_pages[i]}});
    }
    if (sent != nullptr) {
        if (auto base = sent->base(parts.base.get())) return adopt_over(std::move(base), std::move(parts), *sent);
    }
    const auto end = std::find(record.name.begin(), record.name.end() - 1, '\0');
    return Snapshot::adopt(std::move(parts), std::string(record.name.begin(), end));
}

}  // namespace vmcow
