#include "vmcow/sys/smaps.hpp"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {
namespace {

std::uint64_t number(std::string_view text, int base) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value, base);
    return value;
}

/// Reads "START-END perms …", the line that begins a mapping; false for a line of counters.
bool parse_mapping_line(std::string_view line, std::uint64_t& start, std::uint64_t& end) {
    const std::size_t dash = line.find('-');
    const std::size_t space = line.find(' ');
    if (dash == std::string_view::npos || space == std::string_view::npos || dash > space) return false;
    if (line.substr(0, space).find(':') != std::string_view::npos) return false;
    start = number(line.substr(0, dash), 16);
    end = number(line.substr(dash + 1, space - dash - 1), 16);
    return true;
}

void add_counter(std::string_view line, SmapsTotals& totals) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const std::string_view name = line.substr(0, colon);
    const std::uint64_t bytes = number(line.substr(colon + 1), 10) * 1024;
    if (name == "Rss") totals.resident_bytes += bytes;
    if (name == "Anonymous") totals.anonymous_bytes += bytes;
    if (name == "Swap") totals.swapped_bytes += bytes;
    if (name == "ShmemPmdMapped" || name == "FilePmdMapped") totals.huge_mapped_bytes += bytes;
}

}  // namespace

SmapsTotals read_smaps(std::uintptr_t address, std::size_t bytes) {
    const std::string text = read_text_file("/proc/self/smaps");
    SmapsTotals totals;
    bool inside = false;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t newline = std::min(text.find('\n', at), text.size());
        const std::string_view line(text.data() + at, newline - at);
        at = newline + 1;
        std::uint64_t start = 0;
        std::uint64_t end = 0;
        if (parse_mapping_line(line, start, end)) {
            inside = start >= address && end <= address + bytes;
        } else if (inside) {
            add_counter(line, totals);
        }
    }
    return totals;
}

}  // namespace vmcow::sys
