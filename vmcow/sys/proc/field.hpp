#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmcow::sys {

/// Takes the first line off the front of `text` and returns it without its line end.
[[nodiscard]] std::string_view take_line(std::string_view& text) noexcept;

/// Takes the first word off the front of `text`, with the blanks before it, and returns the word. Empty when there is
/// none.
std::string_view take_word(std::string_view& text) noexcept;

/// The value in a line "NAME: VALUE" of a text such as /proc/self/status, from the first byte that is no blank to the
/// end of the line. nullopt when no line begins with "NAME:".
[[nodiscard]] std::optional<std::string_view> proc_field(std::string_view text, std::string_view name) noexcept;

/// The number that the value of proc_field begins with. nullopt when there is no such line, or no number that 64 bits
/// hold.
[[nodiscard]] std::optional<std::uint64_t> proc_number(std::string_view text, std::string_view name,
                                                       int base = 10) noexcept;

/// A counter of a file such as /proc/self/status or /proc/meminfo, in bytes. The file has it as "NAME:   1234 kB".
/// nullopt when this kernel has no line of that name.
/// Throws: std::system_error -- ENOENT (no /proc), EMFILE.
/// Source: proc(5).
[[nodiscard]] std::optional<std::uint64_t> read_proc_bytes(const std::string& path, std::string_view name);

}  // namespace vmcow::sys
