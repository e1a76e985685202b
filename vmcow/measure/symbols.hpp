#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/measure/perf_map.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::measure {

/// What is printed where nothing is known of an address.
inline constexpr const char* kUnknown = "unknown";

/// An instruction, named so that it means the same in every process that runs the same file.
struct CodePlace {
    static constexpr std::uint32_t kNowhere = 0xffffffff;

    std::uint32_t object = kNowhere;  ///< a number that Symbols has given out; kNowhere: in no mapping that is known
    std::uint64_t offset = 0;         ///< in the file; in generated code the address

    auto operator<=>(const CodePlace&) const = default;
};

/// What a programmer calls a place.
struct CodeName {
    std::string function;  ///< demangled; "OBJECT+0xOFFSET" where the object does not tell; kUnknown
    std::string object;    ///< the file's path, or kUnknown
    std::optional<std::string> file = {};
    std::optional<int> line = {};
};

/// The names of instructions, from the symbols and the DWARF of the files that they lie in.
///
/// Files are opened when they are met, and kept open: the process may be gone, and the file replaced, when names are
/// asked for. Nothing is fetched from anywhere: separate debug information is found by its build ID under
/// /usr/lib/debug, and nowhere else.
///
/// Cost:   a descriptor for each file (at most 512); to name the first place in a file, its symbols and line tables are
///         read, which takes 10 ms to seconds.
/// Source: elfutils' libdwfl.
class Symbols {
public:
    Symbols();
    ~Symbols();
    Symbols(const Symbols&) = delete;
    Symbols& operator=(const Symbols&) = delete;

    /// A file that a process has mapped under the name that /proc/PID/maps has for it, "[vdso]" and the like included.
    /// If another file is there by now, it is known by name alone.
    [[nodiscard]] std::uint32_t add_file(pid_t pid, const std::string& name, std::uint64_t inode);
    /// Code that is in no file. `pids`: the process, and those that it was forked from, latest first, in whose perf
    /// maps it may stand.
    [[nodiscard]] std::uint32_t add_generated(const std::vector<pid_t>& pids);

    /// The function at a place, and where it was inlined those that it was inlined into; the innermost first, at least
    /// one. `is_return`: the place is where a call returns to.
    [[nodiscard]] const std::vector<CodeName>& names_at(CodePlace place, bool is_return);

private:
    struct Object;

    [[nodiscard]] std::vector<CodeName> look_up(CodePlace place, bool is_return);
    [[nodiscard]] static std::vector<CodeName> look_up_generated(Object& object, std::uint64_t address);

    std::vector<std::unique_ptr<Object>> objects_;
    std::map<std::pair<std::string, std::uint64_t>, std::uint32_t> files_;
    std::map<std::vector<pid_t>, std::uint32_t> generated_;
    std::map<std::pair<CodePlace, bool>, std::vector<CodeName>> names_;
    std::size_t open_files_ = 0;
};

}  // namespace vmcow::measure
