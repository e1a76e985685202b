#include "vmcow/sys/process_maps.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {
namespace {

constexpr std::uint64_t kFirstKernelAddress = std::uint64_t{1} << 63;

/// Takes the word off the front of `text`.
std::string_view take_word(std::string_view& text) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end);
    return word;
}

template <class Number>
bool convert(std::string_view text, Number& value, int base) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc() && end == text.data() + text.size();
}

/// "START-END rwxp OFFSET DEVICE INODE   NAME"
std::optional<ProcessMapping> mapping_of(std::string_view line) {
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
    if (!whole || mapping.start >= mapping.end || mapping.end > kFirstKernelAddress) return std::nullopt;
    mapping.writable = permissions[1] == 'w';
    mapping.executable = permissions[2] == 'x';
    mapping.shared = permissions[3] == 's';
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    mapping.name = line;
    return mapping;
}

}  // namespace

std::vector<ProcessMapping> read_process_maps(pid_t pid) {
    const std::string text = read_text_file("/proc/" + std::to_string(pid) + "/maps");
    std::vector<ProcessMapping> mappings;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t newline = std::min(text.find('\n', at), text.size());
        auto mapping = mapping_of(std::string_view(text).substr(at, newline - at));
        at = newline + 1;
        // The kernel writes the file in pieces: a mapping that grew between two of them stands in both.
        if (!mapping || (!mappings.empty() && mapping->start < mappings.back().end)) continue;
        mappings.push_back(std::move(*mapping));
    }
    return mappings;
}

}  // namespace vmcow::sys
