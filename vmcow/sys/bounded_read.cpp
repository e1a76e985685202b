#include "vmcow/sys/bounded_read.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <span>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

std::optional<std::string> read_at_most(const std::string& path, std::size_t most) {
    constexpr std::size_t kPiece = std::size_t{1} << 20;
    const UniqueFd fd = open_file(path, O_RDONLY | O_NOCTTY);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) throw_errno("read '" + path + "'");
    if (S_ISREG(status.st_mode) && static_cast<std::size_t>(status.st_size) > most) return std::nullopt;
    std::string text;
    while (text.size() <= most) {
        const std::size_t before = text.size();
        const std::size_t wanted = std::min(kPiece, most - before + 1);
        text.resize(before + wanted);
        const std::size_t got = read_full(fd.get(), std::as_writable_bytes(std::span(text).subspan(before)), path);
        text.resize(before + got);
        if (got < wanted) return text;
    }
    return std::nullopt;
}

}  // namespace vmcow::sys
