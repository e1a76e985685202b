#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vmcow/meter/stacks/symbols.hpp"

namespace vmcow::meter {

/// Where the executable mappings of one process lie.
class CodeMap {
public:
    explicit CodeMap(pid_t pid) : pids_{pid} {}

    /// The map of a child at its fork. Cost: nothing is copied until one of the two processes maps code.
    [[nodiscard]] CodeMap forked(pid_t child) const;
    /// Empties the map, because exec(2) leaves no mapping.
    void clear() { *this = CodeMap(pids_.front()); }
    /// Adds a mapping, in place of what was at its addresses. `name` and `inode` are those of /proc/PID/maps.
    void add(Symbols& symbols, std::uint64_t start, std::uint64_t end, std::uint64_t offset, const std::string& name,
             std::uint64_t inode);
    /// Adds the executable mappings that the process has now. Adds nothing if the process has ended or may not be
    /// looked at.
    /// Throws: std::system_error -- EMFILE.
    void add_all(Symbols& symbols);

    [[nodiscard]] CodePlace place_of(std::uint64_t address) const;

private:
    struct Piece {
        std::uint64_t end = 0;
        std::uint64_t offset = 0;  ///< of its first byte in the object
        std::uint32_t object = 0;
    };
    using Pieces = std::map<std::uint64_t, Piece>;  ///< by start address

    static void cut(Pieces& pieces, std::uint64_t start, std::uint64_t end);

    std::shared_ptr<Pieces> pieces_ = std::make_shared<Pieces>();
    std::vector<pid_t> pids_;  ///< the process, then those that it was forked from since the last exec(2)
};

}  // namespace vmcow::meter
