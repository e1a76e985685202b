#pragma once

#include <sys/stat.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/file/bad_block.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// The identity of an image file: random bytes, different for each file that is saved.
using ImageFileId = std::array<std::uint8_t, 16>;

/// The header of an image file.
///
///     offset 0        the header: this structure, zeros up to a page, its checksum in the last 8 bytes
///     stored_offset   the stored pages, one behind the other: the whole image, pages of zeros being holes of the file;
///                     or, in a delta file, the pages that differ from another image file, in the order of the runs
///     tables_offset   one checksum for each block of the stored pages; the runs, as first page and number of pages;
///                     the image's name; the path of the base file, from the directory of this one
///
/// Units:  all numbers are little-endian; checksums are XXH3 of 64 bits; a block is `kImageBlockBytes` of stored pages,
///         the last block is shorter.
/// Source: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
struct ImageFileHeader {
    static constexpr std::array<std::uint8_t, 8> kMagic{0x89, 'v', 'm', 'c', 'o', 'w', '\r', '\n'};
    static constexpr std::uint32_t kVersion = 1;

    std::array<std::uint8_t, 8> magic = kMagic;
    std::uint32_t version = kVersion;
    std::uint32_t page_bytes = kPageBytes;
    ImageFileId id{};
    std::uint64_t type = 0;
    std::uint64_t extent_bytes = 0;
    std::uint64_t block_bytes = 0;
    std::uint64_t stored_offset = 0;
    std::uint64_t stored_bytes = 0;
    std::uint64_t tables_offset = 0;
    std::uint64_t tables_bytes = 0;
    std::uint64_t tables_checksum = 0;
    std::uint64_t run_count = 0;
    std::uint32_t name_bytes = 0;
    std::uint32_t base_path_bytes = 0;
    std::uint64_t depth = 0;  ///< how many files this one stands on; 0 for a whole image
    ImageFileId base_id{};
    std::uint64_t base_header_checksum = 0;
};

/// The size of a block: stored bytes that have one checksum.
inline constexpr std::size_t kImageBlockBytes = std::size_t{256} << 10;
/// A delta file stands on at most this many files.
inline constexpr std::uint64_t kMaxImageFileDepth = 64;

using ImageFileHeaderPage = std::array<std::byte, kPageBytes>;

/// The tables behind the stored pages.
struct ImageFileTables {
    std::vector<std::uint64_t> checksums;
    std::vector<PageRun> runs;
    std::string name;
    std::string base_path;
};

/// The checksum that is used for every part of an image file.
[[nodiscard]] std::uint64_t image_checksum(std::span<const std::byte> bytes) noexcept;

/// The tables as they stand in the file.
[[nodiscard]] std::vector<std::byte> encode_tables(const ImageFileTables& tables);
/// The header as it stands in the file.
[[nodiscard]] ImageFileHeaderPage encode_header(const ImageFileHeader& header) noexcept;
/// The checksum that `encode_header` has put into `page`.
[[nodiscard]] std::uint64_t header_checksum(const ImageFileHeaderPage& page) noexcept;

/// An open image file whose header and tables were checked.
class ImageFile {
public:
    /// Opens a file and trusts nothing in it: every size, offset and index is checked.
    /// Throws: std::system_error -- open(2)'s errno; EBADMSG for a file that is foreign, newer, truncated or corrupted:
    ///         the text names the path, the place and what is wrong.
    /// Cost:   reads a page and the tables, 8 bytes for each 256 KiB of the image.
    explicit ImageFile(const std::filesystem::path& path);
    /// Checks a file that is already open and that was at `path`. Throws: as the constructor that opens it.
    ImageFile(std::filesystem::path path, sys::UniqueFd fd);

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] sys::UniqueFd take_fd() noexcept { return std::move(fd_); }
    [[nodiscard]] const struct stat& status() const noexcept { return status_; }
    [[nodiscard]] const ImageFileHeader& header() const noexcept { return header_; }
    [[nodiscard]] std::uint64_t checksum() const noexcept { return checksum_; }
    [[nodiscard]] const ImageFileTables& tables() const noexcept { return tables_; }
    /// The pages that a delta file holds, ascending; empty for a whole image.
    [[nodiscard]] std::vector<PageIndex> delta_pages() const;
    /// The path of the file that this one stands on. Pre: the depth is not 0.
    [[nodiscard]] std::filesystem::path base_path() const;
    [[nodiscard]] bool is_same_file(const struct stat& other) const noexcept;

    /// Reads all stored bytes. Returns the first block that does not have its checksum, or nullopt.
    /// Throws: std::system_error -- read(2)'s errno with the path.
    [[nodiscard]] std::optional<BadBlock> find_bad_block() const;

    /// Throws: std::system_error -- EBADMSG, naming this file and `what` is wrong with it.
    [[noreturn]] void refuse(const std::string& what) const;

private:
    void read_header();
    void check_version(std::span<const std::byte> begin) const;
    void check_header() const;
    void check_size() const;
    [[nodiscard]] std::vector<std::byte> room_for_tables() const;
    void read_tables();
    void decode_tables(std::span<const std::byte> bytes);
    void check_runs() const;
    /// Fills `bytes` from `offset` on. Throws: EBADMSG: the file ends before, so it is truncated; read(2)'s errno.
    void read_at(std::span<std::byte> bytes, std::uint64_t offset) const;

    std::filesystem::path path_;
    sys::UniqueFd fd_;
    struct stat status_ {};
    ImageFileHeader header_;
    std::uint64_t checksum_ = 0;
    ImageFileTables tables_;
};

}  // namespace vmcow
