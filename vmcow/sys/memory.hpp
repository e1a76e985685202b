#pragma once

#include <cstddef>
#include <cstdint>

namespace vmcow::sys {

/// What a mapping of a file lets its process do.
enum class MapMode {
    read_only,      ///< private and not writable: F_SEAL_WRITE forbids even read-only shared mappings before Linux 6.7
    private_write,  ///< copy-on-write: writes stay in this process
    shared_write,   ///< writes reach the file
};

/// Maps `bytes` of `fd` from `offset` on at exactly `address`, in place of what was there, without reserving memory for
/// it (MAP_NORESERVE: private mappings may be larger than memory). Returns 0 or the errno. Async-signal-safe. Source:
/// mmap(2).
[[nodiscard]] int map_file_at(void* address, std::size_t bytes, MapMode mode, int fd, std::uint64_t offset) noexcept;

/// map_file_at, read-only, where the same bytes may be mapped already and be read by other threads meanwhile: the
/// kernel changes one mapping for the other at once, and they see no difference. The thread sanitizer, which takes any
/// mmap for a write, is told so.
[[nodiscard]] int map_file_under_readers(void* address, std::size_t bytes, int fd, std::uint64_t offset) noexcept;

/// Maps `bytes` of zeroed private memory at exactly `address`, in place of what was there, in small pages: one that is
/// written costs one page. Returns 0 or the errno. Async-signal-safe. Source: mmap(2), madvise(2) MADV_NOHUGEPAGE.
[[nodiscard]] int map_memory_at(void* address, std::size_t bytes) noexcept;

/// Takes away what is mapped at `address` and leaves the range reserved: any access is SIGSEGV, and nothing else is
/// placed there. Returns 0 or the errno. Async-signal-safe.
[[nodiscard]] int reserve_at(void* address, std::size_t bytes) noexcept;

/// The same for a range in which nothing is mapped: EEXIST if something is. Async-signal-safe. Source: mmap(2)
/// MAP_FIXED_NOREPLACE, Linux 4.17.
[[nodiscard]] int reserve_hole(void* address, std::size_t bytes) noexcept;

/// Reserves `bytes` of address space, aligned to 2 MiB, anywhere; nullptr when there is none (errno is set).
[[nodiscard]] std::byte* reserve(std::size_t bytes) noexcept;

/// Zeroed memory that this process shares with those forked from it; nullptr when there is none (errno is set).
/// Source: mmap(2) MAP_SHARED, MAP_ANONYMOUS.
[[nodiscard]] void* map_shared_memory(std::size_t bytes) noexcept;

/// Gives a range back to the kernel. Returns 0 or the errno.
[[nodiscard]] int unmap(void* address, std::size_t bytes) noexcept;

/// Keeps a range out of forked children. Returns 0 or the errno. Source: madvise(2) MADV_DONTFORK.
[[nodiscard]] int keep_out_of_children(void* address, std::size_t bytes) noexcept;

/// Whether something is mapped at every page of a range. Pre: `address` is on a page. Cost: 200 ns, however long it is.
/// Source: msync(2) MS_ASYNC, which on Linux does nothing but look at the mappings: ENOMEM where there is none.
[[nodiscard]] bool is_mapped(const void* address, std::size_t bytes) noexcept;

/// Makes a mapped range unwritable. Returns 0 or the errno. Source: mprotect(2).
[[nodiscard]] int make_read_only(void* address, std::size_t bytes) noexcept;

/// Puts the 2 MiB chunks of a range into huge pages, now. Works for memfds whatever shmem_enabled says, but for "deny",
/// and without privilege. Returns 0 or the errno: EINVAL before Linux 6.1, ENOMEM or EAGAIN when no huge page can be
/// had. Pre: address and bytes are multiples of 2 MiB. Source: madvise(2) MADV_COLLAPSE.
[[nodiscard]] int collapse(void* address, std::size_t bytes) noexcept;

}  // namespace vmcow::sys
