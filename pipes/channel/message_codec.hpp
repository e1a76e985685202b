#pragma once

#include <boost/container/small_vector.hpp>
#include <cstddef>
#include <span>
#include <vector>

#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"

namespace pipes {

/// A message that is being written: bytes, and snapshots as descriptors. The writer keeps the descriptors of the
/// snapshots' parts open until it is destroyed.
// NOLINTNEXTLINE(bugprone-exception-escape): small_vector's move assignment does not throw, its allocator has no state.
class MessageWriter {
public:
    void put(std::span<const std::byte> bytes);
    /// Adds a snapshot: its extent, slot, name and layers as bytes, its memfds as descriptors.
    /// Throws: std::system_error -- EMFILE; E2BIG past `MessageSocket::kMaxFds` descriptors.
    void put(const vmcow::Snapshot& snapshot);
    /// Adds a descriptor without bytes.
    /// Throws: std::system_error -- E2BIG past `MessageSocket::kMaxFds` descriptors.
    void put(vmcow::sys::UniqueFd fd);

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {bytes_.data(), bytes_.size()}; }
    [[nodiscard]] std::span<const int> fds() const noexcept { return numbers_; }

private:
    static constexpr std::size_t kSmallBytes = 64;  // a short message allocates nothing

    boost::container::small_vector<std::byte, kSmallBytes> bytes_;
    std::vector<vmcow::sys::UniqueFd> fds_;
    std::vector<int> numbers_;
};

/// Refuses a received message that does not hold what it should (I3).
/// Throws: std::system_error -- EBADMSG, with the text `what`.
[[noreturn]] void refuse_message(const char* what);

/// Reads what a MessageWriter wrote. A message of another process is not trusted: every read is checked (I3).
/// Throws: std::system_error -- EBADMSG from any member when the message does not hold what is asked for.
class MessageReader {
public:
    /// Takes the descriptors over. `bytes` is not copied, so it must live as long as the reader.
    MessageReader(std::span<const std::byte> bytes, std::vector<vmcow::sys::UniqueFd> fds);

    [[nodiscard]] std::span<const std::byte> take(std::size_t bytes);
    [[nodiscard]] vmcow::Snapshot take_snapshot();
    [[nodiscard]] vmcow::sys::UniqueFd take_fd();
    /// Bytes not yet taken.
    [[nodiscard]] std::size_t left() const noexcept { return bytes_.size(); }
    /// Throws when anything is left: the two sides then do not agree on what was sent.
    void expect_end() const;

private:
    std::span<const std::byte> bytes_;
    std::vector<vmcow::sys::UniqueFd> fds_;
    std::size_t next_fd_ = 0;
};

}  // namespace pipes
