#include "vmcow/file/image_file_format.hpp"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's numbers are copied as they are");
static_assert(std::has_unique_object_representations_v<ImageFileHeader>, "no padding of any content in the file");
static_assert(sizeof(PageRun) == 2 * sizeof(std::uint64_t) && std::is_trivially_copyable_v<PageRun>);
static_assert(sizeof(ImageFileHeader) <= kPageBytes - sizeof(std::uint64_t));

constexpr std::size_t kHeaderChecksumAt = kPageBytes - sizeof(std::uint64_t);
constexpr std::uint32_t kMaxNameBytes = PATH_MAX;

std::uint64_t block_count(std::uint64_t stored_bytes) noexcept {
    return stored_bytes / kImageBlockBytes + (stored_bytes % kImageBlockBytes != 0 ? 1 : 0);
}

template <class T>
void append_bytes(std::vector<std::byte>& to, const T* from, std::size_t bytes) {
    const auto* const begin = reinterpret_cast<const std::byte*>(from);
    to.insert(to.end(), begin, begin + bytes);
}

}  // namespace

std::uint64_t image_checksum(std::span<const std::byte> bytes) noexcept {
    return ::XXH3_64bits(bytes.data(), bytes.size());
}

std::vector<std::byte> encode_tables(const ImageFileTables& tables) {
    std::vector<std::byte> bytes;
    append_bytes(bytes, tables.checksums.data(), tables.checksums.size() * sizeof(std::uint64_t));
    append_bytes(bytes, tables.runs.data(), tables.runs.size() * sizeof(PageRun));
    append_bytes(bytes, tables.name.data(), tables.name.size());
    append_bytes(bytes, tables.base_path.data(), tables.base_path.size());
    return bytes;
}

ImageFileHeaderPage encode_header(const ImageFileHeader& header) noexcept {
    ImageFileHeaderPage page{};
    std::memcpy(page.data(), &header, sizeof(header));
    const std::uint64_t checksum = image_checksum(std::span(page).first<kHeaderChecksumAt>());
    std::memcpy(page.data() + kHeaderChecksumAt, &checksum, sizeof(checksum));
    return page;
}

std::uint64_t header_checksum(const ImageFileHeaderPage& page) noexcept {
    std::uint64_t checksum = 0;
    std::memcpy(&checksum, page.data() + kHeaderChecksumAt, sizeof(checksum));
    return checksum;
}

// O_NONBLOCK: opening a named pipe must not wait for a writer.
ImageFile::ImageFile(const std::filesystem::path& path)
    : ImageFile(path, sys::open_file(path.string(), O_RDONLY | O_NONBLOCK | O_NOCTTY)) {}

