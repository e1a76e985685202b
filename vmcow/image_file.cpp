#include "vmcow/image_file.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "vmcow/image_chain.hpp"
#include "vmcow/image_content.hpp"
#include "vmcow/image_save.hpp"
#include "vmcow/image_writer.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/replaced_file.hpp"

namespace vmcow {
namespace {

namespace fs = std::filesystem;

ImageFileId new_id() {
    ImageFileId id{};
    const ssize_t got = sys::retry_interrupted([&] { return ::getrandom(id.data(), id.size(), 0); });
    if (got != static_cast<ssize_t>(id.size())) sys::throw_errno("getrandom");
    return id;
}

std::string name_of(const ImageFileId& id) {
    std::string name;
    for (const std::uint8_t byte : id) name += fmt::format("{:02x}", byte);
    return name;
}

struct stat status_of(int fd, const std::string& name) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) sys::throw_errno("stat '" + name + "'");
    return status;
}

/// One save on its way.
class Save {
public:
    Save(const Snapshot& snapshot, const fs::path& path, const SaveOptions& options, CloneRange clone)
        : layers_(*snapshot.layers()),
          path_(path.string()),
          options_(options),
          clone_(clone),
          file_(path, name_of(id_)) {
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

    /// Shares the pages of a file that holds the base. Where that is refused, they are written like any others.
    void clone_from(const SavedBase& saved) {
        const std::uint64_t bytes = WholeContent::common_bytes(layers_, saved);
        const int error = clone_(saved.file.fd(), saved.file.header().stored_offset, bytes, file_.fd(), kPageBytes);
        report_.clone_error = error;
        if (error == 0) {
            report_.cloned_bytes = bytes;
        } else if (::ftruncate(file_.fd(), 0) != 0) {  // what is not written has to be a hole
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

    /// What is known of the whole image at the bottom of the chain: it holds the snapshot's base.
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
        refuse(EINVAL, "the file does not hold a relative of '" + layers_.base().name() + "'");
    }

    [[noreturn]] void refuse(int error, const std::string& why) const {
        sys::throw_error(error,
                         "save image '" + path_ + "' relative to '" + options_.relative_to->string() + "': " + why);
    }

    void write(StoredContent& content) {
        try {
            const WriterUsed used = with_file_writer(file_.fd(), options_.io, [&](FileWriter& writer) {
                write_image_file(writer, content, header_, tables_, options_.sync);
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
                                 .differing = layers_.delta_pages()});
    }

    const Layers& layers_;
    std::string path_;
    const SaveOptions& options_;
    CloneRange clone_;
    ImageFileId id_ = new_id();
    sys::ReplacedFile file_;
    ImageFileHeader header_;
    ImageFileTables tables_;
    SaveReport report_;
};

}  // namespace

SaveReport save_image(const Snapshot& snapshot, const fs::path& path, const SaveOptions& options, CloneRange clone) {
    return Save(snapshot, path, options, clone).run();
}

SaveReport save_image(const Snapshot& snapshot, const fs::path& path, const SaveOptions& options) {
    return save_image(snapshot, path, options, sys::clone_range);
}

LoadedImage load_image(const fs::path& path, const LoadOptions& options) {
    ImageChain chain(path);
    const bool verified = options.verify == Verify::content || chain.stored_bytes() <= kVerifiedBytes;
    if (verified) {
        if (const auto bad = chain.find_bad_block()) {
            sys::throw_error(EBADMSG,
                             fmt::format("image file '{}': corrupted: the {} bytes from offset {} on have "
                                         "checksum {:016x}, not {:016x}",
                                         bad->path.string(), bad->bytes, bad->file_offset, bad->found, bad->expected));
        }
    }
    const std::uint64_t type = chain.newest().header().type;
    const std::size_t files = chain.files().size();
    return {Snapshot(std::move(chain).map()), type, files, verified};
}

std::optional<BadBlock> verify_image(const fs::path& path) { return ImageChain(path).find_bad_block(); }

}  // namespace vmcow
