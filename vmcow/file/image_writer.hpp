#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "vmcow/file/image_file_format.hpp"
#include "vmcow/file/save_control.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/sys/io_ring.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// A page of zeros, as a hole reads.
[[nodiscard]] const std::byte* zero_page() noexcept;
[[nodiscard]] bool is_zero_page(const std::byte* page) noexcept;

/// A page of an image file that is to be written.
struct StoredPage {
    const std::byte* bytes = nullptr;
    bool write = true;  ///< false: the file holds these bytes at this place already
};

/// The stored pages of an image file that is to be written. They are asked for in ascending order.
class StoredContent {
public:
    virtual ~StoredContent() = default;
    [[nodiscard]] virtual PageCount pages() const noexcept = 0;
    [[nodiscard]] virtual StoredPage page(std::uint64_t index) = 0;
    /// The checksum of a block that the file holds already, so that its pages need not be read; else nullopt.
    [[nodiscard]] virtual std::optional<std::uint64_t> finished_block(std::uint64_t /*block*/) { return std::nullopt; }
};

/// Writes to one file, through a ring or by write calls.
class FileWriter {
public:
    /// `ring` may be nullptr: then write calls are used. Pre: the descriptor and the ring outlive the writer.
    FileWriter(int fd, sys::IoRing* ring) noexcept : fd_(fd), ring_(ring) {}

    /// Begins to write. Pre: the bytes that `pieces` point to stay as they are until `finish` returns.
    void write(std::vector<iovec> pieces, std::uint64_t offset);
    /// Waits for all writes, and with `sync` for the disk.
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

/// Calls `body` with a writer of the wanted kind. A ring is used in a thread of its own, because the threads that the
/// kernel starts for a ring end with the thread that made it.
/// Throws: what `body` throws; std::system_error if `io` allows only a ring and it is refused.
WriterUsed with_file_writer(int fd, ImageIo io, const std::function<void(FileWriter&)>& body);

/// Writes a whole image file: the stored pages, the tables, the header. The caller sets in `header` and `tables` what
/// `content` does not tell; checksums, offsets and sizes are filled in here.
/// Throws: std::system_error -- what writing throws; ECANCELED when `control` was cancelled.
/// Cost:   each page is read once.
void write_image_file(FileWriter& writer, StoredContent& content, ImageFileHeader header, ImageFileTables tables,
                      bool sync, SaveControl& control);

}  // namespace vmcow
