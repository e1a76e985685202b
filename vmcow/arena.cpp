#include "vmcow/arena.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "vmcow/delta.hpp"
#include "vmcow/fork_lock.hpp"
#include "vmcow/mapped_image.hpp"
#include "vmcow/page_compare.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/memory.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow {
namespace {

/// Chunks are populated this much ahead at the most: large enough that collapsing, which flushes every processor's page
/// lists once a call, does not show; small enough that the memory is still in the cache when it is filled.
constexpr std::size_t kLargestStep = std::size_t{16} << 20;

/// Opens a memfd once more for reading only and puts it in the place of the writable descriptor (I3).
/// Async-signal-safe.
int drop_write_access(int fd) noexcept {
    std::array<char, 32> path{"/proc/self/fd/"};
    char* const digits = path.data() + std::strlen(path.data());
    *std::to_chars(digits, path.data() + path.size() - 1, fd).ptr = '\0';
    const int read_only = ::open(path.data(), O_RDONLY | O_CLOEXEC);
    if (read_only < 0) return errno;
    const int error = ::dup3(read_only, fd, O_CLOEXEC) < 0 ? errno : 0;
    ::close(read_only);
    return error;
}

std::uint64_t next_image_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

class Arena::Image final : public MappedImage {
public:
    explicit Image(ArenaOptions options)
        : options_(std::move(options)),
          fd_(sys::create_memfd(options_.name)),
          slot_(Slot::reserve_up_to(options_.reserve_bytes, kHugeBytes)) {
        enlist();
    }
    explicit Image(DetachedArena detached)
        : options_{.name = std::move(detached.name)},
          fd_(std::move(detached.fd)),
          slot_(Slot::reserve_up_to(std::max(detached.reserve_bytes, detached.extent_bytes),
                                    round_up(std::max<std::uint64_t>(detached.extent_bytes, 1), kHugeBytes))),
          extent_(detached.extent_bytes) {
        capacity_ = checked_file_bytes();
        if (capacity_ > 0) check(map_for_writing(0, capacity_), "map");
        populated_ = capacity_;
        huge_bytes_ = std::min<std::uint64_t>(detached.huge_bytes, capacity_);
        enlist();
    }
    ~Image() override { delist(); }

    DetachedArena detach() && {
        return {.fd = std::move(fd_),
                .extent_bytes = extent_,
                .reserve_bytes = slot_.bytes(),
                .huge_bytes = huge_bytes_,
                .name = options_.name};
    }

    std::byte* allocate(std::size_t bytes, std::size_t alignment, bool populate) {
        VMCOW_ASSERT(std::has_single_bit(alignment) && alignment <= kHugeBytes);
        const std::size_t start = round_up(extent_, alignment);
        if (bytes > slot_.bytes() || start > slot_.bytes() - bytes) {
            sys::throw_error(ENOMEM, "grow image '" + options_.name + "' past the " + std::to_string(slot_.bytes()) +
                                         " bytes reserved for it");
        }
        const std::size_t end = start + bytes;
        const bool piecemeal = populate && extent_ >= kHugeBytes && bytes < step();
        const std::size_t ahead = std::max(end, piecemeal ? round_down(extent_ + step(), kHugeBytes) : 0);
        if (end > capacity_) grow(ahead);
        if (end > populated_) {
            if (populate) make_huge(std::min(ahead, slot_.bytes()));
            populated_ = std::max(populated_, end);
        }
        extent_ = end;
        return slot_.address() + start;
    }

    void make_room(std::size_t bytes) noexcept {
        rlimit limit{};
        ::getrlimit(RLIMIT_FSIZE, &limit);  // past it the kernel would send a signal
        const std::size_t most = std::min<std::size_t>(slot_.bytes(), round_down(limit.rlim_cur, kPageBytes));
        if (most <= extent_) return;
        const std::size_t wanted = bytes < most - extent_ ? round_up(extent_ + bytes, kHugeBytes) : most;
        if (std::min(wanted, most) <= capacity_) return;
        try {
            extend_file(std::min(wanted, most));
        } catch (const std::system_error&) {
            return;  // then there is as much as there was
        }
    }

    void set_extent(std::size_t bytes) {
        VMCOW_ASSERT(bytes >= extent_ && bytes <= capacity_);
        extent_ = bytes;
        populated_ = std::max(populated_, extent_);
    }