ImageFile::ImageFile(std::filesystem::path path, sys::UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {
    if (::fstat(fd_.get(), &status_) != 0) sys::throw_errno("stat '" + path_.string() + "'");
    if (S_ISDIR(status_.st_mode)) sys::throw_error(EISDIR, "read image file '" + path_.string() + "'");
    if (!S_ISREG(status_.st_mode)) refuse("not an image file: it is not a regular file");
    read_header();
    read_tables();
}

void ImageFile::refuse(const std::string& what) const {
    sys::throw_error(EBADMSG, "image file '" + path_.string() + "': " + what);
}

void ImageFile::read_at(std::span<std::byte> bytes, std::uint64_t offset) const {
    while (!bytes.empty()) {
        const ssize_t got = sys::retry_interrupted(
            [&] { return ::pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
        if (got < 0) sys::throw_errno("read image file '" + path_.string() + "' at offset " + std::to_string(offset));
        if (got == 0)
            refuse("truncated: " + std::to_string(bytes.size()) + " bytes are missing at offset " +
                   std::to_string(offset));
        bytes = bytes.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
}

void ImageFile::read_header() {
    ImageFileHeaderPage page{};
    const auto file_bytes = static_cast<std::uint64_t>(status_.st_size);
    read_at(std::span(page).first(std::min<std::uint64_t>(file_bytes, page.size())), 0);
    check_version(std::span(page).first(std::min<std::uint64_t>(file_bytes, page.size())));
    if (file_bytes < page.size()) {
        refuse("truncated: " + std::to_string(page.size() - file_bytes) + " bytes are missing of its header");
    }
    checksum_ = header_checksum(page);
    if (image_checksum(std::span(page).first<kHeaderChecksumAt>()) != checksum_) {
        refuse("corrupted: the header, bytes 0 to 4095, does not fit its checksum");
    }
    std::memcpy(&header_, page.data(), sizeof(header_));
    check_header();
    check_size();
}

void ImageFile::check_version(std::span<const std::byte> begin) const {
    if (begin.empty()) refuse("not an image file: it is empty");
    const std::size_t magic_bytes = std::min(begin.size(), ImageFileHeader::kMagic.size());
    if (std::memcmp(begin.data(), ImageFileHeader::kMagic.data(), magic_bytes) != 0) refuse("not an image file");
    constexpr std::size_t kVersionAt = offsetof(ImageFileHeader, version);
    std::uint32_t version = ImageFileHeader::kVersion;
    if (begin.size() >= kVersionAt + sizeof(version)) std::memcpy(&version, &begin[kVersionAt], sizeof(version));
    if (version != ImageFileHeader::kVersion) {
        refuse("its format is version " + std::to_string(version) + ", this build reads version " +
               std::to_string(ImageFileHeader::kVersion) +
               (version > ImageFileHeader::kVersion ? ": a newer build has made it" : ""));
    }
}

void ImageFile::check_header() const {
    const ImageFileHeader& header = header_;
    if (header.page_bytes != kPageBytes) {
        refuse("it is made of pages of " + std::to_string(header.page_bytes) + " bytes, not " +
               std::to_string(kPageBytes));
    }
    if (header.block_bytes != kImageBlockBytes) refuse("unknown size of blocks in its header");
    constexpr std::uint64_t kMost = std::uint64_t{1} << 47;  // the address space; so no sum below overflows
    for (const std::uint64_t number :
         {header.extent_bytes, header.stored_offset, header.stored_bytes, header.tables_offset, header.tables_bytes}) {
        if (number >= kMost) refuse("a number in its header is out of range");
    }
    const bool is_delta = header.depth > 0;
    const bool aligned = header.stored_offset % kPageBytes == 0 && header.stored_bytes % kPageBytes == 0;
    const bool ordered =
        header.stored_offset >= kPageBytes && header.tables_offset == header.stored_offset + header.stored_bytes;
    if (!aligned || !ordered) refuse("its header has impossible offsets for the stored pages");
    if (header.depth > kMaxImageFileDepth) refuse("it stands on too many files");
    const PageCount pages = std::max(pages_of(header.extent_bytes), PageCount{1});
    if (is_delta ? pages.bytes() < header.stored_bytes : pages.bytes() != header.stored_bytes) {
        refuse("its stored pages do not fit its extent");
    }
    if (is_delta ? header.base_path_bytes == 0 : header.base_path_bytes != 0 || header.run_count != 0) {
        refuse("it is neither a whole image nor a delta file");
    }
    if (header.name_bytes > kMaxNameBytes || header.base_path_bytes > kMaxNameBytes) refuse("a name in it is too long");
}

void ImageFile::check_size() const {
    const std::uint64_t file_bytes = static_cast<std::uint64_t>(status_.st_size);
    const std::uint64_t wanted = header_.tables_offset + header_.tables_bytes;
    if (file_bytes < wanted) {
        refuse("truncated: " + std::to_string(wanted - file_bytes) + " bytes are missing of " + std::to_string(wanted));
    }
    if (file_bytes > wanted) refuse(std::to_string(file_bytes - wanted) + " bytes behind its end are not its own");
    // The size of the runs is divided, because multiplying their number, which may be anything, could overflow.
    const std::uint64_t others =
        block_count(header_.stored_bytes) * sizeof(std::uint64_t) + header_.name_bytes + header_.base_path_bytes;
    const bool fit = others <= header_.tables_bytes && (header_.tables_bytes - others) % sizeof(PageRun) == 0 &&
                     (header_.tables_bytes - others) / sizeof(PageRun) == header_.run_count;
    if (!fit) refuse("its tables are not as large as its header says");
}

std::vector<std::byte> ImageFile::room_for_tables() const {
    try {
        return std::vector<std::byte>(header_.tables_bytes);
    } catch (const std::bad_alloc&) {
        sys::throw_error(ENOMEM, "read the tables of image file '" + path_.string() + "', " +
                                     std::to_string(header_.tables_bytes) + " bytes");
    }
}

void ImageFile::read_tables() {
    std::vector<std::byte> bytes = room_for_tables();
    read_at(bytes, header_.tables_offset);
    if (image_checksum(bytes) != header_.tables_checksum) {
        refuse("corrupted: the tables, " + std::to_string(bytes.size()) + " bytes from offset " +
               std::to_string(header_.tables_offset) + " on, do not fit their checksum");
    }
    decode_tables(bytes);
    check_runs();
}

void ImageFile::decode_tables(std::span<const std::byte> bytes) {
    const auto take = [&](void* to, std::size_t count) {
        if (count > 0) std::memcpy(to, bytes.data(), count);
        bytes = bytes.subspan(count);
    };
    tables_.checksums.resize(block_count(header_.stored_bytes));
    take(tables_.checksums.data(), tables_.checksums.size() * sizeof(std::uint64_t));
    tables_.runs.resize(header_.run_count);
    take(tables_.runs.data(), tables_.runs.size() * sizeof(PageRun));
    tables_.name.resize(header_.name_bytes);
    take(tables_.name.data(), tables_.name.size());
    tables_.base_path.resize(header_.base_path_bytes);
    take(tables_.base_path.data(), tables_.base_path.size());
}

void ImageFile::check_runs() const {
    if (header_.depth == 0) return;
    const std::uint64_t pages = std::max(pages_of(header_.extent_bytes), PageCount{1}).value;
    std::uint64_t end = 0;
    std::uint64_t stored = 0;
    for (const PageRun& run : tables_.runs) {
        const std::uint64_t first = run.first.value;
        if (run.count.value == 0 || first < end || first >= pages || run.count.value > pages - first) {
            refuse("its runs of pages are not ascending within the image");
        }
        end = run.end().value;
        stored += run.count.value;
    }
    if (PageCount{stored}.bytes() != header_.stored_bytes) refuse("its runs do not have as many pages as are stored");
}

std::vector<PageIndex> ImageFile::delta_pages() const {
    std::vector<PageIndex> pages;
    pages.reserve(header_.depth == 0 ? 0 : header_.stored_bytes / kPageBytes);
    for (const PageRun& run : tables_.runs) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) pages.push_back(page);
    }
    return pages;
}

std::filesystem::path ImageFile::base_path() const {
    VMCOW_ASSERT(header_.depth > 0 && "a whole image stands on no file");
    // The path is relative to the directory of the file itself, not to that of a link to it.
    return std::filesystem::canonical(path_).parent_path() / tables_.base_path;
}

bool ImageFile::is_same_file(const struct stat& other) const noexcept {
    return status_.st_dev == other.st_dev && status_.st_ino == other.st_ino;
}

std::optional<BadBlock> ImageFile::find_bad_block() const {
    std::vector<std::byte> buffer(std::min<std::uint64_t>(header_.stored_bytes, kImageBlockBytes));
    for (std::size_t i = 0; i < tables_.checksums.size(); ++i) {
        const std::uint64_t at = i * kImageBlockBytes;
        const auto block = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), header_.stored_bytes - at));
        read_at(block, header_.stored_offset + at);
        const std::uint64_t found = image_checksum(block);
        if (found == tables_.checksums[i]) continue;
        return BadBlock{path_, header_.stored_offset + at, block.size(), tables_.checksums[i], found};
    }
    return std::nullopt;
}

}  // namespace vmcow
