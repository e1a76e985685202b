#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmcow::measure {

/// One write: where in the image it begins, and how long it is.
struct TracedWrite {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    bool operator==(const TracedWrite&) const = default;
};

/// Writes to an image in the order in which they happened, which is the order in which they are replayed: they are
/// neither sorted nor joined, and may overlap.
///
/// Shape: as a file, either of two.
///
///     binary  0   "vmcowtrc"
///             8   u32 1           the version
///             12  u32 0x01020304  in the byte order of all numbers, which is little
///             16  u64 count
///             24  count times u64 offset, u64 bytes; nothing follows
///
///     CSV     a line "offset,length", which may be missing, and a line with the two numbers for each write; decimal,
///             or hexadecimal after 0x. Spaces around the numbers, a carriage return at the end of a line and empty
///             lines are nothing.
class Trace {
public:
    /// Throws: std::invalid_argument that names the first write, counted from 1, that cannot be one: of 0 bytes, or
    ///         past any address space. A trace without writes is none.
    explicit Trace(std::vector<TracedWrite> writes);

    [[nodiscard]] std::span<const TracedWrite> writes() const noexcept { return writes_; }
    /// The bytes of the smallest image that holds all writes.
    [[nodiscard]] std::uint64_t end_bytes() const noexcept { return end_bytes_; }

    /// The same as a file.
    [[nodiscard]] std::string binary() const;
    [[nodiscard]] std::string csv() const;

private:
    std::vector<TracedWrite> writes_;
    std::uint64_t end_bytes_ = 0;
};

/// What a file holds, told apart by how it begins.
/// Throws: std::invalid_argument with the file's name, the line or the entry, and what is wrong there;
///         std::system_error -- the file cannot be read.
/// Cost:   a binary file is read once, into its place; a CSV file is in memory as text besides.
[[nodiscard]] Trace read_trace(const std::string& path);

/// The same of text that is there already; `name` is for messages.
[[nodiscard]] Trace parse_trace(std::string_view content, const std::string& name);

}  // namespace vmcow::measure