    Snapshot freeze() {
        // In a function process the pages that it has written would be gone before the seal is refused.
        if (!writable_) check(EPERM, "seal");
        if (capacity_ == 0) grow(kPageBytes);
        const std::scoped_lock lock(fork_lock());
        const std::size_t bytes = std::max(round_up(extent_, kPageBytes), kPageBytes);
        if (bytes != capacity_) cut(bytes);
        // Sealing is refused while any of this is mapped writable. What takes the place of that mapping does so at
        // once: another thread may be reading.
        check(sys::map_file_under_readers(slot_.address(), bytes, fd_.get(), 0), "protect");
        if (bytes < slot_.bytes()) check(sys::reserve_at(slot_.address() + bytes, slot_.bytes() - bytes), "unmap");
        try {
            sys::seal_memfd(fd_.get(), options_.name);
        } catch (...) {
            check(map_for_writing(0, capacity_), "map");
            throw;
        }
        capacity_ = 0;
        slot_.shrink(bytes);
        auto base = std::make_shared<const ReadOnlyImage>(std::move(fd_), std::move(slot_), options_.name);
        return Snapshot(
            std::make_shared<const Layers>(std::move(base), extent_, std::vector<std::shared_ptr<const Delta>>{}));
    }

    [[nodiscard]] bool is_own() const noexcept { return writable_; }
    [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {slot_.address(), extent_}; }
    [[nodiscard]] std::size_t reserved_bytes() const noexcept { return slot_.bytes(); }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] const std::string& name() const noexcept { return options_.name; }
    [[nodiscard]] std::weak_ptr<const void> liveness() const noexcept { return alive_; }
    [[nodiscard]] int read_only_fd() {
        if (!read_only_fd_) read_only_fd_ = sys::open_file("/proc/self/fd/" + std::to_string(fd_.get()), O_RDONLY);
        return read_only_fd_.get();
    }
    [[nodiscard]] ImagePages pages() const noexcept { return {huge_bytes_, capacity_ - huge_bytes_, collapse_error_}; }
    /// How much is made ready at a time when the image is filled piece by piece.
    [[nodiscard]] std::size_t step() const noexcept {
        return std::min(round_up(extent_ / 4, kHugeBytes), kLargestStep);
    }

private:
    void check(int error, const char* what) const {
        if (error != 0) sys::throw_error(error, std::string(what) + " image '" + options_.name + "'");
    }

    /// Of a file that came from elsewhere. Throws: std::system_error -- EBADMSG.
    [[nodiscard]] std::size_t checked_file_bytes() const {
        if (!sys::is_fillable(fd_.get()))
            sys::throw_error(EBADMSG, "adopt image '" + options_.name + "': not to be filled");
        const std::uint64_t bytes = sys::file_bytes(fd_.get());
        const bool fits = bytes % kPageBytes == 0 && bytes >= extent_ && bytes <= slot_.bytes();
        if (!fits) sys::throw_error(EBADMSG, "adopt image '" + options_.name + "': not of its size");
        return bytes;
    }

    /// Under fork_lock in the caller: a child that was forked between the two calls would keep the file from being
    /// sealed.
    int map(std::size_t from, std::size_t to, sys::MapMode mode) noexcept {
        std::byte* const at = slot_.address() + from;
        if (const int error = sys::map_file_at(at, to - from, mode, fd_.get(), from); error != 0) return error;
        return sys::keep_out_of_children(at, to - from);
    }

    /// A child forked between the two steps of `map` would keep the image writable, which then nobody could seal.
    int map_for_writing(std::size_t from, std::size_t to) {
        const std::scoped_lock lock(fork_lock());
        return map(from, to, sys::MapMode::shared_write);
    }

    /// Takes the end of the file away, which splits a huge page that it lies in.
    void cut(std::size_t capacity) {
        sys::resize_memfd(fd_.get(), capacity, options_.name);
        capacity_ = capacity;
        populated_ = std::min(populated_, capacity);
        huge_bytes_ = std::min<std::uint64_t>(huge_bytes_, round_down(capacity, kHugeBytes));
    }

    static bool is_large(std::size_t extent) noexcept { return extent > kHugeBytes - kPageBytes; }

    void grow(std::size_t extent) {
        constexpr std::size_t kLargestSmall = kHugeBytes - kPageBytes;
        const std::size_t wanted = is_large(extent)
                                       ? round_up(extent, kHugeBytes)
                                       : std::clamp(std::bit_ceil(extent), std::size_t{16} * kPageBytes, kLargestSmall);
        extend_file(std::min(wanted, slot_.bytes()));
    }

