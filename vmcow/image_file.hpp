#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "vmcow/image_file_format.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// How the bytes of an image get into its file.
enum class ImageIo {
    best,         ///< io_uring, or where it is refused write calls, which the report says
    io_uring,     ///< a refusal is an error
    write_calls,  ///< pwritev(2)
};

struct SaveOptions {
    /// What kind of image it is: a number of the caller's, which `load_image` gives back. 0 is unknown.
    std::uint64_t type = 0;
    /// An image file that holds a relative: one that the snapshot's base was loaded from or saved to in this process,
    /// or one that stands on such a file. Only the pages that differ are saved, and the new file stands on that one.
    std::optional<std::filesystem::path> relative_to = std::nullopt;
    /// Returns when the file and its name have reached the disk. Without, a crash of the machine may lose both.
    bool sync = true;
    ImageIo io = ImageIo::best;
};

/// What saving took (I8).
///
/// Units: bytes and pages of the file that was made.
struct SaveReport {
    std::uint64_t file_bytes = 0;     ///< its length; holes and shared blocks take no room
    std::uint64_t written_bytes = 0;  ///< with header and tables
    std::uint64_t cloned_bytes = 0;   ///< shared with another file, where the file system can
    PageCount stored;                 ///< the pages of the image, or those that differ
    PageCount holes;                  ///< of these, pages of zeros that were not written
    ImageIo io = ImageIo::write_calls;
    int io_uring_error = 0;          ///< the errno with which io_uring was refused, 0 if it was not or not asked for
    std::optional<int> clone_error;  ///< 0 or the errno of the refusal; nothing where there was no file to clone
};

/// Saves a snapshot in one file: under a temporary name, which is renamed when everything has been written.
///
/// A file that the snapshot was loaded from may be replaced: whoever has it mapped keeps the old one. Where the content
/// lies in a file already and the file system can share blocks, those that did not change are shared.
///
/// Throws:  std::system_error -- open(2)'s, write(2)'s, fsync(2)'s or rename(2)'s errno with the path; the old file is
///          as it was, and no temporary one is left. EINVAL: `relative_to` holds no relative, or stands on the file
///          that is to be replaced. E2BIG: it stands on `kMaxImageFileDepth` files. EBADMSG: it is no whole image file.
/// Cost:    reads every page that is not a hole, once; relative to a file, only pages that a delta holds.
/// Threads: any. The ring is filled by a thread that ends before this returns.
/// Source:  io_uring(7); ioctl_ficlonerange(2); rename(2).
SaveReport save_image(const Snapshot& snapshot, const std::filesystem::path& path, const SaveOptions& options = {});

/// How much of an image is compared with its checksums when it is loaded. Headers, tables and sizes always are.
enum class Verify {
    small_images,  ///< the content of at most `kVerifiedBytes`
    content,       ///< everything, whatever it costs
};

/// Up to here the content is verified without being asked for.
inline constexpr std::uint64_t kVerifiedBytes = std::uint64_t{16} << 20;

struct LoadOptions {
    Verify verify = Verify::small_images;
};

struct LoadedImage {
    Snapshot snapshot;
    std::uint64_t type = 0;
    std::size_t files = 1;          ///< it stands on so many, with itself
    bool content_verified = false;  ///< every byte was compared with its checksum
};

/// Maps the image that a file holds. The file must not be written to or truncated as long as the snapshot or a relative
/// lives (a mapping of a truncated file is SIGBUS), but it may be replaced or removed.
///
/// Throws: std::system_error -- open(2)'s errno; EMFILE, ENOMEM; EBADMSG with a text that names the path, the place and
///         what is wrong: a file that is foreign, newer, truncated or corrupted, or one that stands on a file that is
///         missing (ENOENT) or is not the one that it was saved relative to.
/// Cost:   O(1) for a whole image, 8 bytes read for each 256 KiB of it; a delta file costs what `Layers` says, and
/// files
///         past `Layers::kMaxDeltas` a copy of their pages.
[[nodiscard]] LoadedImage load_image(const std::filesystem::path& path, const LoadOptions& options = {});

/// Reads all of an image file, and of those that it stands on: the first block that is not what was saved, or nothing.
/// Throws: std::system_error -- as `load_image`, for a header or tables that are not whole; read(2)'s errno (EIO).
[[nodiscard]] std::optional<BadBlock> verify_image(const std::filesystem::path& path);

}  // namespace vmcow
