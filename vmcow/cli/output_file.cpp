#include "vmcow/cli/output_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>

#include "vmcow/cli/command_line.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow::cli {
namespace {

constexpr mode_t kPermissionBits = 07777;

bool same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

/// Follows the symbolic link that `path` is, also to a file that does not exist yet, where realpath(3) gives up.
std::string follow_links(std::string path) {
    constexpr int kMostLinks = 40;  // as path_resolution(7)
    for (int links = 0; links < kMostLinks; ++links) {
        std::error_code no_link;
        const std::filesystem::path target = std::filesystem::read_symlink(path, no_link);
        if (no_link) return path;
        path = (std::filesystem::path(path).parent_path() / target).string();
    }
    sys::throw_error(ELOOP, "write '" + path + "'");
}

/// A new file under a name of its own beside `target`; it is removed unless it is renamed to `target`.
class TemporaryFile {
public:
    TemporaryFile(const std::string& target, const std::string& name) : message_("write '" + name + "'") {
        const std::filesystem::path folder = std::filesystem::path(target).parent_path();
        constexpr int kTries = 100;
        for (int i = 0; i < kTries && !fd_; ++i) {
            // Not made from the target's name, which may be as long as a name can be.
            path_ = (folder / fmt::format(".vmcow-{}-{}.tmp", ::getpid(), i)).string();
            fd_ = sys::UniqueFd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
            if (!fd_ && errno != EEXIST) sys::throw_errno(message_);
        }
        if (!fd_) sys::throw_error(EEXIST, message_);
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() {
        if (fd_) (void)::unlink(path_.c_str());
    }

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

    void rename_to(const std::string& target) {
        if (::fsync(fd_.get()) != 0) sys::throw_errno(message_);
        if (std::rename(path_.c_str(), target.c_str()) != 0) sys::throw_errno(message_);
        fd_.reset();
    }

private:
    std::string message_;
    std::string path_;
    sys::UniqueFd fd_;
};

/// What is at `path`; nothing where there is no such file yet.
std::optional<struct stat> status_of(const std::string& path, const std::string& message) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) return status;
    if (errno != ENOENT) sys::throw_errno(message);
    return std::nullopt;
}

}  // namespace

OutputFile::OutputFile(std::string path) : path_(std::move(path)), target_(path_) {
    if (path_ == "-") {
        kind_ = Kind::standard_output;
    } else {
        resolve();
    }
}

void OutputFile::resolve() {
    const std::string message = "write '" + path_ + "'";
    if (path_.empty()) sys::throw_error(ENOENT, message);  // else the temporary file would land in the current folder
    if (const auto status = status_of(path_, message)) {
        struct stat stdout_status {};
        if (S_ISDIR(status->st_mode)) sys::throw_error(EISDIR, message);
        if (::fstat(STDOUT_FILENO, &stdout_status) == 0 && same_file(*status, stdout_status)) {
            kind_ = Kind::standard_output;
            return;
        }
        if (!S_ISREG(status->st_mode)) {
            kind_ = Kind::direct;
            direct_ = sys::open_file(path_, O_WRONLY | O_NOCTTY);
            return;
        }
        // rename(2) would replace it all the same, but who made it read-only did not mean that.
        if (::faccessat(AT_FDCWD, path_.c_str(), W_OK, AT_EACCESS) != 0) sys::throw_errno(message);
    }
    target_ = follow_links(path_);
    const TemporaryFile attempt(target_, path_);
}

void OutputFile::write(std::string_view text) {
    switch (kind_) {
        case Kind::standard_output:
            write_stdout(text);
            break;
        case Kind::direct:
            sys::write_all(direct_.get(), std::as_bytes(std::span(text)), path_);
            break;
        case Kind::replaced:
            replace(text);
            break;
    }
}

void OutputFile::replace(std::string_view text) const {
    const std::string message = "write '" + path_ + "'";
    TemporaryFile file(target_, path_);
    if (const auto old = status_of(target_, message)) {
        if (::fchmod(file.fd(), old->st_mode & kPermissionBits) != 0) sys::throw_errno(message);
    }
    sys::write_all(file.fd(), std::as_bytes(std::span(text)), path_);
    file.rename_to(target_);
}

}  // namespace vmcow::cli