    void extend_file(std::size_t capacity) {
        const std::scoped_lock lock(fork_lock());
        if (!writable_) return extend_copy(capacity);
        sys::resize_memfd(fd_.get(), capacity, options_.name);
        if (const int error = map_for_writing(capacity_, capacity); error != 0) {
            sys::resize_memfd(fd_.get(), capacity_, options_.name);
            check(error, "map");
        }
        capacity_ = capacity;
        id_ = next_image_id();
    }

    /// In a function process: behind the private copy of the file there is memory.
    void extend_copy(std::size_t capacity) {
        std::byte* const end = slot_.address() + capacity_;
        check(sys::map_memory_at(end, capacity - capacity_), "map");
        check(sys::keep_out_of_children(end, capacity - capacity_), "map");
        capacity_ = capacity;
    }

    /// Puts what is not in use yet, up to `end`, into huge pages, whole chunks of which the file has.
    void make_huge(std::size_t end) {
        if (!is_large(end) || options_.pages != PagePolicy::automatic || !writable_) return;
        const std::size_t from = round_down(populated_, kHugeBytes);
        const std::size_t to = std::min(round_up(end, kHugeBytes), round_down(capacity_, kHugeBytes));
        if (to <= from) return;
        const std::scoped_lock lock(fork_lock());
        collapse(from, to);
        populated_ = to;
    }

