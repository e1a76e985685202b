#include "vmcow/arena.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <mutex>
#include <system_error>
#include <utility>

#include "vmcow/image/arena_access.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/fork_lock.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/image/writable_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/held.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"

namespace vmcow {
namespace {

/// At most this much is populated ahead. It is large enough that collapsing, which flushes every processor's page lists
/// once a call, does not show, and small enough that the memory is still in the cache when it is filled.
constexpr std::size_t kLargestStep = std::size_t{16} << 20;

std::uint64_t next_image_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

class Arena::Image final : public WritableImage {
public:
    explicit Image(const ArenaOptions& options)
        : WritableImage(sys::create_memfd(options.name),
                        Slot::reserve(kHugeBytes, room_beyond(options.reserve_bytes, kHugeBytes)), options.name),
          options_(options) {}
    explicit Image(DetachedArena detached)
        : WritableImage(
              std::move(detached.fd),
              Slot::reserve(detached.extent_bytes, room_beyond(detached.reserve_bytes, detached.extent_bytes)),
              detached.name),
          options_{.name = detached.name},
          extent_(detached.extent_bytes) {
        const std::size_t bytes = checked_file_bytes();
        if (!slot_.extend(bytes)) refuse_to_grow(bytes);
        if (bytes > 0) check(map_for_writing(0, bytes), "map");
        capacity_ = bytes;
        populated_ = capacity_;
        huge_bytes_ = std::min<std::uint64_t>(detached.huge_bytes, capacity_);
    }

    /// An image without addresses; `take_over` gives it those of a slot.
    Image(const ArenaOptions& options, std::size_t extent)
        : WritableImage(sys::create_memfd(options.name), Slot(), options.name), options_(options), extent_(extent) {}

    void take_over(Slot& slot) {
        const std::size_t capacity = std::min(file_bytes_for(extent_), slot.bytes());
        sys::resize_memfd(fd_.get(), capacity, options_.name);
        sys::write_all(fd_.get(), std::span<const std::byte>(slot.address(), extent_), options_.name);
        const std::scoped_lock lock(fork_lock());
        check(sys::map_file_at(slot.address(), capacity, sys::MapMode::shared_write, fd_.get(), 0), "map");
        if (const int error = sys::keep_out_of_children(slot.address(), capacity); error != 0) {
            // A private mapping of the file is memory again as it was, and a child may have a copy of it.
            const int again = sys::map_file_at(slot.address(), capacity, sys::MapMode::private_write, fd_.get(), 0);
            VMCOW_ASSERT(again == 0 && "I3: a child would write to its parent's memory");
            check(error, "map");
        }
        slot_ = std::move(slot);
        capacity_ = capacity;
        populated_ = extent_;
    }

    DetachedArena detach() && {
        return {.fd = std::move(fd_),
                .extent_bytes = extent_,
                .reserve_bytes = slot_.most_bytes(),
                .huge_bytes = huge_bytes_,
                .name = options_.name};
    }

    std::byte* allocate(std::size_t bytes, std::size_t alignment, bool populate) {
        VMCOW_ASSERT(std::has_single_bit(alignment) && alignment <= kHugeBytes && "a power of two, at most 2 MiB");
        const std::size_t start = round_up(extent_, alignment);
        const std::size_t most = slot_.most_bytes();
        if (bytes > most || start > most - bytes) {
            sys::throw_error(ENOMEM, "grow image '" + options_.name + "' past the " + std::to_string(most) +
                                         " bytes reserved for it: make it with more reserve_bytes");
        }
        const std::size_t end = start + bytes;
        if (!slot_.extend(end)) refuse_to_grow(end);
        const bool piecemeal = populate && extent_ >= kHugeBytes && bytes < step();
        const std::size_t ahead = std::max(end, piecemeal ? round_down(extent_ + step(), kHugeBytes) : 0);
        if (end > capacity_) grow(ahead);
        if (end > populated_) {
            if (populate) make_huge(std::min(ahead, capacity_));
            populated_ = std::max(populated_, end);
        }
        extent_ = end;
        return slot_.address() + start;
    }

