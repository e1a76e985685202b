#include "procrun/observe/input_progress.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/field.hpp"

namespace procrun {

namespace {

/// The position of descriptor `number`; nullopt unless it is open for reading only, on a regular file with content.
std::optional<FilePosition> position_at(pid_t pid, const std::string& number) {
    const std::string link = fmt::format("/proc/{}/fd/{}", pid, number);
    struct stat status {};
    if (stat(link.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) return std::nullopt;
    const std::string info = vmcow::sys::read_text_file(fmt::format("/proc/{}/fdinfo/{}", pid, number));
    const auto flags = vmcow::sys::proc_number(info, "flags", 8);
    const auto position = vmcow::sys::proc_number(info, "pos");
    if (!flags || !position || (*flags & O_ACCMODE) != O_RDONLY) return std::nullopt;
    std::error_code error;
    return FilePosition{.file = std::filesystem::read_symlink(link, error).string(),
                        .position = *position,
                        .bytes = static_cast<std::uint64_t>(status.st_size)};
}

}  // namespace

std::optional<FilePosition> position_in_input(pid_t pid) {
    std::optional<FilePosition> largest;
    try {
        std::error_code error;
        for (std::filesystem::directory_iterator entries(fmt::format("/proc/{}/fd", pid), error), end;
             !error && entries != end; entries.increment(error)) {
            const std::string number = entries->path().filename().string();
            auto found = position_at(pid, number);
            if (!found) continue;
            if (number == "0") return found->position > 0 ? found : std::nullopt;
            if (!largest || found->bytes > largest->bytes) largest = std::move(found);
        }
    } catch (const std::system_error&) {
        return std::nullopt;  // the process has ended meanwhile
    }
    return largest && largest->position > 0 ? largest : std::nullopt;
}

}  // namespace procrun
