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

#include "vmcow/meter/stacks/perf_map.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow::meter {

/// What is printed if nothing is known about an address.
inline constexpr const char* kUnknown = "unknown";

/// An instruction, identified in the same way in every process that runs the same file.
struct CodePlace {
    static constexpr std::uint32_t kNowhere = 0xffffffff;

    std::uint32_t object = kNowhere;  ///< a number from Symbols; kNowhere: in no known mapping
    std::uint64_t offset = 0;         ///< in the file; for generated code, the address

    auto operator<=>(const CodePlace&) const = default;
};

/// The names by which a programmer knows a place.
struct CodeName {
    std::string function;  ///< demangled; "OBJECT+0xOFFSET" if the object has no name for it; kUnknown
    std::string object;    ///< the file's path, or kUnknown
    std::optional<std::string> file = {};
    std::optional<int> line = {};
};

/// The names of instructions, from the symbols and the DWARF of the files that they lie in.
///
/// A file is opened when it is added, and kept open: when names are asked for, the process may be gone and the file
/// replaced. Nothing is fetched from a server: separate debug information is found by build ID under /usr/lib/debug,
/// and nowhere else.
///
/// Cost:   a descriptor for each file (at most 512). Naming the first place in a file reads its symbols and line
///         tables, which takes 10 ms to seconds.
/// Source: elfutils' libdwfl.
class Symbols {
public:
    Symbols();
    ~Symbols();
    Symbols(const Symbols&) = delete;
    Symbols& operator=(const Symbols&) = delete;

    /// Adds a file that a process has mapped. `name` is the one in /proc/PID/maps, "[vdso]" and the like included. If
    /// the name leads to another file by now, only the name is known.
    [[nodiscard]] std::uint32_t add_file(pid_t pid, const std::string& name, std::uint64_t inode);
    /// Adds code that is in no file. `pids`: the process and those that it was forked from, latest first; their perf
    /// maps may name the code.
    [[nodiscard]] std::uint32_t add_generated(const std::vector<pid_t>& pids);

    /// The function at a place, then the functions that it was inlined into, innermost first; at least one name.
    /// `is_return`: the place is where a call returns to.
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

}  // namespace vmcow::meter
