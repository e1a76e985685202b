#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

class Loan;

/// The pages that an image is built of.
enum class PagePolicy {
    automatic,  ///< whole 2 MiB chunks in huge pages; the rest, and small images, in 4 KiB pages
    small,      ///< 4 KiB pages only
};

struct ArenaOptions {
    std::string name = "arena";
    /// The largest size that the image can reach. It grows into the addresses behind it, without moving. Other images
    /// are placed there only when no other addresses are left: thousands of arenas have some GiB each. Costs no memory.
    std::size_t reserve_bytes = std::size_t{16} << 30;
    PagePolicy pages = PagePolicy::automatic;
};

/// The pages that an image got, and why it did not get huge ones (I8).
struct ImagePages {
    std::uint64_t huge_bytes = 0;   ///< in 2 MiB pages
    std::uint64_t small_bytes = 0;  ///< in 4 KiB pages, or where no page exists yet
    int collapse_error = 0;         ///< the errno with which the kernel last refused a huge page, or 0
};

/// An image that one owner is filling: a memfd mapped shared and writable in a slot of its own.
///
///     slot  |--- extent ---|-- capacity: in the file, zero --|~~~~~~~~~ room ~~~~~~~~~|
///            what was allocated                               grows without moving
///
/// Fresh chunks are touched once per 2 MiB and collapsed: the image is filled ten times faster, and frozen a hundred
/// times faster, than in 4 KiB pages.
///
/// Threads:    one at a time.
/// After fork: a function process has a private copy at the same address. It can read, write and grow the copy, but not
///             freeze it (EPERM).
/// Source:     memfd_create(2); madvise(2) MADV_COLLAPSE, Linux 6.1, without which pages are small.
class Arena {
public:
    /// Throws: std::system_error -- EMFILE, ENOMEM (address space); nothing is left behind.
    explicit Arena(ArenaOptions options = {});
    Arena(Arena&& other) noexcept;
    Arena& operator=(Arena&& other) noexcept;
    ~Arena();

    /// Extends the image by `bytes`, zeroed, and returns where they begin. Pointers to earlier parts stay valid.
    /// Pre:    `alignment` is a power of two, at most 2 MiB.
    /// Throws: std::system_error -- ENOMEM (past `reserve_bytes`, or others have the addresses behind the image),
    ///         EFBIG; the arena is as before.
    std::byte* allocate(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t));
    /// As `allocate`, without touching memory: a page comes into being when it is first written.
    std::byte* allocate_sparse(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t));
    /// `count` zeroed objects of T, one behind the other.
    template <class T>
    [[nodiscard]] std::span<T> allocate_array(std::size_t count) {
        static_assert(
            PlainBytes<T>,
            "an image holds plain bytes: trivially copyable, without pointers, references and views; a class that "
            "hides its members has to vouch for itself (vmcow::kVouched)");
        return {reinterpret_cast<T*>(allocate(checked_bytes(count, sizeof(T)), alignof(T))), count};
    }
    /// Copies `bytes` to the end of the image; returns the offset at which they begin.
    /// Cost: a memcpy, one chunk's worth of pages at a time.
    std::size_t append(std::span<const std::byte> bytes);

    /// The image so far.
    [[nodiscard]] std::span<std::byte> bytes() noexcept;
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept;
    [[nodiscard]] std::uint64_t extent_bytes() const noexcept;
    /// The size to which the image could grow now: `reserve_bytes`, or less where other images have the addresses
    /// behind it.
    [[nodiscard]] std::size_t reserved_bytes() const noexcept;
    [[nodiscard]] ImagePages pages() const noexcept;
    /// The memfd being filled: what other processes map of it changes as it is filled (I1, I2).
    [[nodiscard]] int fd() const noexcept;

    /// Seals the image. It stays mapped at the same address, read-only.
    /// Throws:  std::system_error -- EBUSY while another process maps it writable, EPERM in a function process; the
    ///          arena is as before. std::bad_alloc, for some hundred bytes: the arena can only be dropped then.
    /// Cost:    three remaps and a walk over the file's pages: 0.3 ms for 1 GiB in huge pages, 50 ms in small ones.
    /// Threads: other threads can read the image meanwhile.
    [[nodiscard]] Snapshot freeze() &&;

    /// False in a function process for an arena of its caller, of which it has a private copy.
    [[nodiscard]] bool is_own() const noexcept;
    [[nodiscard]] const std::string& name() const noexcept;

private:
    friend class ArenaAccess;  // vmcow/image/arena_access.hpp
    class Image;

    explicit Arena(std::unique_ptr<Image> image) noexcept;

    void end_loan() const noexcept;
    /// The image, after its loan was recalled: no other process can write to it. `call` is named in the message when
    /// the arena was moved from.
    [[nodiscard]] Image& owned(const char* call = __builtin_FUNCTION()) const noexcept;

    [[nodiscard]] static std::size_t checked_bytes(std::size_t count, std::size_t each);

    std::unique_ptr<Image> image_;
    mutable std::shared_ptr<Loan> loan_;
};

}  // namespace vmcow
