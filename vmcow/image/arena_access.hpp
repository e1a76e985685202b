#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "vmcow/arena.hpp"
#include "vmcow/sys/fd.hpp"

namespace vmcow {

class Slot;

/// An arena on its way to another process. No process has it mapped.
struct DetachedArena {
    sys::UniqueFd fd;
    std::uint64_t extent_bytes = 0;
    std::uint64_t reserve_bytes = 0;
    std::uint64_t huge_bytes = 0;  ///< of the file, in 2 MiB pages
    std::string name;
};

/// A moved arena that has come back, while the other process may still have it mapped writable. The owner recalls the
/// loan before it reads the arena again (I3).
class Loan {
public:
    virtual ~Loan() = default;
    /// Returns when no other process can write to the arena any more.
    virtual void recall() noexcept = 0;
    /// An address that identifies the holder, for comparisons only.
    [[nodiscard]] virtual const void* holder() const noexcept = 0;
};

/// What of an arena those need, and nobody else, who have another process map it: for reading as long as they wait, for
/// writing until they call it back, or for good.
class ArenaAccess {
public:
    /// An arena of what memory of this process holds, the first `extent_bytes` of `slot`, at the same place: pointers
    /// to it stay valid.
    /// Pre:    `slot` is kHugeBytes long.
    /// Throws: std::system_error -- EMFILE, ENOMEM, ENOSPC; slot and memory are as before.
    [[nodiscard]] static Arena in_place_of(Slot& slot, std::size_t extent_bytes, const ArenaOptions& options);

    /// A number that changes whenever the file behind the image grows, and that no other image has.
    [[nodiscard]] static std::uint64_t image_id(const Arena& arena) noexcept;
    /// Where the image lies, and how many bytes of it can be mapped.
    [[nodiscard]] static const std::byte* address(const Arena& arena) noexcept;
    [[nodiscard]] static std::size_t mapped_bytes(const Arena& arena) noexcept;
    /// A descriptor that cannot be used for writing.
    /// Throws: std::system_error -- EMFILE (it is opened when it is first asked for).
    [[nodiscard]] static int read_only_fd(const Arena& arena);
    /// Something that expires with the image.
    [[nodiscard]] static std::weak_ptr<const void> liveness(const Arena& arena) noexcept;

    /// Extends the file, though not the image, by up to `bytes` that take no memory: another process that has it mapped
    /// can write behind the image then. Less where there is not so much, or a limit (RLIMIT_FSIZE) forbids it.
    static void make_room(Arena& arena, std::size_t bytes) noexcept;
    /// Such a process has written there. Pre: from `extent_bytes()` to `mapped_bytes()`.
    static void set_extent(Arena& arena, std::uint64_t bytes) noexcept;
    /// Notes who has to be called back before the arena is used again, and takes that note away.
    static void set_loan(Arena& arena, std::shared_ptr<Loan> loan) noexcept;
    [[nodiscard]] static std::shared_ptr<Loan> take_loan(Arena& arena) noexcept;

    /// Gives the file away, for another process to `adopt`, which is then the only one that has it.
    /// Pre:  `is_own()`.
    /// Cost: an unmapping; nothing is copied or sealed.
    [[nodiscard]] static DetachedArena detach(Arena&& arena);
    /// Continues in place with an arena that another process has detached. The sizes are checked. That the other
    /// process has kept no mapping and does not shorten the file is trusted; `freeze` does not need that trust.
    /// Throws: std::system_error -- EBADMSG: the file cannot be filled, or does not have the size that it should have;
    ///         ENOMEM.
    /// Cost:   a mapping, and a fault for each 2 MiB that is touched.
    [[nodiscard]] static Arena adopt(DetachedArena detached);
};

}  // namespace vmcow
