#include "vmcow/sys/proc/smaps.hpp"

#include <algorithm>
#include <string>
#include <string_view>

#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/field.hpp"
#include "vmcow/sys/proc/maps.hpp"

namespace vmcow::sys {
namespace {

constexpr std::uint64_t kKibi = 1024;

std::uint64_t bytes_of(std::string_view line, std::string_view name) noexcept {
    return proc_number(line, name).value_or(0) * kKibi;
}

void add_counter(std::string_view line, SmapsTotals& totals) noexcept {
    totals.resident_bytes += bytes_of(line, "Rss");
    totals.anonymous_bytes += bytes_of(line, "Anonymous");
    totals.swapped_bytes += bytes_of(line, "Swap");
    totals.huge_mapped_bytes += bytes_of(line, "ShmemPmdMapped") + bytes_of(line, "FilePmdMapped");
}

}  // namespace

SmapsTotals read_smaps(std::uintptr_t address, std::size_t bytes) {
    const std::string text = read_text_file("/proc/self/smaps");
    SmapsTotals totals;
    bool inside = false;
    for (std::string_view rest = text; !rest.empty();) {
        const std::string_view line = take_line(rest);
        if (const auto mapping = parse_process_mapping(line)) {
            inside = mapping->start >= address && mapping->end <= address + bytes;
        } else if (inside) {
            add_counter(line, totals);
        }
    }
    return totals;
}

}  // namespace vmcow::sys
