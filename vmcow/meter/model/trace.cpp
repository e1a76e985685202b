#include "vmcow/meter/model/trace.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>

#include "vmcow/sys/fd.hpp"

namespace vmcow::meter {
namespace {

static_assert(std::endian::native == std::endian::little, "a binary trace is in the byte order of this machine");

constexpr std::string_view kMagic = "vmcowtrc";
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kByteOrder = 0x01020304;
constexpr std::string_view kCsvHeader = "offset,length";

struct Header {
    std::array<char, 8> magic{};
    std::uint32_t version = kVersion;
    std::uint32_t byte_order = kByteOrder;
    std::uint64_t count = 0;
};
static_assert(sizeof(Header) == 24 && sizeof(TracedWrite) == 16, "a binary trace has the layout of memory");

/// Reads the next bytes of a file into a span and returns how many; fewer than the span holds only at the end.
using Source = std::function<std::size_t(std::span<std::byte>)>;

[[noreturn]] void reject(const std::string& why) { throw std::invalid_argument(why); }

/// Why a write is invalid; nothing if it is valid.
std::optional<std::string> objection(const TracedWrite& write) {
    if (write.bytes == 0) return "a write of 0 bytes writes nothing";
    if (write.offset > kLargestImage || write.bytes > kLargestImage - write.offset) {
        return "a write of " + std::to_string(write.bytes) + " bytes at " + std::to_string(write.offset) +
               " is out of range: past any address space";
    }
    return std::nullopt;
}

std::uint64_t checked_count(const Header& header, const std::string& name) {
    const auto swapped = __builtin_bswap32(kByteOrder);
    if (header.byte_order == swapped) reject(name + ": a trace in the other byte order (big endian)");
    if (header.byte_order != kByteOrder) reject(name + ": not a trace: the mark of the byte order is damaged");
    if (header.version != kVersion) {
        reject(name + ": a trace of version " + std::to_string(header.version) + ", and only version " +
               std::to_string(kVersion) + " is known");
    }
    if (header.count == 0) reject(name + ": a trace without writes");
    return header.count;
}

Trace trace_of(std::vector<TracedWrite> writes, const std::string& name) {
    try {
        return Trace(std::move(writes));
    } catch (const std::invalid_argument& error) {
        reject(name + ": " + error.what());
    }
}

/// Reads the entries of a binary trace. `count` is not trusted: memory is taken only as entries are read (I3).
Trace read_entries(std::uint64_t count, const std::string& name, std::size_t most, const Source& source) {
    constexpr std::size_t kStep = std::size_t{64} << 10;
    std::vector<TracedWrite> writes;
    while (writes.size() < count) {
        const std::size_t done = writes.size();
        if (done >= most) reject(name + ": more writes than a trace can have, " + std::to_string(most));
        const auto step = static_cast<std::size_t>(std::min<std::uint64_t>({kStep, count - done, most - done}));
        writes.resize(done + step);
        const std::span<TracedWrite> fresh(writes.data() + done, step);
        const std::size_t bytes = source(std::as_writable_bytes(fresh));
        if (bytes < fresh.size_bytes()) {
            reject(name + ": truncated: it ends in entry " + std::to_string(done + bytes / sizeof(TracedWrite) + 1) +
                   " of " + std::to_string(count));
        }
        for (std::size_t i = 0; i < step; ++i) {
            if (const auto why = objection(fresh[i]))
                reject(name + ": entry " + std::to_string(done + i + 1) + ": " + *why);
        }
    }
    std::byte more{};
    if (source({&more, 1}) != 0) {
        reject(name + ": not a trace: it goes on behind its " + std::to_string(count) + " entries");
    }
    return trace_of(std::move(writes), name);
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view kBlank = " \t\r";
    const std::size_t first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::uint64_t parse_number(std::string_view text) {
    const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    const std::string_view digits = text.substr(hexadecimal ? 2 : 0);
    std::uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, hexadecimal ? 16 : 10);
    if (error == std::errc::result_out_of_range) reject("'" + std::string(text) + "' is more than 64 bits can count");
    if (error != std::errc() || end != digits.data() + digits.size()) {
        reject("'" + std::string(text) + "' is not a whole number");
    }
    return value;
}

TracedWrite parse_line(std::string_view line) {
    const std::size_t comma = line.find(',');
    if (comma == std::string_view::npos) reject("no offset and length with a comma between them");
    const TracedWrite write{parse_number(trimmed(line.substr(0, comma))),
                            parse_number(trimmed(line.substr(comma + 1)))};
    if (const auto why = objection(write)) reject(*why);
    return write;
}

bool is_csv_header(std::string_view line) {
    std::string dense(line);
    std::erase_if(dense, [](char c) { return c == ' ' || c == '\t'; });
    return dense == kCsvHeader;
}

/// Rejects binary content before a message quotes any of it: control characters must not reach a terminal.
void require_text(std::string_view content, const std::string& name) {
    const auto is_binary = [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f;
    };
    if (std::any_of(content.begin(), content.end(), is_binary)) {
        reject(name + ": not a trace: neither text nor '" + std::string(kMagic) + "' at its start");
    }
}

/// Parses a CSV trace piece by piece.
class CsvReader {
public:
    CsvReader(std::string name, std::size_t most) : name_(std::move(name)), most_(most) {}

