#include "vmcow/sys/proc_field.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

std::optional<std::uint64_t> read_proc_bytes(const std::string& path, std::string_view name) {
    const std::string text = read_text_file(path);
    const std::string key = std::string(name) + ":";
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t newline = std::min(text.find('\n', at), text.size());
        std::string_view line(text.data() + at, newline - at);
        at = newline + 1;
        if (!line.starts_with(key)) continue;
        line.remove_prefix(std::min(line.find_first_of("0123456789"), line.size()));
        std::uint64_t kib = 0;
        const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), kib);
        if (error != std::errc()) return std::nullopt;
        return kib * 1024;
    }
    return std::nullopt;
}

}  // namespace vmcow::sys
