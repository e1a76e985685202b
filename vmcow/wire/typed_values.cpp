#include "vmcow/wire/typed_values.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "vmcow/image/arena_access.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/wire/snapshot_codec.hpp"

namespace vmcow {
namespace {

/// The sender and the receiver may have been built apart: a change of the records has to change this number.
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

/// The whole of a message that asks for the next value.
constexpr std::uint64_t kRequestMagic = 0x314b53414d56;  // "VMASK1"

/// The whole of a message that gives an arena away, besides its descriptor.
struct ArenaRecord {
    std::uint64_t magic = kArenaMagic;
    std::uint64_t type = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t reserve_bytes = 0;
    std::uint64_t huge_bytes = 0;
    std::array<char, 64> name{};  // zero-terminated, cut off if it is longer
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

/// The number of values that a message names, after it was checked against the length of the message.
std::size_t checked_count(const std::vector<std::byte>& bytes) {
    if (bytes.size() < sizeof(Header)) malformed("the message is shorter than its header");
    const auto header = read_at<Header>(bytes, 0);
    if (header.magic != kMagic) malformed("the message is not in the format of this build");
    const std::size_t records = bytes.size() - sizeof(Header);
    if (records % sizeof(Record) != 0 || records / sizeof(Record) != header.count) {
        malformed("the message does not hold as many values as its header says");
    }
    return header.count;
}

bool holds_arena(const std::vector<std::byte>& bytes) {
    return bytes.size() >= sizeof(kArenaMagic) && read_at<std::uint64_t>(bytes, 0) == kArenaMagic;
}

TypedArena unpack_arena(sys::Message message) {
    if (message.bytes.size() != sizeof(ArenaRecord) || message.fds.size() != 1) {
        malformed("the message does not hold one arena and its file");
    }
    auto record = read_at<ArenaRecord>(message.bytes, 0);
    record.name.back() = '\0';
    return {ArenaAccess::adopt({.fd = std::move(message.fds.front()),
                                .extent_bytes = record.extent_bytes,
                                .reserve_bytes = record.reserve_bytes,
                                .huge_bytes = record.huge_bytes,
                                .name = record.name.data()}),
            record.type};
}

}  // namespace

void send_value_request(int socket) { sys::send_message(socket, std::as_bytes(std::span(&kRequestMagic, 1)), {}); }

bool is_value_request(const sys::Message& message) noexcept {
    return message.bytes.size() == sizeof(kRequestMagic) && message.fds.empty() &&
           std::memcmp(message.bytes.data(), &kRequestMagic, sizeof(kRequestMagic)) == 0;
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
    VMCOW_ASSERT(value.arena.is_own() && "I3: a function process does not give its caller's file away");
    const DetachedArena detached = ArenaAccess::detach(std::move(value.arena));
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
        if (next == message.fds.size()) malformed("the message has fewer files than its values");
        return std::move(message.fds[next++]);
    };
    std::vector<TypedSnapshot> values;
    for (std::size_t i = 0; i < count; ++i) {
        const auto record = read_at<Record>(message.bytes, sizeof(Header) + i * sizeof(Record));
        values.push_back({unpack(record.snapshot, next_fd, sent), record.type});
    }
    if (next != message.fds.size()) malformed("the message has more files than its values");
    return values;
}

TypedImage unpack_image(sys::Message message) {
    if (holds_arena(message.bytes)) return unpack_arena(std::move(message));
    std::vector<TypedSnapshot> values = unpack_values(std::move(message));
    if (values.size() != 1) malformed("the message does not hold exactly one value");
    return std::move(values.front());
}

}  // namespace vmcow
