#include "vmcow/cli/kit/stream_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <system_error>
#include <utility>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::cli {

StreamFile::StreamFile(std::string path) : path_(std::move(path)), place_(place_of(path_)) {
    if (place_.kind == OutputPlace::Kind::file) open_file();
}

StreamFile::~StreamFile() {
    if (!made_.empty() && is_empty()) (void)::unlink(made_.c_str());
}

bool StreamFile::is_empty() const noexcept {
    struct stat status {};
    return file_ && ::fstat(file_.get(), &status) == 0 && status.st_size == 0;
}

void StreamFile::open_file() {
    const std::string target = sys::file_behind_links(path_, "write '" + path_ + "'").string();
    constexpr int kFlags = O_WRONLY | O_NOCTTY | O_CLOEXEC;
    file_ =
        sys::UniqueFd(sys::retry_interrupted([&] { return ::open(target.c_str(), kFlags | O_CREAT | O_EXCL, 0666); }));
    const bool made = static_cast<bool>(file_);
    if (!made && errno == EEXIST) {
        file_ = sys::UniqueFd(sys::retry_interrupted([&] { return ::open(target.c_str(), kFlags); }));
    }
    if (!file_) sys::throw_errno("write '" + path_ + "'");
    // Without the lock, another writer could begin to write to the same file after the check of its size.
    const bool alone = ::flock(file_.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (alone && is_empty()) {
        if (made) made_ = target;
        return;
    }
    file_.reset();
    new_.emplace(path_);
}

void StreamFile::write(std::string_view text) {
    if (broken_off_) return;
    try {
        if (place_.kind == OutputPlace::Kind::standard_output) return write_stdout(text);
        const int fd = new_ ? new_->fd() : file_ ? file_.get() : place_.direct.get();
        sys::write_all(fd, std::as_bytes(std::span(text)), path_);
    } catch (const std::system_error&) {
        broken_off_ = true;
        new_.reset();  // frees its blocks on a full disk
        throw;
    }
}

void StreamFile::finish() {
    if (broken_off_) return;
    made_.clear();
    if (!file_ && !new_) return;
    if (::fsync(new_ ? new_->fd() : file_.get()) != 0) sys::throw_errno("write '" + path_ + "'");
    if (new_) new_->rename(false);
    new_.reset();
}

}  // namespace vmcow::cli
