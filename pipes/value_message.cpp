#include "pipes/value_message.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace pipes {
namespace {

using vmcow::sys::UniqueFd;

/// A snapshot as it stands in a message; its descriptors follow in the order base, oldest delta, …
struct WireSnapshot {
    std::uint64_t extent_bytes = 0;
    std::uint64_t slot_address = 0;
    std::uint64_t delta_count = 0;
    std::array<std::uint64_t, vmcow::Layers::kMaxDeltas> delta_pages{};
    std::array<char, 64> name{};  // zero-terminated, cut off where it is longer
};

[[noreturn]] void malformed(const char* what) {
    vmcow::sys::throw_error(EBADMSG, std::string("received message: ") + what);
}

}  // namespace

void MessageWriter::put(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

void MessageWriter::put(UniqueFd fd) {
    if (fds_.size() >= MessageSocket::kMaxFds) vmcow::sys::throw_error(E2BIG, "put more descriptors into one message");
    numbers_.push_back(fd.get());
    fds_.push_back(std::move(fd));
}

void MessageWriter::put(const vmcow::Snapshot& snapshot) {
    vmcow::SnapshotParts parts = snapshot.parts();
    WireSnapshot wire;
    wire.extent_bytes = parts.extent_bytes;
    wire.slot_address = parts.slot_address;
    wire.delta_count = parts.deltas.size();
    snapshot.name().copy(wire.name.data(), wire.name.size() - 1);
    put(std::move(parts.base));
    for (std::size_t i = 0; i < parts.deltas.size(); ++i) {
        wire.delta_pages[i] = parts.deltas[i].pages.value;
        put(std::move(parts.deltas[i].fd));
    }
    put(std::as_bytes(std::span(&wire, 1)));
}

MessageReader::MessageReader(std::span<const std::byte> bytes, std::vector<UniqueFd> fds)
    : bytes_(bytes), fds_(std::move(fds)) {}

std::span<const std::byte> MessageReader::take(std::size_t bytes) {
    if (bytes > bytes_.size()) malformed("shorter than what it should hold");
    const auto taken = bytes_.first(bytes);
    bytes_ = bytes_.subspan(bytes);
    return taken;
}

UniqueFd MessageReader::take_fd() {
    if (next_fd_ >= fds_.size()) malformed("fewer descriptors than it should hold");
    return std::move(fds_[next_fd_++]);
}

vmcow::Snapshot MessageReader::take_snapshot() {
    WireSnapshot wire;
    std::memcpy(&wire, take(sizeof(wire)).data(), sizeof(wire));
    if (wire.delta_count > wire.delta_pages.size()) malformed("a snapshot with too many deltas");
    wire.name.back() = '\0';
    vmcow::SnapshotParts parts;
    parts.extent_bytes = wire.extent_bytes;
    parts.slot_address = wire.slot_address;
    parts.base = take_fd();
    for (std::size_t i = 0; i < wire.delta_count; ++i) {
        UniqueFd fd = take_fd();
        parts.deltas.push_back({std::move(fd), {wire.delta_pages[i]}});
    }
    return vmcow::Snapshot::adopt(std::move(parts), wire.name.data());
}

void MessageReader::expect_end() const {
    if (!bytes_.empty() || next_fd_ != fds_.size()) malformed("more than it should hold");
}

}  // namespace pipes
