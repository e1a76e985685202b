#include "pipes/pump/pump_calls.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "vmcow/sys/error.hpp"

namespace pipes::calls {
namespace {

constexpr unsigned kFlags = SPLICE_F_NONBLOCK | SPLICE_F_MOVE;

template <class Call>
ssize_t result_of(Call&& call) noexcept {
    const ssize_t done = vmcow::sys::retry_interrupted(call);
    return done < 0 ? -errno : done;
}

}  // namespace

ssize_t splice(int from, int to, std::size_t bytes) noexcept {
    return result_of([&] { return ::splice(from, nullptr, to, nullptr, bytes, kFlags); });
}

ssize_t splice_at(int from, std::uint64_t offset, int to, std::size_t bytes) noexcept {
    auto at = static_cast<off_t>(offset);
    return result_of([&] { return ::splice(from, &at, to, nullptr, bytes, kFlags); });
}

ssize_t tee(int from, int to, std::size_t bytes) noexcept {
    return result_of([&] { return ::tee(from, to, bytes, SPLICE_F_NONBLOCK); });
}

ssize_t read(int from, std::span<std::byte> into) noexcept {
    return result_of([&] { return ::read(from, into.data(), into.size()); });
}

ssize_t write(int to, std::span<const std::byte> bytes) noexcept {
    return result_of([&] { return ::write(to, bytes.data(), bytes.size()); });
}

ssize_t send(int to, std::span<const std::byte> bytes) noexcept {
    return result_of([&] { return ::send(to, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL); });
}

}  // namespace pipes::calls