    void take(std::string_view piece) {
        require_text(piece, name_);
        rest_ += piece;
        std::size_t at = 0;
        for (std::size_t end = 0; (end = rest_.find('\n', at)) != std::string::npos; at = end + 1) {
            take_line(std::string_view(rest_).substr(at, end - at));
        }
        rest_.erase(0, at);
        if (rest_.size() > kLongestLine)
            reject(name_ + ": not a trace: line " + std::to_string(number_ + 1) + " is too long");
    }

    Trace finish() && {
        take_line(rest_);
        return trace_of(std::move(writes_), name_);
    }

private:
    /// Two 64-bit numbers and a comma take 41 characters, and there may be spaces around the numbers.
    static constexpr std::size_t kLongestLine = 1024;

    void take_line(std::string_view text) {
        const std::string_view line = trimmed(text);
        ++number_;
        if (number_ > most_ + 1) reject(name_ + ": more lines than a trace can have, " + std::to_string(most_));
        if (line.empty() || (number_ == 1 && is_csv_header(line))) return;
        try {
            writes_.push_back(parse_line(line));
        } catch (const std::invalid_argument& error) {
            reject(name_ + ": line " + std::to_string(number_) + ": " + error.what());
        }
    }

    std::string name_;
    std::size_t most_;
    std::vector<TracedWrite> writes_;
    std::string rest_;  // the beginning of a line whose end has not been read
    std::uint64_t number_ = 0;
};

Trace read_csv(const std::string& begin, const std::string& name, std::size_t most, const Source& source) {
    constexpr std::size_t kStep = std::size_t{1} << 20;
    std::string piece = begin;
    piece.resize(kStep);
    std::size_t done = begin.size();
    CsvReader reader(name, most);
    for (;;) {
        const std::size_t bytes = source(std::as_writable_bytes(std::span(piece).subspan(done)));
        reader.take(std::string_view(piece).substr(0, done + bytes));
        if (done + bytes < kStep) return std::move(reader).finish();
        done = 0;
    }
}

Trace read_from(const Source& source, const std::string& name, std::size_t most) {
    Header header;
    const std::size_t bytes = source(std::as_writable_bytes(std::span(&header, 1)));
    const std::string begin(reinterpret_cast<const char*>(&header), bytes);
    if (!begin.starts_with(kMagic)) return read_csv(begin, name, most, source);
    if (bytes < sizeof(header)) reject(name + ": truncated: it ends within its header");
    return read_entries(checked_count(header, name), name, most, source);
}

}  // namespace

Trace::Trace(std::vector<TracedWrite> writes) : writes_(std::move(writes)) {
    if (writes_.empty()) reject("a trace without writes");
    std::uint64_t logical = 0;
    for (std::size_t i = 0; i < writes_.size(); ++i) {
        if (const auto why = objection(writes_[i])) reject("write " + std::to_string(i + 1) + ": " + *why);
        if (writes_[i].bytes > std::numeric_limits<std::uint64_t>::max() - logical) {
            reject("write " + std::to_string(i + 1) + ": the writes are more bytes than 64 bits can count");
        }
        logical += writes_[i].bytes;
        end_bytes_ = std::max(end_bytes_, writes_[i].offset + writes_[i].bytes);
    }
}

std::string Trace::binary() const {
    Header header{.count = writes_.size()};
    std::copy(kMagic.begin(), kMagic.end(), header.magic.begin());
    std::string text(sizeof(header) + writes_.size() * sizeof(TracedWrite), '\0');
    std::memcpy(text.data(), &header, sizeof(header));
    std::memcpy(text.data() + sizeof(header), writes_.data(), writes_.size() * sizeof(TracedWrite));
    return text;
}

std::string Trace::csv() const {
    std::string text(kCsvHeader);
    text += '\n';
    for (const TracedWrite& write : writes_) {
        text += std::to_string(write.offset) + "," + std::to_string(write.bytes) + "\n";
    }
    return text;
}

Trace read_trace(const std::string& path, std::size_t most) {
    const sys::UniqueFd file = sys::open_file(path, O_RDONLY | O_NOCTTY);
    return read_from([&](std::span<std::byte> bytes) { return sys::read_full(file.get(), bytes, path); }, path, most);
}

Trace parse_trace(std::string_view content, const std::string& name) {
    return read_from(
        [&](std::span<std::byte> bytes) {
            const std::size_t count = std::min(bytes.size(), content.size());
            std::memcpy(bytes.data(), content.data(), count);
            content.remove_prefix(count);
            return count;
        },
        name, kMostTracedWrites);
}

}  // namespace vmcow::meter
