#include "vmcow/meter/stacks/perf_map.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>
#include <cstddef>
#include <iterator>
#include <limits>
#include <span>
#include <system_error>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::meter {
namespace {

constexpr std::size_t kMostBytes = std::size_t{64} << 20;

/// The text of a file that another user may have put there; empty unless it belongs to `owner` or root.
std::string read_if_owned(const std::string& path, uid_t owner) {
    // The open neither follows a link that another user made nor waits for the writer of a pipe.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return {};
    const sys::UniqueFd file(fd);
    struct stat status {};
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return {};
    if (status.st_uid != owner && status.st_uid != 0) return {};
    std::string text(std::min(static_cast<std::size_t>(status.st_size), kMostBytes), '\0');
    text.resize(sys::read_full(fd, std::as_writable_bytes(std::span(text)), path));
    return text;
}

std::optional<std::uint64_t> take_hexadecimal(std::string_view& line) {
    if (line.substr(0, 2) == "0x") line.remove_prefix(2);
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number, 16);
    if (error != std::errc{} || end == line.data() + line.size() || *end != ' ') return std::nullopt;
    line.remove_prefix(static_cast<std::size_t>(end - line.data()) + 1);
    return number;
}

}  // namespace

PerfMap::PerfMap(const std::string& path, uid_t owner) {
    std::string text;
    try {
        text = read_if_owned(path, owner);
    } catch (const std::system_error&) {
        return;  // as if the file did not exist
    }
    for (std::string_view rest = text; !rest.empty();) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        take_line(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
}

void PerfMap::take_line(std::string_view line) {
    const auto start = take_hexadecimal(line);
    const auto bytes = start ? take_hexadecimal(line) : std::nullopt;
    if (!bytes || *bytes == 0 || line.empty() || *bytes > std::numeric_limits<std::uint64_t>::max() - *start) return;
    // The runtime gave up what was here before in favour of this function.
    auto at = functions_.upper_bound(*start);
    if (at != functions_.begin() && std::prev(at)->second.end > *start) --at;
    while (at != functions_.end() && at->first < *start + *bytes) at = functions_.erase(at);
    functions_.emplace(*start, Function{*start + *bytes, std::string(line)});
}

std::optional<std::string> PerfMap::name_at(std::uint64_t address) const {
    const auto after = functions_.upper_bound(address);
    if (after == functions_.begin()) return std::nullopt;
    const Function& function = std::prev(after)->second;
    return address < function.end ? std::optional(function.name) : std::nullopt;
}

std::string perf_map_path(pid_t pid) { return "/tmp/perf-" + std::to_string(pid) + ".map"; }

}  // namespace vmcow::meter
