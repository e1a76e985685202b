#include "vmcow/values_message.hpp"

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

/// Two programs that were built apart meet here: whatever changes the records changes the number.
constexpr std::uint64_t kMagic = 0x314c41564d56;  // "VMVAL1", little-endian

struct Header {
    std::uint64_t magic = kMagic;
    std::uint64_t count = 0;
};

struct Record {
    std::uint64_t type = 0;
    SnapshotRecord snapshot;
};

constexpr std::uint64_t kArenaMagic = 0x314e4541564d56;  // "VMVAEN1"

/// All of a message that gives an arena away.
struct ArenaRecord {
    std::uint64_t magic = kArenaMagic;
    std::uint64_t type = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t reserve_bytes = 0;
    std::uint64_t huge_bytes = 0;
    std::array<char, 64> name{};  // zero-terminated, cut off where it is longer
};

static_assert(std::is_trivially_copyable_v<Header> && std::is_trivially_copyable_v<Record>);
static_assert(sizeof(Header) + sys::kMaxMessageFds * sizeof(Record) <= sys::kMaxMessageBytes,
              "descriptors are what limits a message: every value has one at least");

template <class T>
void append(std::vector<std::byte>& bytes, const T& value) {
    const auto added = std::as_bytes(std::span(&value, 1));
    bytes.insert(bytes.end(), added.begin(), added.end());
}

template <class T>
T read_at(const std::vector<std::byte>& bytes, std::size_t offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
}

[[noreturn]] void malformed(const char* what) { sys::throw_error(EBADMSG, std::string("received values: ") + what); }

/// How many values the message says it holds, which its length confirms.
std::size_t checked_count(const std::vector<std::byte>& bytes) {
    if (bytes.size() < sizeof(Header)) malformed("shorter than what it should hold");
    const auto header = read_at<Header>(bytes, 0);
    if (header.magic != kMagic) malformed("not of the form that this program knows");
    const std::size_t records = bytes.size() - sizeof(Header);
    if (records % sizeof(Record) != 0 || records / sizeof(Record) != header.count) malformed("not as many as it says");
    return header.count;
}

bool holds_arena(const std::vector<std::byte>& bytes) {
    return bytes.size() >= sizeof(kArenaMagic) && read_at<std::uint64_t>(bytes, 0) == kArenaMagic;
}

TypedArena unpack_arena(sys::Message message) {
    if (message.bytes.size() != sizeof(ArenaRecord) || message.fds.size() != 1) malformed("no arena and its file");
    auto record = read_at<ArenaRecord>(message.bytes, 0);
    record.name.back() = '\0';
    return {Arena::adopt({.fd = std::move(message.fds.front()),
                          .extent_bytes = record.extent_bytes,
                          .reserve_bytes = record.reserve_bytes,
                          .huge_bytes = record.huge_bytes,
                          .name = record.name.data()}),
            record.type};
}

}  // namespace

std::string values_variable(int socket) {
    struct stat status {};
    if (::fstat(socket, &status) != 0) sys::throw_errno("stat descriptor " + std::to_string(socket));
    return std::to_string(socket) + ":" + std::to_string(status.st_ino);
}

std::optional<int> socket_of_values_variable(const char* content) {
    const std::string_view text = content == nullptr ? std::string_view() : content;
    int socket = -1;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), socket);
    if (parsed.ec != std::errc() || socket < 0) return std::nullopt;
    struct stat status {};
    if (::fstat(socket, &status) != 0 || !S_ISSOCK(status.st_mode) || values_variable(socket) != text) {
        return std::nullopt;
    }
    return socket;
}

void send_values(int socket, std::span<const TypedSnapshot> values, SentFiles* sent) {
    std::vector<std::byte> bytes;
    std::vector<PackedSnapshot> packed;
    std::vector<int> fds;
    append(bytes, Header{.count = values.size()});
    for (const TypedSnapshot& value : values) {
        packed.push_back(pack(value.snapshot));
        append(bytes, Record{value.type, packed.back().record});
        for (const sys::UniqueFd& fd : packed.back().fds) fds.push_back(fd.get());
        if (fds.size() > sys::kMaxMessageFds) {
            sys::throw_error(E2BIG, "send " + std::to_string(values.size()) + " values in one message");
        }
    }
    sys::send_message(socket, bytes, fds);
    if (sent == nullptr) return;
    for (std::size_t i = 0; i < packed.size(); ++i) sent->add(values[i].snapshot, std::move(packed[i].fds));
}

void send_arena(int socket, TypedArena value) {
    const DetachedArena detached = std::move(value.arena).detach();
    ArenaRecord record{.type = value.type,
                       .extent_bytes = detached.extent_bytes,
                       .reserve_bytes = detached.reserve_bytes,
                       .huge_bytes = detached.huge_bytes,
                       .name = {}};
    detached.name.copy(record.name.data(), record.name.size() - 1);
    const std::array fds{detached.fd.get()};
    sys::send_message(socket, std::as_bytes(std::span(&record, 1)), fds);
}

std::vector<TypedSnapshot> unpack_values(sys::Message message, const SentFiles* sent) {
    const std::size_t count = checked_count(message.bytes);
    std::size_t next = 0;
    const auto next_fd = [&] {
        if (next == message.fds.size()) malformed("fewer files than it should hold");
        return std::move(message.fds[next++]);
    };
    std::vector<TypedSnapshot> values;
    for (std::size_t i = 0; i < count; ++i) {
        const auto record = read_at<Record>(message.bytes, sizeof(Header) + i * sizeof(Record));
        values.push_back({unpack(record.snapshot, next_fd, sent), record.type});
    }
    if (next != message.fds.size()) malformed("more files than it should hold");
    return values;
}

TypedImage unpack_image(sys::Message message) {
    if (holds_arena(message.bytes)) return unpack_arena(std::move(message));
    std::vector<TypedSnapshot> values = unpack_values(std::move(message));
    if (values.size() != 1) malformed("not one value");
    return std::move(values.front());
}

}  // namespace vmcow
