#include "procrun/input_progress.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "vmcow/sys/fd.hpp"

namespace procrun {

namespace {

/// A number after "NAME:" in /proc/PID/fdinfo/N.
std::optional<std::uint64_t> field_of(std::string_view text, std::string_view name, int base) {
    const std::size_t at = text.find(name);
    if (at == std::string_view::npos) return std::nullopt;
    text.remove_prefix(at + name.size());
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
    if (error != std::errc{}) return std::nullopt;
    return number;
}

/// Where descriptor `number` is in the regular file that it only reads.
std::optional<FilePosition> position_at(pid_t pid, const std::string& number) {
    const std::string link = fmt::format("/proc/{}/fd/{}", pid, number);
    struct stat status {};
    if (stat(link.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) return std::nullopt;
    const std::string info = vmcow::sys::read_text_file(fmt::format("/proc/{}/fdinfo/{}", pid, number));
    const auto flags = field_of(info, "flags:", 8);
    const auto position = field_of(info, "pos:", 10);
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
        return std::nullopt;  // it has ended meanwhile
    }
    return largest && largest->position > 0 ? largest : std::nullopt;
}

}  // namespace procrun
