#include "vmcow/meter/stacks/code_map.hpp"

#include <cerrno>
#include <iterator>
#include <string_view>
#include <system_error>

#include "vmcow/sys/proc/maps.hpp"

namespace vmcow::meter {
namespace {

/// How many generations of forked processes may share a perf map.
constexpr std::size_t kMostPids = 8;

/// Whether a mapping is of a named file, or one that the kernel makes itself. Any other mapping holds generated code.
bool is_file(std::string_view name, std::uint64_t inode) {
    if (name == "[vdso]" || name == "[vsyscall]") return true;
    return inode != 0 && name.starts_with('/') && !name.starts_with("//") && !name.starts_with("/memfd:") &&
           !name.starts_with("/dev/zero") && !name.starts_with("/SYSV");
}

}  // namespace

CodeMap CodeMap::forked(pid_t child) const {
    CodeMap map(*this);
    map.pids_.insert(map.pids_.begin(), child);
    if (map.pids_.size() > kMostPids) map.pids_.pop_back();
    return map;
}

void CodeMap::cut(Pieces& pieces, std::uint64_t start, std::uint64_t end) {
    auto at = pieces.upper_bound(start);
    if (at != pieces.begin() && std::prev(at)->second.end > start) --at;
    while (at != pieces.end() && at->first < end) {
        const auto [piece_start, piece] = *at;
        at = pieces.erase(at);
        if (piece_start < start) pieces.emplace(piece_start, Piece{start, piece.offset, piece.object});
        if (piece.end > end) {
            at = pieces.emplace(end, Piece{piece.end, piece.offset + (end - piece_start), piece.object}).first;
        }
    }
}

void CodeMap::add(Symbols& symbols, std::uint64_t start, std::uint64_t end, std::uint64_t offset,
                  const std::string& name, std::uint64_t inode) {
    if (start >= end) return;
    const bool in_file = is_file(name, inode);
    const std::uint32_t object = in_file ? symbols.add_file(pids_.front(), name, inode) : symbols.add_generated(pids_);
    if (pieces_.use_count() > 1) pieces_ = std::make_shared<Pieces>(*pieces_);
    cut(*pieces_, start, end);
    pieces_->emplace(start, Piece{end, in_file ? offset : start, object});
}

void CodeMap::add_all(Symbols& symbols) {
    try {
        for (const sys::ProcessMapping& mapping : sys::read_process_maps(pids_.front())) {
            if (!mapping.executable) continue;
            add(symbols, mapping.start, mapping.end, mapping.offset, mapping.name, mapping.inode);
        }
    } catch (const std::system_error& error) {
        if (error.code().value() == EMFILE || error.code().value() == ENFILE) throw;
    }
}

CodePlace CodeMap::place_of(std::uint64_t address) const {
    const auto after = pieces_->upper_bound(address);
    if (after == pieces_->begin()) return {};
    const auto& [start, piece] = *std::prev(after);
    if (address >= piece.end) return {};
    return {piece.object, piece.offset + (address - start)};
}

}  // namespace vmcow::meter