    void collapse(std::size_t from, std::size_t to) noexcept {
        if (collapse_error_ == EINVAL) return;  // this kernel never will
        for (std::size_t at = from; at < to; at += kHugeBytes) {
            // Touched, because only a chunk that has a page can be collapsed; the value is what is there.
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

    int reserve_again() noexcept override { return capacity_ == 0 ? 0 : sys::reserve_hole(slot_.address(), capacity_); }

    /// A function process that forks another one: what it has changed in its private copy goes along as a delta.
    void before_fork() override {
        if (writable_ || !fd_) return;
        const FileCopy file(*this);
        std::vector<PageIndex> changed;
        for (const PageRun& run : private_runs()) {
            for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
                if (std::memcmp(slot_.address() + page.byte_offset(), file.page(page), kPageBytes) != 0)
                    changed.push_back(page);
            }
        }
        if (changed.empty()) return;
        for_child_ = Delta::copy_of(changed, [&](std::size_t i) { return slot_.address() + changed[i].byte_offset(); });
    }

    void forget_fork() noexcept override { for_child_.reset(); }

    int map_file_again() noexcept override {
        if (!fd_) return 0;  // frozen, and about to end
        if (writable_) {
            writable_ = false;
            file_bytes_ = capacity_;
            if (const int error = drop_write_access(fd_.get()); error != 0) return error;
        }
        if (file_bytes_ > 0) {
            if (const int error = map(0, file_bytes_, sys::MapMode::private_write); error != 0) return error;
        }
        if (capacity_ == file_bytes_) return 0;
        std::byte* const end = slot_.address() + file_bytes_;
        if (const int error = sys::map_memory_at(end, capacity_ - file_bytes_); error != 0) return error;
        return sys::keep_out_of_children(end, capacity_ - file_bytes_);
    }

    int compose_again() noexcept override {
        std::swap(inherited_, for_child_);  // nothing is freed here (I7)
        if (!inherited_) return 0;
        const std::span<const PageIndex> pages = inherited_->pages();
        for (std::size_t i = 0; i < pages.size(); ++i) {
            std::memcpy(slot_.address() + pages[i].byte_offset(), inherited_->content({i}), kPageBytes);
        }
        return 0;
    }

    [[nodiscard]] WritableRange writable() const noexcept override {
        return {reinterpret_cast<std::uintptr_t>(slot_.address()), capacity_, {}};
    }

    /// In a function process: the file, as it is without what was changed here; zeros behind it.
    class FileCopy {
    public:
        explicit FileCopy(const Image& image) : slot_(Slot::reserve(image.capacity_)) {
            int error = 0;
            if (image.file_bytes_ > 0) {
                error =
                    sys::map_file_at(slot_.address(), image.file_bytes_, sys::MapMode::read_only, image.fd_.get(), 0);
            }
            if (error == 0 && image.capacity_ > image.file_bytes_) {
                error = sys::map_memory_at(slot_.address() + image.file_bytes_, image.capacity_ - image.file_bytes_);
            }
            image.check(error, "map");
        }
        [[nodiscard]] const std::byte* page(PageIndex page) const noexcept {
            return slot_.address() + page.byte_offset();
        }

    private:
        Slot slot_;
    };

    [[nodiscard]] std::vector<PageRun> private_runs() const {
        std::vector<PageRun> runs;
        sys::PageScanner().private_pages(reinterpret_cast<std::uintptr_t>(slot_.address()), capacity_, runs);
        return runs;
    }

    [[nodiscard]] PageChanges changes() const override {
        if (writable_) return {};
        const std::vector<PageRun> runs = private_runs();
        if (runs.empty()) return {};
        const FileCopy file(*this);
        std::vector<PageRun> placed;
        std::unordered_map<std::uint64_t, const std::byte*> inherited;
        if (inherited_) {
            const std::span<const PageIndex> pages = inherited_->pages();
            for (std::size_t i = 0; i < pages.size(); ++i) {
                placed.push_back({pages[i], {1}});
                inherited.emplace(pages[i].value, inherited_->content({i}));
            }
        }
        const auto before = [&](PageIndex page) {
            const auto found = inherited.find(page.value);
            return found == inherited.end() ? file.page(page) : found->second;
        };
        PageChanges changes = compare_runs(subtract(runs, placed), slot_.address(), before);
        // What was copied into place is private from the start: writing there copies no page, but it changes bytes.
        changes.changed_bytes += compare_runs(placed, slot_.address(), before).changed_bytes;
        return changes;
    }

    ArenaOptions options_;
    sys::UniqueFd fd_;
    sys::UniqueFd read_only_fd_;
    std::shared_ptr<const char> alive_ = std::make_shared<const char>();
    std::uint64_t id_ = next_image_id();
    Slot slot_;
    std::size_t extent_ = 0;
    std::size_t capacity_ = 0;    // bytes in the file and mapped
    std::size_t populated_ = 0;   // of these, up to where pages may exist
    bool writable_ = true;        // not in a function process, which has a private copy
    std::size_t file_bytes_ = 0;  // there: of these, those that the file has; memory of its own is behind them
    std::shared_ptr<const Delta> for_child_;
    std::shared_ptr<const Delta> inherited_;  // what its parent, a function process itself, had changed
    std::uint64_t huge_bytes_ = 0;
    int collapse_error_ = 0;
};

Arena::Arena(std::unique_ptr<Image> image) noexcept : image_(std::move(image)) {}
Arena::Arena(ArenaOptions options) : image_(std::make_unique<Image>(std::move(options))) {}
Arena::Arena(Arena&& other) noexcept = default;

Arena& Arena::operator=(Arena&& other) noexcept {
    if (this == &other) return *this;
    if (image_) static_cast<void>(owned());
    image_ = std::move(other.image_);
    loan_ = std::move(other.loan_);
    return *this;
}

Arena::~Arena() {
    if (image_) static_cast<void>(owned());
}

Arena::Image& Arena::owned() const noexcept {
    if (loan_) std::exchange(loan_, nullptr)->call_back();
    return *image_;
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
std::uint64_t Arena::extent_bytes() const noexcept { return image_->bytes().size(); }
std::uint64_t Arena::image_id() const noexcept { return image_->id(); }
std::size_t Arena::mapped_bytes() const noexcept { return image_->capacity(); }
const std::byte* Arena::address() const noexcept { return image_->bytes().data(); }
std::weak_ptr<const void> Arena::liveness() const noexcept { return image_->liveness(); }
int Arena::read_only_fd() const { return image_->read_only_fd(); }
const std::string& Arena::name() const noexcept { return image_->name(); }
std::size_t Arena::reserved_bytes() const noexcept { return image_->reserved_bytes(); }
ImagePages Arena::pages() const noexcept { return image_->pages(); }
int Arena::fd() const noexcept { return owned().fd(); }
void Arena::make_room(std::size_t bytes) noexcept { owned().make_room(bytes); }
void Arena::set_extent(std::uint64_t bytes) noexcept { image_->set_extent(bytes); }

Snapshot Arena::freeze() && {
    Snapshot frozen = owned().freeze();
    image_.reset();
    return frozen;
}

DetachedArena Arena::detach() && {
    VMCOW_ASSERT(owned().is_own());
    DetachedArena detached = std::move(owned()).detach();
    image_.reset();  // with its mapping
    return detached;
}

Arena Arena::adopt(DetachedArena detached) { return Arena(std::make_unique<Image>(std::move(detached))); }

bool Arena::is_own() const noexcept { return image_->is_own(); }

std::size_t Arena::checked_bytes(std::size_t count, std::size_t each) {
    if (count > std::numeric_limits<std::size_t>::max() / each) {
        sys::throw_error(ENOMEM,
                         "allocate " + std::to_string(count) + " objects of " + std::to_string(each) + " bytes");
    }
    return count * each;
}

}  // namespace vmcow
