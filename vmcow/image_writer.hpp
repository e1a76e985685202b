#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "vmcow/image_file.hpp"
#include "vmcow/image_file_format.hpp"
#include "vmcow/sys/io_ring.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// A page of zeros: what a hole is read as.
[[nodiscard]] const std::byte* zero_page() noexcept;
[[nodiscard]] bool is_zero_page(const std::byte* page) noexcept;

/// What is known of one stored page before it is written.
struct StoredPage {
    const std::byte* bytes = nullptr;
    bool write = true;  ///< false: the file holds these bytes at this place already
};

/// The stored pages of an image file that is to be written, asked for in ascending order.
class StoredContent {
public:
    virtual ~StoredContent() = default;
    [[nodiscard]] virtual PageCount pages() const noexcept = 0;
    [[nodiscard]] virtual StoredPage page(std::uint64_t index) = 0;
    /// The checksum of a block that the file holds already, so that nobody need look at its pages.
    [[nodiscard]] virtual std::optional<std::uint64_t> finished_block(std::uint64_t /*block*/) { return std::nullopt; }
};

/// Writes to one file, through a ring or by write calls.
class FileWriter {
public:
    /// Pre: the descriptor and the ring outlive it. `ring` may be nullptr.
    FileWriter(int fd, sys::IoRing* ring) noexcept : fd_(fd), ring_(ring) {}

    /// Begins to write; the pieces stay as they are until `finish`.
    void write(std::vector<iovec> pieces, std::uint64_t offset);
    /// Waits for all that was begun, and for the disk.
    void finish(bool sync);
    [[nodiscard]] std::uint64_t written_bytes() const noexcept { return written_bytes_; }

private:
    int fd_;
    sys::IoRing* ring_;
    std::uint64_t written_bytes_ = 0;
};

/// How a file was written.
struct WriterUsed {
    ImageIo io = ImageIo::write_calls;
    int io_uring_error = 0;
};

/// Calls `body` with a writer of the wanted kind, in a thread of its own if that is a ring: what the kernel starts for
/// it ends with that thread. Throws: what `body` throws; std::system_error if only a ring will do and it is refused.
WriterUsed with_file_writer(int fd, ImageIo io, const std::function<void(FileWriter&)>& body);

/// Writes a whole image file: the stored pages, the tables, the header. `header` and `tables` come with what the
/// content does not tell; checksums, offsets and sizes are filled in here. Cost: each page is read once.
void write_image_file(FileWriter& writer, StoredContent& content, ImageFileHeader header, ImageFileTables tables,
                      bool sync);

}  // namespace vmcow
