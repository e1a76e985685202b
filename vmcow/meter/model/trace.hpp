#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmcow::meter {

/// The size in bytes of the largest image. No address space that vmcow runs in holds more, and no sum of sizes
/// overflows.
inline constexpr std::uint64_t kLargestImage = std::uint64_t{1} << 46;

/// One write: where in the image it begins, and how long it is.
struct TracedWrite {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    bool operator==(const TracedWrite&) const = default;
};

/// Writes to an image, in the order in which they happened and are replayed. They are neither sorted nor joined, and
/// may overlap.
///
/// Shape: a file has one of two forms.
///
///     binary  0   "vmcowtrc"
///             8   u32 1           the version
///             12  u32 0x01020304  in the byte order of all numbers, which is little-endian
///             16  u64 count
///             24  count times u64 offset, u64 bytes; nothing follows
///
///     CSV     a line "offset,length", which may be missing, and a line with the two numbers for each write; decimal,
///             or hexadecimal after 0x. Spaces around the numbers, a carriage return at the end of a line and empty
///             lines are ignored.
class Trace {
public:
    /// Throws: std::invalid_argument that names the first invalid write, counted from 1: one of 0 bytes, one that ends
    ///         past `kLargestImage`, or one with which the sum of lengths exceeds 64 bits. Also if there are no writes.
    explicit Trace(std::vector<TracedWrite> writes);

    [[nodiscard]] std::span<const TracedWrite> writes() const noexcept { return writes_; }
    /// The size in bytes of the smallest image that holds all writes.
    [[nodiscard]] std::uint64_t end_bytes() const noexcept { return end_bytes_; }

    /// The content of a binary trace file.
    [[nodiscard]] std::string binary() const;
    /// The content of a CSV trace file.
    [[nodiscard]] std::string csv() const;

private:
    std::vector<TracedWrite> writes_;
    std::uint64_t end_bytes_ = 0;
};

/// The most writes that are read from a file, 1 GiB in memory; in a CSV file, the most lines. The file may be a pipe or
/// a device that never ends.
inline constexpr std::size_t kMostTracedWrites = std::size_t{1} << 26;

/// Reads a trace file. How the file begins tells which form it has.
/// Throws: std::invalid_argument that names the file, the line or entry, and what is wrong there, also if there are
///         more than `most` writes; std::system_error -- the file cannot be read.
/// Cost:   the file is read once, piece by piece; only the writes are kept in memory.
[[nodiscard]] Trace read_trace(const std::string& path, std::size_t most = kMostTracedWrites);

/// Reads a trace from the content of a file in either form. Throws: std::invalid_argument that names `name`, the line
/// or entry, and what is wrong there.
[[nodiscard]] Trace parse_trace(std::string_view content, const std::string& name);

}  // namespace vmcow::meter
