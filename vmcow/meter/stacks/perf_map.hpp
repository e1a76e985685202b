#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace vmcow::meter {

/// The names of generated code, which its runtime writes to /tmp/perf-PID.map: a line for each function, with the start
/// and the size in hexadecimal and the name. Other lines are left out. Of functions that overlap, the last one in the
/// file counts.
class PerfMap {
public:
    /// Reads at most 64 MiB of the file. The map is empty if the file does not exist, is no regular file, or belongs
    /// neither to `owner` nor to root: anybody may write to /tmp.
    PerfMap(const std::string& path, uid_t owner);

    [[nodiscard]] bool empty() const noexcept { return functions_.empty(); }
    /// The function at an address.
    [[nodiscard]] std::optional<std::string> name_at(std::uint64_t address) const;

private:
    struct Function {
        std::uint64_t end = 0;
        std::string name;
    };
    void take_line(std::string_view line);

    std::map<std::uint64_t, Function> functions_;  ///< by start
};

/// The path of the map of a process.
[[nodiscard]] std::string perf_map_path(pid_t pid);

}  // namespace vmcow::meter
