#include "bench/value/memory.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/proc/field.hpp"

namespace bench {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMemfd = "/memfd:";
using Inode = std::uint64_t;

bool is_memfd(const std::string& name) { return name.rfind(kMemfd, 0) == 0; }

/// Adds the memfds that the process has open, with the bytes of their pages.
void add_open_memfds(const std::string& folder, std::map<Inode, std::uint64_t>& memfds) {
    constexpr std::uint64_t kBlockBytes = 512;
    for (const auto& entry : fs::directory_iterator(folder + "/fd")) {
        std::error_code gone;  // fails for the descriptor with which the folder is read
        if (!is_memfd(fs::read_symlink(entry.path(), gone).string()) || gone) continue;
        struct stat status {};
        if (::stat(entry.path().c_str(), &status) != 0) vmcow::sys::throw_errno("stat '" + entry.path().string() + "'");
        memfds[status.st_ino] = static_cast<std::uint64_t>(status.st_blocks) * kBlockBytes;
    }
}

/// Adds the memfds that the process has mapped, with its share of the pages in its page table.
/// Source: proc(5), /proc/pid/smaps: address, permissions, offset, device, inode, path; "Pss: 4 kB" and others below.
void add_mapped_memfds(const std::string& folder, std::map<Inode, std::uint64_t>& memfds) {
    std::istringstream lines(vmcow::sys::read_text_file(folder + "/smaps"));
    std::optional<Inode> current;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string first;
        words >> first;
        if (first == "Pss:") {
            std::uint64_t kib = 0;
            words >> kib;
            if (current) memfds[*current] += kib << 10;
        } else if (first.find(':') == std::string::npos) {
            std::string skipped;
            std::string path;
            Inode inode = 0;
            words >> skipped >> skipped >> skipped >> inode >> path;
            current = is_memfd(path) ? std::optional(inode) : std::nullopt;
        }
    }
}

std::uint64_t private_bytes(const std::string& folder) {
    const auto anonymous = vmcow::sys::read_proc_bytes(folder + "/smaps_rollup", "Anonymous");
    const auto tables = vmcow::sys::read_proc_bytes(folder + "/status", "VmPTE");
    if (!anonymous || !tables) throw std::runtime_error("the memory of a process cannot be read");
    return *anonymous + *tables;
}

}  // namespace

std::uint64_t held_memory_bytes(const std::vector<pid_t>& processes) {
    std::map<Inode, std::uint64_t> open;
    std::map<Inode, std::uint64_t> mapped;
    std::uint64_t sum = 0;
    for (const pid_t process : processes) {
        const std::string folder = "/proc/" + std::to_string(process);
        add_open_memfds(folder, open);
        add_mapped_memfds(folder, mapped);
        sum += private_bytes(folder);
    }
    for (const auto& [inode, bytes] : open) mapped[inode] = bytes;
    for (const auto& [inode, bytes] : mapped) sum += bytes;
    return sum;
}

}  // namespace bench
