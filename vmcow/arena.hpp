#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "vmcow/snapshot.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// Which pages an image is built of.
enum class PagePolicy {
    automatic,  ///< whole 2 MiB chunks in huge pages, what is left over and small images in 4 KiB pages
    small,      ///< 4 KiB pages only
};

struct ArenaOptions {
    std::string name = "arena";
    /// Address space kept free behind the image, into which it grows without moving. Costs no memory.
    std::size_t reserve_bytes = std::size_t{16} << 30;
    PagePolicy pages = PagePolicy::automatic;
};

/// What pages an image got, and why not others (I8).
struct ImagePages {
    std::uint64_t huge_bytes = 0;   ///< in 2 MiB pages
    std::uint64_t small_bytes = 0;  ///< in 4 KiB pages, as far as they exist
    int collapse_error = 0;         ///< the errno with which the kernel last refused a huge page, or 0
};

/// An arena on its way to another process. Nothing of it is mapped where it comes from, nor yet anywhere else.
struct DetachedArena {
    sys::UniqueFd fd;
    std::uint64_t extent_bytes = 0;
    std::uint64_t reserve_bytes = 0;
    std::uint64_t huge_bytes = 0;  ///< of the file, in 2 MiB pages
    std::string name;
};

/// Somebody in another process who may still have an arena mapped and writable that was moved there and back. It is
/// called back before the owner looks at the arena again (I3).
class Loan {
public:
    virtual ~Loan() = default;
    /// Returns when nobody else can write any more.
    virtual void call_back() noexcept = 0;
    /// Who it is: an address to compare with.
    [[nodiscard]] virtual const void* holder() const noexcept = 0;
};

/// An image that one owner is filling: a memfd mapped shared and writable in a slot of its own.
///
///     slot  |--- extent ---|-- capacity: in the file, zero --|------- reserved -------|
///            what was allocated                               grows without moving
///
/// Fresh chunks are touched once per 2 MiB and collapsed, which fills ten times faster and freezes a hundred times
/// faster than 4 KiB pages.
///
/// Threads:    one at a time.
/// After fork: a function process has a private copy at the same address; there it can be read, written and grown, but
///             not frozen (EPERM).
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
    /// Throws: std::system_error -- ENOMEM (past the reserve), EFBIG; the arena is as before.
    std::byte* allocate(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t));
    /// The same without touching memory: pages come into being when they are written.
    std::byte* allocate_sparse(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t));
    /// `count` zeroed objects of T, one behind the other.
    template <class T>
    [[nodiscard]] std::span<T> allocate_array(std::size_t count) {
        static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>,
                      "an image holds bytes: T must be trivially copyable and destructible");
        return {reinterpret_cast<T*>(allocate(checked_bytes(count, sizeof(T)), alignof(T))), count};
    }
    /// Copies bytes to the end of the image; returns their offset. Cost: a memcpy, one chunk's worth of pages at a
    /// time.
    std::size_t append(std::span<const std::byte> bytes);

    /// The image so far.
    [[nodiscard]] std::span<std::byte> bytes() noexcept;
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept;
    [[nodiscard]] std::uint64_t extent_bytes() const noexcept;
    /// How large the image can become.
    [[nodiscard]] std::size_t reserved_bytes() const noexcept;
    [[nodiscard]] ImagePages pages() const noexcept;
    /// The memfd being filled; what others map of it changes under them (I1, I2).
    [[nodiscard]] int fd() const noexcept;

    /// Seals the image. It stays mapped at the same address, read-only.
    /// Throws: std::system_error -- EBUSY while another process maps it writable, EPERM in a function process; the
    ///         arena is as before. ENOMEM: the image may be gone.
    /// Cost:    three remaps and a walk over the file's pages: 0.3 ms for 1 GiB in huge pages, 50 ms in small ones.
    /// Threads: others can read the image meanwhile.
    [[nodiscard]] Snapshot freeze() &&;

    /// Gives the file away, for another process to `adopt`: the only one that has it then.
    /// Pre:    `is_own()`. Cost: an unmapping; nothing is copied or sealed.
    [[nodiscard]] DetachedArena detach() &&;
    /// Goes on with an arena that another process has detached, in place. The sizes are checked; that the other one
    /// has kept no mapping and does not cut the file is a matter of trust, which `freeze` does not need.
    /// Throws: std::system_error -- EBADMSG: that is no file to be filled, or shorter than it should be; ENOMEM.
    /// Cost:    a mapping, and a fault for each 2 MiB that is touched.
    [[nodiscard]] static Arena adopt(DetachedArena detached);
    /// False in a function process for an arena of its caller's, of which it has a private copy.
    [[nodiscard]] bool is_own() const noexcept;

    /// For those who map the arena in another process: a number that changes whenever the file behind it grows, and
    /// that no other image has; where it lies and how many bytes can be mapped; a descriptor that cannot be used for
    /// writing; something that expires with the image.
    /// Throws: std::system_error -- EMFILE (the descriptor is opened when it is first asked for).
    [[nodiscard]] std::uint64_t image_id() const noexcept;
    [[nodiscard]] std::size_t mapped_bytes() const noexcept;
    [[nodiscard]] const std::byte* address() const noexcept;
    [[nodiscard]] int read_only_fd() const;
    [[nodiscard]] std::weak_ptr<const void> liveness() const noexcept;
    [[nodiscard]] const std::string& name() const noexcept;
    /// Extends the file, though not the image, by up to `bytes` that take no memory: another process that has it mapped
    /// can write behind the image then. Less where there is not so much, or a limit (RLIMIT_FSIZE) forbids it.
    void make_room(std::size_t bytes) noexcept;
    /// Such a process has written there. Pre: from `extent_bytes()` to `mapped_bytes()`.
    void set_extent(std::uint64_t bytes) noexcept;
    /// Notes who has to be called back before the arena is used again, and takes that note away.
    void lend(std::shared_ptr<Loan> loan) noexcept { loan_ = std::move(loan); }
    [[nodiscard]] std::shared_ptr<Loan> take_loan() noexcept { return std::move(loan_); }

private:
    class Image;

    explicit Arena(std::unique_ptr<Image> image) noexcept;

    /// The image, with nobody else able to write to it.
    [[nodiscard]] Image& owned() const noexcept;

    [[nodiscard]] static std::size_t checked_bytes(std::size_t count, std::size_t each);

    std::unique_ptr<Image> image_;
    mutable std::shared_ptr<Loan> loan_;
};

}  // namespace vmcow
