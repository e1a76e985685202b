#include "vmcow/image_file.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>

#include "vmcow/file/bad_block.hpp"
#include "vmcow/file/image_chain.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow {

LoadedImage load_image(const std::filesystem::path& path, const LoadOptions& options) {
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

std::optional<BadBlock> verify_image(const std::filesystem::path& path) { return ImageChain(path).find_bad_block(); }

}  // namespace vmcow
