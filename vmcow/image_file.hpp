#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "vmcow/file/bad_block.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// How the bytes of an image get into its file.
enum class ImageIo {
    best,         ///< io_uring; where it is refused, write calls, and the report says so
    io_uring,     ///< io_uring; a refusal is an error
    write_calls,  ///< pwritev(2)
};

struct SaveOptions {
    /// The kind of the image: a number that the caller chooses and `load_image` returns. 0 is unknown.
    std::uint64_t type = 0;
    /// An image file that holds a relative of the snapshot: a file that the snapshot's base was loaded from or saved to
    /// in this process, or a file that stands on such a file. Only the pages that differ are saved, and the new file
    /// stands on this one. A small value, which lies in the page store, may be saved relative to any image file of its
    /// type that is not longer: all its pages are compared.
    std::optional<std::filesystem::path> relative_to = std::nullopt;
    /// Saving returns when the file and its name have reached the disk. Without this, a crash of the machine may lose
    /// both.
    bool sync = true;
    ImageIo io = ImageIo::best;
};

/// What a save wrote, and how (I8).
///
/// Units: bytes and pages of the file that was made.
struct SaveReport {
    std::uint64_t file_bytes = 0;     ///< its length; holes and shared blocks take no room
    std::uint64_t written_bytes = 0;  ///< with header and tables
    std::uint64_t cloned_bytes = 0;   ///< shared with another file, where the file system can share blocks
    PageCount stored;                 ///< the pages of the image, or the pages that differ from `relative_to`
    PageCount holes;                  ///< of the stored pages, pages of zeros that were not written
    ImageIo io = ImageIo::write_calls;
    int io_uring_error = 0;          ///< the errno with which io_uring was refused, 0 if it was not or not asked for
    std::optional<int> clone_error;  ///< 0 or the errno of the refusal; nothing where there was no file to clone
};

/// Saves a snapshot in one file, which is put in place when everything has been written.
///
/// A file that the snapshot was loaded from may be replaced: a process that has the old file mapped keeps it. Where the
/// content lies in a file already and the file system can share blocks, the blocks that did not change are shared.
///
/// Throws:  std::system_error -- open(2)'s, write(2)'s, fsync(2)'s or rename(2)'s errno with the path; the old file is
///          as it was, and no temporary file is left. EFBIG: past RLIMIT_FSIZE, without a SIGXFSZ. EINVAL:
///          `relative_to` holds no relative, or stands on the file that is to be replaced. E2BIG: `relative_to` stands
///          on 64 files. EBADMSG: `relative_to` is no whole image file.
/// Killed:  the old file or the new one is there, whole. A temporary file `.vmcow-N.tmp` may be left where the file
///          system has no O_TMPFILE, or when the process is killed between two calls at the end; the next save in the
///          folder removes it.
/// Cost:    reads every page that is not a hole, once; relative to a file, only pages that are not the base's, and all
///          of a small value.
/// Threads: any. The ring is filled by a thread that ends before this returns.
/// Source:  io_uring(7); ioctl_ficlonerange(2); open(2) O_TMPFILE; rename(2).
SaveReport save_image(const Snapshot& snapshot, const std::filesystem::path& path, const SaveOptions& options = {});

/// How far a save has come.
///
/// Units: bytes of the pages that the file holds, holes and shared blocks included.
struct SaveProgress {
    std::uint64_t done_bytes = 0;
    std::uint64_t total_bytes = 0;  ///< 0 until the save knows what it has to store
};

