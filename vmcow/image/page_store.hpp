#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "vmcow/units.hpp"

namespace vmcow {

class StoreChunk;

/// Pages of the page store that somebody holds: `count()` pages one behind the other, in a file that others can map but
/// not write. The destructor gives them back.
class StoredPages {
public:
    StoredPages(std::shared_ptr<StoreChunk> chunk, PageIndex first, PageCount count) noexcept;
    StoredPages(StoredPages&& other) noexcept;
    StoredPages& operator=(StoredPages&&) = delete;
    ~StoredPages();

    [[nodiscard]] std::byte* data() const noexcept;
    [[nodiscard]] PageCount count() const noexcept { return count_; }
    /// The chunk's file, for others to map read-only.
    [[nodiscard]] int fd() const noexcept;
    /// Where these pages begin in the chunk's file.
    [[nodiscard]] std::uint64_t file_offset() const noexcept { return first_.byte_offset(); }
    /// A number that no other chunk of this process has or will have.
    [[nodiscard]] std::uint64_t chunk_id() const noexcept;
    /// The size of the chunk.
    [[nodiscard]] std::uint64_t chunk_bytes() const noexcept;
    /// Expires with the chunk.
    [[nodiscard]] std::weak_ptr<const void> chunk_liveness() const noexcept;
    /// False in a function process for pages of its caller. It has a private copy-on-write view of them there.
    [[nodiscard]] bool is_own() const noexcept;

private:
    std::shared_ptr<StoreChunk> chunk_;
    PageIndex first_;
    PageCount count_;
};

/// Pages for deltas and small images that come and go: huge chunks whose pages are handed out, counted and used again.
/// A recycled page costs the memcpy that fills it (0.1 to 0.4 µs), a fresh page of a memfd ten times that.
///
///     chunk (a memfd in huge pages)  |-- delta --|- free -|---- delta ----|------ free ------|
///
/// A chunk carries F_SEAL_FUTURE_WRITE: this process writes through the mapping that it has, and nobody else who gets
/// the descriptor can ever write. So a delta is as immutable for others as a sealed one (I1).
///
/// Threads:    any.
/// After fork: a function process has what was there at the fork, in a private copy-on-write view, as long as a `Pin`
///             keeps the pages from being used again. It allocates from chunks of its own.
/// Source:     fcntl(2) F_SEAL_FUTURE_WRITE, Linux 5.1.
class PageStore {
public:
    /// The size of the first chunks. A later chunk has an eighth of what all chunks hold, up to `kLargestChunkBytes`,
    /// or as much as is asked for. 6 GiB are less than a hundred chunks.
    static constexpr std::size_t kChunkBytes = std::size_t{8} << 20;
    static constexpr std::size_t kLargestChunkBytes = std::size_t{1} << 30;
    /// How many chunks without a page in use are kept for later. On a virtual machine, a page of memory that was given
    /// back to the kernel costs 10 µs when it is used again.
    static constexpr std::size_t kSpareChunks = 4;

    /// Hands out pages; their content is undefined.
    /// Pre:    `count` is not 0.
    /// Throws: std::system_error -- EMFILE, ENOMEM; nothing is left behind.
    [[nodiscard]] static StoredPages allocate(PageCount count);

    /// While a Pin lives, pages that are given back are not handed out again: a forked process still reads them.
    class Pin {
    public:
        Pin() noexcept;
        ~Pin();
        Pin(const Pin&) = delete;
        Pin& operator=(const Pin&) = delete;
    };

    /// Gives the chunks without a page in use back to the kernel, all but one.
    static void trim() noexcept;

    /// The bytes of all chunks, in use or not.
    [[nodiscard]] static std::uint64_t held_bytes() noexcept;
    [[nodiscard]] static std::uint64_t used_bytes() noexcept;
};

}  // namespace vmcow
