#include "vmcow/sys/proc/field.hpp"

#include <algorithm>
#include <charconv>

#include "vmcow/sys/fd.hpp"

namespace vmcow::sys {

std::string_view take_line(std::string_view& text) noexcept {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    return line;
}

std::string_view take_word(std::string_view& text) noexcept {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(word.size());
    return word;
}

std::optional<std::string_view> proc_field(std::string_view text, std::string_view name) noexcept {
    while (!text.empty()) {
        std::string_view line = take_line(text);
        if (!line.starts_with(name)) continue;
        line.remove_prefix(name.size());
        if (!line.starts_with(':')) continue;
        line.remove_prefix(1);
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
        return line;
    }
    return std::nullopt;
}

std::optional<std::uint64_t> proc_number(std::string_view text, std::string_view name, int base) noexcept {
    const auto field = proc_field(text, name);
    if (!field) return std::nullopt;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(field->data(), field->data() + field->size(), number, base);
    return error == std::errc() ? std::optional(number) : std::nullopt;
}

std::optional<std::uint64_t> read_proc_bytes(const std::string& path, std::string_view name) {
    constexpr std::uint64_t kKibi = 1024;
    const auto kib = proc_number(read_text_file(path), name);
    return kib ? std::optional(*kib * kKibi) : std::nullopt;
}

}  // namespace vmcow::sys
