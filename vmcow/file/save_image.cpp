#include "vmcow/file/save_image.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "vmcow/file/image_chain.hpp"
#include "vmcow/file/image_content.hpp"
#include "vmcow/file/image_file_format.hpp"
#include "vmcow/file/image_writer.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/clone_range.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/replaced_file.hpp"
#include "vmcow/sys/unfinished_file.hpp"

namespace vmcow {
namespace {

namespace fs = std::filesystem;

ImageFileId new_id() {
    ImageFileId id{};
    const ssize_t got = sys::retry_interrupted([&] { return ::getrandom(id.data(), id.size(), 0); });
    if (got != static_cast<ssize_t>(id.size())) sys::throw_errno("getrandom");
    return id;
}

struct stat status_of(int fd, const std::string& name) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) sys::throw_errno("stat '" + name + "'");
    return status;
}

/// One call of `save_image`.
class Save {
public:
    Save(const Snapshot& snapshot, const fs::path& path, const SaveOptions& options, CloneRange clone,
         sys::UnfinishedFile::Way way, SaveControl& control)
        : layers_(*snapshot.layers()),
          path_(path.string()),
          options_(options),
          clone_(clone),
          control_(control),
          file_(path, way) {
        header_.id = id_;
        header_.type = options.type;
        header_.extent_bytes = layers_.extent_bytes();
        constexpr std::size_t kLongestName = 1024;
        tables_.name = snapshot.name().substr(0, kLongestName);
    }

    SaveReport run() {
        if (options_.relative_to) {
            save_delta(ImageChain(*options_.relative_to));
        } else {
            save_whole();
        }
        const struct stat written = status_of(file_.fd(), path_);
        report_.file_bytes = static_cast<std::uint64_t>(written.st_size);
        check_control();
        file_.rename(options_.sync);
        if (!options_.relative_to) remember(written);
        return report_;
    }

private:
    void save_whole() {
        const std::optional<SavedBase> saved = find_saved_base(layers_.base());
        if (saved) clone_from(*saved);
        WholeContent content(layers_, report_.cloned_bytes > 0 ? &*saved : nullptr);
        write(content);
        report_.holes = content.holes();
    }

    /// Shares the pages of a file that holds the base. Where the file system refuses, these pages are written.
    void clone_from(const SavedBase& saved) {
        const std::uint64_t bytes = WholeContent::common_bytes(layers_, saved);
        const int error = clone_(saved.file.fd(), saved.file.header().stored_offset, bytes, file_.fd(), kPageBytes);
        report_.clone_error = error;
        if (error == 0) {
            report_.cloned_bytes = bytes;
        } else if (::ftruncate(file_.fd(), 0) != 0) {  // pages that are not written have to be holes
            sys::throw_errno("save image '" + path_ + "'");
        }
    }

    void save_delta(ImageChain relative) {
        const DiskCopy copy = copy_below(relative);
        const ImageFile& below = relative.newest();
        if (below.header().depth >= kMaxImageFileDepth) {
            refuse(E2BIG, fmt::format("{} files stand one on another already: save a whole image", kMaxImageFileDepth));
        }
        header_.depth = below.header().depth + 1;
        header_.base_id = below.header().id;
        header_.base_header_checksum = below.checksum();
        tables_.base_path = fs::canonical(below.path()).lexically_relative(file_.target().parent_path()).string();
        const auto relative_layers = std::move(relative).map();
        DeltaContent content(layers_, differing_pages(layers_, *relative_layers, copy.differing));
        tables_.runs = content.runs();
        write(content);
        report_.holes = content.holes();
    }

    /// The record of the whole image at the bottom of the chain, as a disk copy of the snapshot's base.
    /// Throws: std::system_error -- EINVAL: it is none, or the new file cannot stand on the chain.
    DiskCopy copy_below(const ImageChain& relative) {
        struct stat target {};
        const bool exists = ::stat(file_.target().c_str(), &target) == 0;
        for (const ImageFile& file : relative.files()) {
            if (exists && file.is_same_file(target)) refuse(EINVAL, "it would stand on itself");
        }
        for (const auto& copy : layers_.base().disk_copies()) {
            if (copy->id != relative.root().header().id) continue;
            if (relative.newest().header().extent_bytes > layers_.extent_bytes()) {
                refuse(EINVAL, "the image that the file holds is longer");
            }
            return *copy;
        }
        if (layers_.base().stored() != nullptr) return any_pages_of(relative);
        refuse(EINVAL, "the file does not hold a relative of '" + layers_.base().name() + "'");
    }

    /// For an image in the page store: an edit may have copied all of it, and the copy knows of no file. All its pages
    /// are compared, which are few.
    DiskCopy any_pages_of(const ImageChain& relative) {
        const ImageFileHeader& held = relative.newest().header();
        if (held.type != options_.type) refuse(EINVAL, "the file holds an image of another type");
        if (held.extent_bytes > layers_.extent_bytes()) refuse(EINVAL, "the image that the file holds is longer");
        DiskCopy copy;
        const PageCount all = pages_of(layers_.mapped_bytes());
        for (PageIndex page{0}; page.value < all.value; page = page + PageCount{1}) copy.differing.push_back(page);
        return copy;
    }

    [[noreturn]] void refuse(int error, const std::string& why) const {
        sys::throw_error(error,
                         "save image '" + path_ + "' relative to '" + options_.relative_to->string() + "': " + why);
    }

    void check_control() const {
        try {
            control_.check();
        } catch (const std::system_error& error) {
            sys::throw_error(error.code().value(), "save image '" + path_ + "'");
        }
    }

    void write(StoredContent& content) {
        try {
            const WriterUsed used = with_file_writer(file_.fd(), options_.io, [&](FileWriter& writer) {
                write_image_file(writer, content, header_, tables_, options_.sync, control_);
                report_.written_bytes = writer.written_bytes();
            });
            report_.io = used.io;
            report_.io_uring_error = used.io_uring_error;
        } catch (const std::system_error& error) {
            sys::throw_error(error.code().value(), "save image '" + path_ + "'");
        }
        report_.stored = content.pages();
    }

    void remember(const struct stat& written) const {
        layers_.base().remember({.path = file_.target().string(),
                                 .device = written.st_dev,
                                 .inode = written.st_ino,
                                 .file_bytes = report_.file_bytes,
                                 .id = header_.id,
                                 .differing = layers_.changed_pages()});
    }

    const Layers& layers_;
    std::string path_;
    const SaveOptions& options_;
    CloneRange clone_;
    SaveControl& control_;
    ImageFileId id_ = new_id();
    sys::ReplacedFile file_;
    ImageFileHeader header_;
    ImageFileTables tables_;
    SaveReport report_;
};

}  // namespace

SaveReport save_image(const Snapshot& snapshot, const fs::path& path, const SaveOptions& options, CloneRange clone,
                      sys::UnfinishedFile::Way way) {
    SaveControl control;
    return Save(snapshot, path, options, clone, way, control).run();
}

SaveReport save_image(const Snapshot& snapshot, const fs::path& path, const SaveOptions& options,
                      SaveControl& control) {
    return Save(snapshot, path, options, sys::clone_range, sys::UnfinishedFile::Way::best, control).run();
}

SaveReport save_image(const Snapshot& snapshot, const fs::path& path, const SaveOptions& options) {
    return save_image(snapshot, path, options, sys::clone_range);
}

}  // namespace vmcow
