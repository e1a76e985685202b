#include "vmcow/sys/mmap.hpp"

#include <sys/mman.h>

#include <cerrno>

#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

#if defined(__SANITIZE_THREAD__)
// Functions of the sanitizer's run time, which its headers do not declare.
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#endif

namespace vmcow::sys {
namespace {

constexpr int kMadvCollapse = 25;  // MADV_COLLAPSE, for headers older than Linux 6.1

int errno_of(int result) noexcept { return result == 0 ? 0 : errno; }

}  // namespace

int map_file_at(void* address, std::size_t bytes, MapMode mode, int fd, std::uint64_t offset) noexcept {
    const int protection = mode == MapMode::read_only ? PROT_READ : PROT_READ | PROT_WRITE;
    const int sharing = mode == MapMode::shared_write ? MAP_SHARED : MAP_PRIVATE;
    void* at = ::mmap(address, bytes, protection, sharing | MAP_FIXED | MAP_NORESERVE, fd, static_cast<off_t>(offset));
    return at == MAP_FAILED ? errno : 0;
}

int map_file_under_readers(void* address, std::size_t bytes, int fd, std::uint64_t offset) noexcept {
#if defined(__SANITIZE_THREAD__)
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
    const int error = map_file_at(address, bytes, MapMode::read_only, fd, offset);
#if defined(__SANITIZE_THREAD__)
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
    return error;
}

int map_memory_at(void* address, std::size_t bytes) noexcept {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    void* at = ::mmap(address, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
    if (at == MAP_FAILED) return errno;
    // Refused only by a kernel without huge pages, which maps small pages anyway.
    static_cast<void>(::madvise(address, bytes, MADV_NOHUGEPAGE));
    return 0;
}

int reserve_at(void* address, std::size_t bytes) noexcept {
    void* at = ::mmap(address, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? errno : 0;
}

int reserve_hole(void* address, std::size_t bytes) noexcept {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
    void* at = ::mmap(address, bytes, PROT_NONE, kFlags, -1, 0);
    return at == MAP_FAILED ? errno : 0;
}

std::byte* reserve(std::size_t bytes) noexcept {
    const std::size_t padded = bytes + kHugeBytes;
    void* at = ::mmap(nullptr, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return nullptr;
    auto* const start = static_cast<std::byte*>(at);
    const std::size_t skipped =
        round_up(reinterpret_cast<std::uintptr_t>(start), kHugeBytes) - reinterpret_cast<std::uintptr_t>(start);
    if (skipped > 0) ::munmap(start, skipped);
    if (padded > skipped + bytes) ::munmap(start + skipped + bytes, padded - skipped - bytes);
    return start + skipped;
}

void* map_shared_memory(std::size_t bytes) noexcept {
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

int unmap(void* address, std::size_t bytes) noexcept { return errno_of(::munmap(address, bytes)); }

int keep_out_of_children(void* address, std::size_t bytes) noexcept {
    return errno_of(::madvise(address, bytes, MADV_DONTFORK));
}

bool is_mapped(const void* address, std::size_t bytes) noexcept {
    VMCOW_ASSERT(reinterpret_cast<std::uintptr_t>(address) % kPageBytes == 0 && "an address within a page is EINVAL");
    return ::msync(const_cast<void*>(address), bytes, MS_ASYNC) == 0;
}

int make_read_only(void* address, std::size_t bytes) noexcept {
    return errno_of(::mprotect(address, bytes, PROT_READ));
}

int collapse(void* address, std::size_t bytes) noexcept { return errno_of(::madvise(address, bytes, kMadvCollapse)); }

}  // namespace vmcow::sys
