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

/// Maps `bytes` of `fd` from `offset` on at exactly `address`, in place of what was there. No memory is reserved for it
/// (MAP_NORESERVE), because private mappings may be larger than memory. Returns 0 or the errno. Async-signal-safe.
/// Source: mmap(2).
[[nodiscard]] int map_file_at(void* address, std::size_t bytes, MapMode mode, int fd, std::uint64_t offset) noexcept;

/// Like map_file_at, read-only, where the same bytes may be mapped already and other threads may be reading them. The
/// kernel replaces one mapping by the other at once, so the readers see no difference. The thread sanitizer takes any
/// mmap for a write, so it is told to ignore this one.
[[nodiscard]] int map_file_under_readers(void* address, std::size_t bytes, int fd, std::uint64_t offset) noexcept;

/// Maps `bytes` of zeroed private memory at exactly `address`, in place of what was there. The pages are small: a page
/// that is written costs one page. Returns 0 or the errno. Async-signal-safe.
/// Source: mmap(2), madvise(2) MADV_NOHUGEPAGE.
[[nodiscard]] int map_memory_at(void* address, std::size_t bytes) noexcept;

/// Unmaps what is at `address` and leaves the range reserved: any access is SIGSEGV, and nothing else is placed there.
/// Returns 0 or the errno. Async-signal-safe.
[[nodiscard]] int reserve_at(void* address, std::size_t bytes) noexcept;

/// Like reserve_at, for a range in which nothing is mapped: EEXIST if something is. Async-signal-safe.
/// Source: mmap(2) MAP_FIXED_NOREPLACE, Linux 4.17.
[[nodiscard]] int reserve_hole(void* address, std::size_t bytes) noexcept;

/// Reserves `bytes` of address space anywhere, aligned to 2 MiB. nullptr when there is none (errno is set).
[[nodiscard]] std::byte* reserve(std::size_t bytes) noexcept;

/// Maps zeroed memory that this process shares with children forked from it. nullptr when there is none (errno is set).
/// Source: mmap(2) MAP_SHARED, MAP_ANONYMOUS.
[[nodiscard]] void* map_shared_memory(std::size_t bytes) noexcept;

/// Gives a range back to the kernel. Returns 0 or the errno.
[[nodiscard]] int unmap(void* address, std::size_t bytes) noexcept;

/// Keeps a range out of forked children. Returns 0 or the errno.
/// Source: madvise(2) MADV_DONTFORK.
[[nodiscard]] int keep_out_of_children(void* address, std::size_t bytes) noexcept;

/// Whether every page of a range is mapped.
/// Pre:    `address` is the start of a page.
/// Cost:   200 ns, whatever the length.
/// Source: msync(2) MS_ASYNC, which on Linux only looks at the mappings: ENOMEM where there is none.
[[nodiscard]] bool is_mapped(const void* address, std::size_t bytes) noexcept;

/// Makes a mapped range unwritable. Returns 0 or the errno.
/// Source: mprotect(2).
[[nodiscard]] int make_read_only(void* address, std::size_t bytes) noexcept;

/// Puts each 2 MiB chunk of a range into a huge page, now. This needs no privilege, and works for memfds whatever
/// shmem_enabled says, except for "deny". Returns 0 or the errno: EINVAL before Linux 6.1, ENOMEM or EAGAIN when no
/// huge page is available.
/// Pre:    `address` and `bytes` are multiples of 2 MiB.
/// Source: madvise(2) MADV_COLLAPSE.
[[nodiscard]] int collapse(void* address, std::size_t bytes) noexcept;

}  // namespace vmcow::sys