    void make_room(std::size_t bytes) noexcept {
        rlimit limit{};
        ::getrlimit(RLIMIT_FSIZE, &limit);  // no file can be longer: there is room up to the limit
        const std::size_t most = std::min<std::size_t>(reserved_bytes(), round_down(limit.rlim_cur, kPageBytes));
        if (most <= extent_) return;
        const std::size_t wanted = bytes < most - extent_ ? round_up(extent_ + bytes, kHugeBytes) : most;
        if (std::min(wanted, most) <= capacity_ || !slot_.extend(std::min(wanted, most))) return;
        try {
            extend_file(std::min(wanted, most));
        } catch (const std::system_error&) {
            return;  // the room stays as it was
        }
    }

    /// Takes back the part of the file and the addresses that `make_room` has put behind the image, as far as nobody
    /// has written there.
    void give_room_back() noexcept {
        const std::size_t needed = file_bytes_for(extent_);
        if (!is_own() || needed >= capacity_) return;
        const std::scoped_lock lock(fork_lock());
        const std::size_t room = slot_.most_bytes() - std::min(slot_.most_bytes(), round_up(needed, kHugeBytes));
        const std::size_t before = capacity_;
        try {
            cut(needed);
        } catch (const std::system_error&) {
            return;
        }
        // If this fails, a mapping without a file stays behind the image. The image maps over it when it grows again.
        static_cast<void>(sys::reserve_at(slot_.address() + needed, before - needed));
        slot_.shrink(needed, room);
        id_ = next_image_id();
    }

    void set_extent(std::size_t bytes) {
        VMCOW_ASSERT(bytes >= extent_ && bytes <= capacity_ && "I3: a worker would have written beyond the file");
        extent_ = bytes;
        populated_ = std::max(populated_, extent_);
    }

    Snapshot freeze() {
        // A function process is refused first: its written pages would be gone before the kernel refuses to seal.
        if (!is_own()) check(EPERM, "seal");
        if (capacity_ == 0) grow(kPageBytes);
        const std::scoped_lock lock(fork_lock());
        const std::size_t bytes = std::max(round_up(extent_, kPageBytes), kPageBytes);
        if (bytes != capacity_) cut(bytes);
        // The kernel refuses to seal while the file is mapped writable anywhere. The read-only mapping replaces the
        // writable one at once, because another thread may be reading.
        check(sys::map_file_under_readers(slot_.address(), bytes, fd_.get(), 0), "protect");
        try {
            check(sys::keep_out_of_children(slot_.address(), bytes), "keep");
            if (bytes < slot_.bytes()) check(sys::reserve_at(slot_.address() + bytes, slot_.bytes() - bytes), "unmap");
            sys::seal_memfd(fd_.get(), options_.name);
        } catch (...) {
            check(map_for_writing(0, capacity_), "map");
            throw;
        }
        capacity_ = 0;
        slot_.shrink(bytes);
        auto base = std::make_shared<const ReadOnlyImage>(SealedImage{std::move(fd_), std::move(slot_), bytes},
                                                          std::move(options_.name));
        return Snapshot(std::make_shared<const Layers>(std::move(base), extent_));
    }

    using WritableImage::is_own;
    using WritableImage::read_only_fd;
    [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {slot_.address(), extent_}; }
    [[nodiscard]] std::size_t reserved_bytes() const noexcept { return slot_.room_bytes(); }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] const std::string& name() const noexcept { return options_.name; }
    [[nodiscard]] std::weak_ptr<const void> liveness() const noexcept { return alive_; }
    [[nodiscard]] ImagePages pages() const noexcept { return {huge_bytes_, capacity_ - huge_bytes_, collapse_error_}; }
    /// How much is populated at a time when the image is filled piece by piece.
    [[nodiscard]] std::size_t step() const noexcept {
        return std::min(round_up(extent_ / 4, kHugeBytes), kLargestStep);
    }

private:
    [[nodiscard]] static std::size_t room_beyond(std::size_t reserve_bytes, std::size_t bytes) noexcept {
        return reserve_bytes - std::min(reserve_bytes, round_up(bytes, kHugeBytes));
    }

    [[noreturn]] void refuse_to_grow(std::size_t bytes) const {
        sys::throw_error(ENOMEM, "grow image '" + options_.name + "' to " + std::to_string(bytes) +
                                     " bytes: other images have the addresses behind its " +
                                     std::to_string(slot_.room_bytes()) + " bytes; drop or freeze some of them");
    }

