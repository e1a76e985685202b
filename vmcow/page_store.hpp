#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "vmcow/units.hpp"

namespace vmcow {

class StoreChunk;

/// Memory of a page store that somebody holds: `count()` pages one behind the other, in a file that others can map but
/// not write. Given back at its end.
class StoredPages {
public:
    StoredPages(std::shared_ptr<StoreChunk> chunk, PageIndex first, PageCount count) noexcept;
    StoredPages(StoredPages&& other) noexcept;
    StoredPages& operator=(StoredPages&&) = delete;
    ~StoredPages();

    [[nodiscard]] std::byte* data() const noexcept;
    [[nodiscard]] PageCount count() const noexcept { return count_; }
    /// The chunk's file, for others to map read-only, and where in it these pages begin.
    [[nodiscard]] int fd() const noexcept;
    [[nodiscard]] std::uint64_t file_offset() const noexcept { return first_.byte_offset(); }
    /// A number that no other chunk of this process has or will have, and its size.
    [[nodiscard]] std::uint64_t chunk_id() const noexcept;
    [[nodiscard]] std::uint64_t chunk_bytes() const noexcept;

private:
    std::shared_ptr<StoreChunk> chunk_;
    PageIndex first_;
    PageCount count_;
};

/// Pages for deltas that come and go: huge chunks whose pages are handed out, counted and used again. A recycled page
/// costs the memcpy that fills it (0.1 to 0.4 µs), a fresh one of a memfd ten times that.
///
///     chunk (a memfd in huge pages)  |-- delta --|- free -|---- delta ----|------ free ------|
///
/// A chunk carries F_SEAL_FUTURE_WRITE: this process writes through the mapping that it has; nobody else who gets the
/// descriptor can ever write, so a delta is as immutable for others as a sealed one (I1).
///
/// Threads:    any.
/// After fork: a function process reads what was there at the fork, as long as a `Pin` keeps the pages from being used
///             again. What it allocates comes from chunks of its own.
/// Source:     fcntl(2) F_SEAL_FUTURE_WRITE, Linux 5.1.
class PageStore {
public:
    /// A chunk is this large, or as large as what is asked for.
    static constexpr std::size_t kChunkBytes = std::size_t{8} << 20;
    /// So many chunks without a page in use are kept for what comes next: on a virtual machine, memory that the kernel
    /// has had back costs 10 µs a page again.
    static constexpr std::size_t kSpareChunks = 4;

    /// Pages with any content. Throws: std::system_error -- EMFILE, ENOMEM; nothing is left behind.
    [[nodiscard]] static StoredPages allocate(PageCount count);

    /// While one lives, pages that are given back are not handed out again: somebody who was forked still reads them.
    class Pin {
    public:
        Pin() noexcept;
        ~Pin();
        Pin(const Pin&) = delete;
        Pin& operator=(const Pin&) = delete;
    };

    /// Gives all of these but one back to the kernel.
    static void trim() noexcept;

    /// Bytes of all chunks, in use or not.
    [[nodiscard]] static std::uint64_t held_bytes() noexcept;
    [[nodiscard]] static std::uint64_t used_bytes() noexcept;
};

}  // namespace vmcow
