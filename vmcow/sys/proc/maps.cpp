#include "vmcow/sys/proc/maps.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <utility>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/proc/stat.hpp"
#include "vmcow/sys/process/signal_process.hpp"

namespace vmcow::sys {
namespace {

constexpr std::uint64_t kFirstKernelAddress = std::uint64_t{1} << 63;

template <class Number>
bool convert(std::string_view text, Number& value, int base) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc() && end == text.data() + text.size();
}

/// Whether a process that shows no maps has ended. A process whose first thread has ended before the others shows none
/// either, and without /proc no process shows any.
bool process_has_ended(pid_t pid) {
    if (try_signal_process(pid, 0) == ESRCH) return true;
    const auto stat = try_read_process_stat(pid);
    return stat && (stat->state == 'Z' || stat->state == 'X') && stat->threads <= 1;
}

std::string text_of_maps(pid_t pid) { return read_text_file("/proc/" + std::to_string(pid) + "/maps"); }

}  // namespace

std::optional<ProcessMapping> parse_process_mapping(std::string_view line) {
    ProcessMapping mapping;
    const std::string_view range = take_word(line);
    const std::size_t dash = range.find('-');
    if (dash == std::string_view::npos) return std::nullopt;
    const std::string_view permissions = take_word(line);
    const std::string_view offset = take_word(line);
    take_word(line);  // the device
    const bool whole = convert(range.substr(0, dash), mapping.start, 16) &&
                       convert(range.substr(dash + 1), mapping.end, 16) && convert(offset, mapping.offset, 16) &&
                       permissions.size() == 4 && convert(take_word(line), mapping.inode, 10);
    if (!whole || mapping.start >= mapping.end) return std::nullopt;
    mapping.writable = permissions[1] == 'w';
    mapping.executable = permissions[2] == 'x';
    mapping.shared = permissions[3] == 's';
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    mapping.name = line;
    return mapping;
}

std::vector<ProcessMapping> read_process_maps(pid_t pid) {
    const std::string text = text_of_maps(pid);
    std::vector<ProcessMapping> mappings;
    for (std::string_view rest = text; !rest.empty();) {
        auto mapping = parse_process_mapping(take_line(rest));
        if (!mapping || mapping->end > kFirstKernelAddress) continue;
        // The kernel writes the file in pieces: a mapping that grew between two pieces stands in both.
        if (!mappings.empty() && mapping->start < mappings.back().end) continue;
        mappings.push_back(std::move(*mapping));
    }
    return mappings;
}

bool maps_writable(pid_t pid, std::span<const std::uint64_t> inodes) {
    if (inodes.empty()) return false;
    std::string text;
    try {
        text = text_of_maps(pid);
    } catch (const std::system_error& error) {
        const bool may_have_ended = error.code().value() == ENOENT || error.code().value() == ESRCH;
        return !may_have_ended || !process_has_ended(pid);
    }
    if (text.empty()) return !process_has_ended(pid);
    for (std::string_view rest = text; !rest.empty();) {
        const auto mapping = parse_process_mapping(take_line(rest));
        if (!mapping) return true;
        const bool writes_through = mapping->writable && mapping->shared;
        if (writes_through && std::find(inodes.begin(), inodes.end(), mapping->inode) != inodes.end()) return true;
    }
    return false;
}

}  // namespace vmcow::sys