/// A save that goes on in a thread of its own. The caller goes on meanwhile: what it edits is not in the file.
///
///     vmcow::PendingSave save = vmcow::save_image_async(value.snapshot(), "state.vmcow");
///     value.edit(…);
///     while (!save.wait_for(100ms)) show(save.progress());
///     const vmcow::SaveReport report = save.get();
///
/// The file appears at its path when all is written, or not at all. Several saves may go on at a time, also to the same
/// path: each puts a whole file in place.
///
/// An object that was moved from holds nothing: it can only be assigned to or destroyed (sys/held.hpp).
///
/// Threads:    one at a time; `cancel` from any thread.
/// After fork: the save belongs to the process that began it. A child's copy does nothing, and `get` is ECHILD there.
class PendingSave {
public:
    PendingSave(PendingSave&& other) noexcept;
    PendingSave& operator=(PendingSave&& other) noexcept;
    /// Waits for the end of the save. An error that nobody asked for is lost: call `get` to learn of it.
    ~PendingSave();

    [[nodiscard]] SaveProgress progress() const noexcept;
    /// Whether the save has ended, well or not.
    [[nodiscard]] bool is_done() const noexcept;
    /// Waits until the save has ended, at most for `time`. Returns whether it has.
    [[nodiscard]] bool wait_for(std::chrono::nanoseconds time) const;
    /// Asks the save to stop: `get` is ECANCELED then, and the file at the path is as it was. A save that is already
    /// putting its file in place ends well all the same.
    /// Cost: returns at once; the save stops after the block of 256 KiB that it is about, but neither while it compares
    ///       pages with another file nor while it waits for the disk.
    void cancel() noexcept;

    /// Waits for the end, and returns what was written. The object holds nothing afterwards.
    /// Throws: std::system_error -- as `save_image`; ECANCELED after `cancel`; ECHILD in a forked child.
    SaveReport get();

private:
    friend PendingSave save_image_async(Snapshot snapshot, std::filesystem::path path, SaveOptions options);
    struct State;
    explicit PendingSave(std::unique_ptr<State> state) noexcept;

    std::unique_ptr<State> state_;
};

/// Begins to save a snapshot in one file, as `save_image` does.
/// Throws: std::system_error -- EAGAIN: no thread. What goes wrong with the file is an error of `PendingSave::get`.
/// Cost:   a thread.
[[nodiscard]] PendingSave save_image_async(Snapshot snapshot, std::filesystem::path path, SaveOptions options = {});

/// How much of an image is compared with its checksums when it is loaded. Headers, tables and sizes always are.
enum class Verify {
    small_images,  ///< the content, if it has at most `kVerifiedBytes`
    content,       ///< the content, whatever that costs
};

/// The size up to which the content is verified by default.
inline constexpr std::uint64_t kVerifiedBytes = std::uint64_t{16} << 20;

struct LoadOptions {
    Verify verify = Verify::small_images;
};

struct LoadedImage {
    Snapshot snapshot;
    std::uint64_t type = 0;
    std::size_t files = 1;          ///< the file that was loaded and those that it stands on
    bool content_verified = false;  ///< every byte was compared with its checksum
};

/// Maps the image that a file holds. The file must not be written to or truncated while the snapshot or a relative of
/// it lives: reading a mapping past the end of a truncated file is SIGBUS. The file may be replaced or removed.
///
/// Throws: std::system_error -- open(2)'s errno; EMFILE, ENOMEM; EBADMSG with a text that names the path, the place and
///         what is wrong: the file is foreign, newer, truncated or corrupted, or it stands on a file that is not the
///         one that it was saved relative to. ENOENT also where a file that it stands on is missing.
/// Cost:   O(1) for a whole image, 8 bytes read for each 256 KiB of it. Of the files that stand on one another,
///         the four with the most pages are mapped; the pages of the others are copied.
[[nodiscard]] LoadedImage load_image(const std::filesystem::path& path, const LoadOptions& options = {});

/// Reads all of an image file and of the files that it stands on. Returns the first block that is not what was saved,
/// or nothing.
/// Throws: std::system_error -- as `load_image`, for a header or tables that are not whole; read(2)'s errno (EIO).
[[nodiscard]] std::optional<BadBlock> verify_image(const std::filesystem::path& path);

}  // namespace vmcow