    /// The size of a file that came from elsewhere, checked.
    /// Throws: std::system_error -- EBADMSG.
    [[nodiscard]] std::size_t checked_file_bytes() const {
        if (!fd_ || !sys::is_fillable(fd_.get()))
            sys::throw_error(EBADMSG,
                             "adopt image '" + options_.name + "': its file cannot be written, resized and sealed");
        const std::uint64_t bytes = sys::file_bytes(fd_.get());
        const bool fits = bytes % kPageBytes == 0 && bytes >= extent_ && bytes <= slot_.most_bytes();
        if (!fits)
            sys::throw_error(EBADMSG,
                             "adopt image '" + options_.name + "': the size of its file does not fit its extent");
        return bytes;
    }

    /// Takes the end of the file away. A huge page that the new end lies in is split.
    void cut(std::size_t capacity) {
        sys::resize_memfd(fd_.get(), capacity, options_.name);
        capacity_ = capacity;
        populated_ = std::min(populated_, capacity);
        huge_bytes_ = std::min<std::uint64_t>(huge_bytes_, round_down(capacity, kHugeBytes));
    }

    static bool is_large(std::size_t extent) noexcept { return extent > kHugeBytes - kPageBytes; }

    static std::size_t file_bytes_for(std::size_t extent) noexcept {
        constexpr std::size_t kLargestSmall = kHugeBytes - kPageBytes;
        if (is_large(extent)) return round_up(extent, kHugeBytes);
        return std::clamp(std::bit_ceil(extent), std::size_t{16} * kPageBytes, kLargestSmall);
    }

    void grow(std::size_t extent) {
        const std::size_t wanted = file_bytes_for(extent);
        // More may be wanted ahead of use than there is room for.
        static_cast<void>(slot_.extend(std::min(wanted, slot_.most_bytes())));
        extend_file(std::min(wanted, slot_.bytes()));
    }

    void extend_file(std::size_t capacity) {
        const std::scoped_lock lock(fork_lock());
        if (!is_own()) return extend_copy(capacity);
        sys::resize_memfd(fd_.get(), capacity, options_.name);
        if (const int error = map_for_writing(capacity_, capacity); error != 0) {
            sys::resize_memfd(fd_.get(), capacity_, options_.name);
            check(error, "map");
        }
        capacity_ = capacity;
        id_ = next_image_id();
    }

    /// Puts the part of the file up to `end` that is not in use yet into huge pages, in whole chunks that the file has.
    void make_huge(std::size_t end) {
        if (!is_large(end) || options_.pages != PagePolicy::automatic || !is_own()) return;
        const std::size_t from = round_down(populated_, kHugeBytes);
        const std::size_t to = std::min(round_up(end, kHugeBytes), round_down(capacity_, kHugeBytes));
        if (to <= from) return;
        const std::scoped_lock lock(fork_lock());
        collapse(from, to);
        populated_ = to;
    }

    void collapse(std::size_t from, std::size_t to) noexcept {
        VMCOW_ASSERT(from % kHugeBytes == 0 && to % kHugeBytes == 0 && "whole chunks are collapsed");
        if (collapse_error_ == EINVAL) return;  // this kernel cannot collapse
        for (std::size_t at = from; at < to; at += kHugeBytes) {
            // Touches the chunk, because only a chunk that has a page can be collapsed. The byte keeps its value.
            auto* const first = reinterpret_cast<volatile unsigned char*>(slot_.address() + at);
            *first = *first;
        }
        if (sys::collapse(slot_.address() + from, to - from) == 0) {
            huge_bytes_ += to - from;
            return;
        }
        for (std::size_t at = from; at < to; at += kHugeBytes) {
            const int error = sys::collapse(slot_.address() + at, kHugeBytes);
            if (error == 0) {
                huge_bytes_ += kHugeBytes;
            } else {
                collapse_error_ = error;
            }
        }
    }

