#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "vmcow/cli/kit/output_place.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/replaced_file.hpp"

namespace vmcow::cli {

/// A file that a command writes piece by piece while it runs, and that can be followed meanwhile (tail -f).
///
///     name                            pieces go to          can be followed  if a write fails or we are killed
///     new, or an empty file           the file itself       yes              what was written stays
///     a file with content             a file beside it      no               the old file stays, the new one is gone
///     -, a pipe, a device, /dev/fd/N  where the name leads  as usual         what was written has been written
///
/// So a full disk costs no old content, and where there is no old content, the stream is at its name from the first
/// piece on. Of two writers of one new name the first writes the file itself; the second replaces it at its end.
///
/// Threads: one at a time.
/// Source:  flock(2), which a writer of an empty file holds to keep others out; rename(2).
class StreamFile {
public:
    /// Throws: std::system_error with the path -- it cannot be written; EACCES also for a file that may be replaced but
    ///         not written.
    explicit StreamFile(std::string path);
    /// Without `finish`, removes a file that this stream has made and that is still empty.
    ~StreamFile();
    StreamFile(const StreamFile&) = delete;
    StreamFile& operator=(const StreamFile&) = delete;

    /// Throws: std::system_error with the path -- write(2)'s errno (ENOSPC, EFBIG, EPIPE); the stream has then broken
    ///         off, and later pieces are dropped.
    void write(std::string_view text);
    /// Ends the stream: an old file with content is replaced now. Does nothing if the stream has broken off.
    /// Throws: std::system_error with the path.
    void finish();

private:
    void open_file();
    [[nodiscard]] bool is_empty() const noexcept;

    std::string path_;  ///< as the user wrote it, for messages
    OutputPlace place_;
    sys::UniqueFd file_;                    ///< the file at the name, which had no content
    std::string made_;                      ///< the path, with links followed, of a file that this stream has made
    std::optional<sys::ReplacedFile> new_;  ///< the new file beside one with content
    bool broken_off_ = false;
};

}  // namespace vmcow::cli
