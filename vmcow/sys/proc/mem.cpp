#include "vmcow/sys/proc/mem.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "vmcow/sys/error.hpp"

namespace vmcow::sys {

ProcessMemory::ProcessMemory(pid_t pid) : memory_(open_file("/proc/" + std::to_string(pid) + "/mem", O_RDONLY)) {}

std::size_t ProcessMemory::read(std::uint64_t address, std::span<std::byte> bytes) const noexcept {
    std::size_t filled = 0;
    while (filled < bytes.size()) {
        const ssize_t got = retry_interrupted([&]() noexcept {
            return ::pread(memory_.get(), bytes.data() + filled, bytes.size() - filled,
                           static_cast<off_t>(address + filled));
        });
        if (got <= 0) break;
        filled += static_cast<std::size_t>(got);
    }
    return filled;
}

}  // namespace vmcow::sys