    ArenaOptions options_;
    std::shared_ptr<const char> alive_ = std::make_shared<const char>();
    std::uint64_t id_ = next_image_id();
    std::size_t extent_ = 0;
    std::size_t populated_ = 0;  // pages may exist up to here
    std::uint64_t huge_bytes_ = 0;
    int collapse_error_ = 0;
};

namespace {
constexpr const char* kType = "vmcow::Arena";
}

Arena::Arena(std::unique_ptr<Image> image) noexcept : image_(std::move(image)) {}
Arena::Arena(ArenaOptions options) : image_(std::make_unique<Image>(options)) {}
Arena::Arena(Arena&& other) noexcept = default;

Arena ArenaAccess::in_place_of(Slot& slot, std::size_t extent_bytes, const ArenaOptions& options) {
    VMCOW_ASSERT(slot.bytes() == kHugeBytes && extent_bytes <= slot.bytes() && "the slot holds one huge page");
    auto image = std::make_unique<Arena::Image>(options, extent_bytes);
    image->take_over(slot);
    return Arena(std::move(image));
}

Arena& Arena::operator=(Arena&& other) noexcept {
    if (this == &other) return *this;
    end_loan();
    image_ = std::move(other.image_);
    loan_ = std::move(other.loan_);
    return *this;
}

Arena::~Arena() { end_loan(); }

void Arena::end_loan() const noexcept {
    if (loan_) std::exchange(loan_, nullptr)->recall();
}

Arena::Image& Arena::owned(const char* call) const noexcept {
    Image& image = sys::held(image_, kType, call);
    if (loan_) {
        end_loan();
        image.give_room_back();
    }
    return image;
}

std::byte* Arena::allocate(std::size_t bytes, std::size_t alignment) {
    return owned().allocate(bytes, alignment, true);
}

std::byte* Arena::allocate_sparse(std::size_t bytes, std::size_t alignment) {
    return owned().allocate(bytes, alignment, false);
}

std::size_t Arena::append(std::span<const std::byte> bytes) {
    const std::size_t offset = owned().bytes().size();
    do {
        const std::size_t count = std::min(bytes.size(), kLargestStep);
        std::byte* const to = owned().allocate(count, 1, true);
        if (count > 0) std::memcpy(to, bytes.data(), count);
        bytes = bytes.subspan(count);
    } while (!bytes.empty());
    return offset;
}

std::span<std::byte> Arena::bytes() noexcept { return owned().bytes(); }
std::span<const std::byte> Arena::bytes() const noexcept { return owned().bytes(); }
std::uint64_t Arena::extent_bytes() const noexcept { return sys::held(image_, kType).bytes().size(); }
const std::string& Arena::name() const noexcept { return sys::held(image_, kType).name(); }
std::size_t Arena::reserved_bytes() const noexcept { return sys::held(image_, kType).reserved_bytes(); }
ImagePages Arena::pages() const noexcept { return sys::held(image_, kType).pages(); }
int Arena::fd() const noexcept { return owned().fd(); }

Snapshot Arena::freeze() && {
    Snapshot frozen = owned().freeze();
    image_.reset();
    return frozen;
}

bool Arena::is_own() const noexcept { return sys::held(image_, kType).is_own(); }

std::size_t Arena::checked_bytes(std::size_t count, std::size_t each) {
    if (count > std::numeric_limits<std::size_t>::max() / each) {
        sys::throw_error(ENOMEM,
                         "allocate " + std::to_string(count) + " objects of " + std::to_string(each) + " bytes");
    }
    return count * each;
}

std::uint64_t ArenaAccess::image_id(const Arena& arena) noexcept { return sys::held(arena.image_, kType).id(); }
const std::byte* ArenaAccess::address(const Arena& arena) noexcept {
    return sys::held(arena.image_, kType).bytes().data();
}
std::size_t ArenaAccess::mapped_bytes(const Arena& arena) noexcept { return sys::held(arena.image_, kType).capacity(); }
int ArenaAccess::read_only_fd(const Arena& arena) { return sys::held(arena.image_, kType).read_only_fd(); }
std::weak_ptr<const void> ArenaAccess::liveness(const Arena& arena) noexcept {
    return sys::held(arena.image_, kType).liveness();
}

void ArenaAccess::make_room(Arena& arena, std::size_t bytes) noexcept { arena.owned().make_room(bytes); }
void ArenaAccess::set_extent(Arena& arena, std::uint64_t bytes) noexcept {
    sys::held(arena.image_, kType).set_extent(bytes);
}
void ArenaAccess::set_loan(Arena& arena, std::shared_ptr<Loan> loan) noexcept { arena.loan_ = std::move(loan); }
std::shared_ptr<Loan> ArenaAccess::take_loan(Arena& arena) noexcept { return std::move(arena.loan_); }

DetachedArena ArenaAccess::detach(Arena&& arena) {
    VMCOW_ASSERT(arena.owned().is_own());
    DetachedArena detached = std::move(arena.owned()).detach();
    arena.image_.reset();  // with its mapping
    return detached;
}

Arena ArenaAccess::adopt(DetachedArena detached) { return Arena(std::make_unique<Arena::Image>(std::move(detached))); }

}  // namespace vmcow
