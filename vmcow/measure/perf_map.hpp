#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace vmcow::measure {

/// The names that a runtime writes down of the code that it generates, in /tmp/perf-PID.map: a line for each function,
/// with its start and its size in hexadecimal and its name. Lines that are not so are left out; of functions that
/// overlap, the one that stands last in the file is there.
class PerfMap {
public:
    /// An empty map where the file is not there, or belongs neither to `owner` nor to root, or is no ordinary file:
    /// anybody may write to /tmp. At most 64 MiB of it are read.
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

/// Where a process's map is expected.
[[nodiscard]] std::string perf_map_path(pid_t pid);

}  // namespace vmcow::measure
