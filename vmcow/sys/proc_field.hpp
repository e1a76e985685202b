#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmcow::sys {

/// A counter of a file such as /proc/self/status or /proc/meminfo, which stands there as "NAME:   1234 kB". In bytes;
/// nothing where this kernel has no line of that name.
/// Throws: std::system_error -- ENOENT (no /proc), EMFILE. Source: proc(5).
[[nodiscard]] std::optional<std::uint64_t> read_proc_bytes(const std::string& path, std::string_view name);

}  // namespace vmcow::sys
