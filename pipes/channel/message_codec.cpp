#include "pipes/channel/message_codec.hpp"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "pipes/message_socket.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/wire/snapshot_codec.hpp"

namespace pipes {
namespace {

using vmcow::sys::UniqueFd;

[[noreturn]] void malformed(const char* what) {
    vmcow::sys::throw_error(EBADMSG, std::string("received message: ") + what);
}

}  // namespace

void refuse_message(const char* what) { vmcow::sys::throw_error(EBADMSG, what); }

void MessageWriter::put(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

void MessageWriter::put(UniqueFd fd) {
    if (fds_.size() >= MessageSocket::kMaxFds) vmcow::sys::throw_error(E2BIG, "put more descriptors into one message");
    numbers_.push_back(fd.get());
    fds_.push_back(std::move(fd));
}

void MessageWriter::put(const vmcow::Snapshot& snapshot) {
    vmcow::PackedSnapshot packed = vmcow::pack(snapshot);
    for (UniqueFd& fd : packed.fds) put(std::move(fd));
    put(std::as_bytes(std::span(&packed.record, 1)));
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
    vmcow::SnapshotRecord record;
    std::memcpy(&record, take(sizeof(record)).data(), sizeof(record));
    return vmcow::unpack(record, [this] { return take_fd(); });
}

void MessageReader::expect_end() const {
    if (!bytes_.empty() || next_fd_ != fds_.size()) malformed("more than it should hold");
}

}  // namespace pipes
