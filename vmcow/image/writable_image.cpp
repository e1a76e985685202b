#include "vmcow/image/writable_image.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "vmcow/image/fork_lock.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/page_compare.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow {
namespace {

/// Opens a memfd again for reading only, and puts that in the place of the writable descriptor (I3). Returns 0 or the
/// errno. Async-signal-safe.
int drop_write_access(int fd) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return errno;
    if ((flags & O_ACCMODE) == O_RDONLY) return 0;
    std::array<char, 32> path{"/proc/self/fd/"};
    char* const digits = path.data() + std::strlen(path.data());
    *std::to_chars(digits, path.data() + path.size() - 1, fd).ptr = '\0';
    const int read_only = ::open(path.data(), O_RDONLY | O_CLOEXEC);
    if (read_only < 0) return errno;
    const int error = ::dup3(read_only, fd, O_CLOEXEC) < 0 ? errno : 0;
    ::close(read_only);
    return error;
}

}  // namespace

class WritableImage::FileCopy {
public:
    explicit FileCopy(const WritableImage& image) : slot_(Slot::reserve(image.capacity_)) {
        int error = 0;
        if (image.file_bytes_ > 0) {
            error = sys::map_file_at(slot_.address(), image.file_bytes_, sys::MapMode::read_only, image.fd_.get(), 0);
        }
        if (error == 0 && image.capacity_ > image.file_bytes_) {
            error = sys::map_memory_at(slot_.address() + image.file_bytes_, image.capacity_ - image.file_bytes_);
        }
        image.check(error, "map");
    }
    [[nodiscard]] const std::byte* page(PageIndex page) const noexcept { return slot_.address() + page.byte_offset(); }

private:
    Slot slot_;
};

WritableImage::WritableImage(sys::UniqueFd fd, Slot slot, std::string name)
    : fd_(std::move(fd)), slot_(std::move(slot)), name_(std::move(name)) {
    enlist();
}

WritableImage::~WritableImage() { delist(); }

void WritableImage::check(int error, const char* what) const {
    if (error != 0) sys::throw_error(error, std::string(what) + " image '" + name_ + "'");
}

/// Maps a part of the file. In the caller this is done under fork_lock: a child that was forked between the two calls
/// would keep the file from being sealed.
int WritableImage::map(std::size_t from, std::size_t to, sys::MapMode mode) noexcept {
    std::byte* const at = slot_.address() + from;
    if (const int error = sys::map_file_at(at, to - from, mode, fd_.get(), from); error != 0) return error;
    return sys::keep_out_of_children(at, to - from);
}

int WritableImage::map_for_writing(std::size_t from, std::size_t to) {
    VMCOW_ASSERT(own_ && "I3: a function process would write to its caller's file");
    const std::scoped_lock lock(fork_lock());
    return map(from, to, sys::MapMode::shared_write);
}

void WritableImage::extend_copy(std::size_t capacity) {
    VMCOW_ASSERT(!own_ && "an image that is no copy grows in its file");
    std::byte* const end = slot_.address() + capacity_;
    check(sys::map_memory_at(end, capacity - capacity_), "map");
    check(sys::keep_out_of_children(end, capacity - capacity_), "map");
    capacity_ = capacity;
}

int WritableImage::read_only_fd() const {
    if (!own_) return fd_.get();
    if (!read_only_fd_) read_only_fd_ = sys::open_file("/proc/self/fd/" + std::to_string(fd_.get()), O_RDONLY);
    return read_only_fd_.get();
}

int WritableImage::reserve_again() noexcept {
    return capacity_ == 0 ? 0 : sys::reserve_hole(slot_.address(), capacity_);
}

std::vector<PageRun> WritableImage::private_runs(const sys::PageScanner& scanner) const {
    std::vector<PageRun> runs;
    scanner.private_pages(reinterpret_cast<std::uintptr_t>(slot_.address()), capacity_, runs);
    return runs;
}

std::vector<PageIndex> WritableImage::changed_pages() const {
    const FileCopy file(*this);
    std::vector<PageIndex> changed;
    for (const PageRun& run : private_runs(sys::PageScanner())) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
            if (std::memcmp(slot_.address() + page.byte_offset(), file.page(page), kPageBytes) != 0) {
                changed.push_back(page);
            }
        }
    }
    return changed;
}

std::shared_ptr<const Layers> WritableImage::layers_now() const {
    const std::size_t base_bytes = own_ ? capacity_ : file_bytes_;
    if (base_bytes == 0) return nullptr;
    auto base = std::make_shared<const ReadOnlyImage>(sys::duplicate(read_only_fd()), Slot::reserve(base_bytes), name_,
                                                      FileState::borrowed, FilePart{0, base_bytes});
    const Layers alone(std::move(base), capacity_);
    const std::vector<PageIndex> changed = own_ ? std::vector<PageIndex>{} : changed_pages();
    return alone.with_changes(
        changed, [&](std::size_t i) { return slot_.address() + changed[i].byte_offset(); }, Delta::stored_copy_of);
}

void WritableImage::before_fork() {
    if (own_ || capacity_ == 0 || !fd_) return;
    const std::vector<PageIndex> changed = changed_pages();
    if (changed.empty()) return;
    for_child_ =
        Delta::copy_for_child(changed, [&](std::size_t i) { return slot_.address() + changed[i].byte_offset(); });
}

int WritableImage::map_file_again() noexcept {
    if (own_) {
        own_ = false;
        file_bytes_ = capacity_;
        const int error = is_writable_by_fd() ? drop_write_access(fd_.get()) : 0;
        if (error != 0) return error;
    }
    if (file_bytes_ > 0) {
        if (const int error = map(0, file_bytes_, sys::MapMode::private_write); error != 0) return error;
    }
    if (capacity_ == file_bytes_) return 0;
    std::byte* const end = slot_.address() + file_bytes_;
    if (const int error = sys::map_memory_at(end, capacity_ - file_bytes_); error != 0) return error;
    return sys::keep_out_of_children(end, capacity_ - file_bytes_);
}

int WritableImage::compose_again() noexcept {
    std::swap(inherited_, for_child_);  // nothing is freed here (I7)
    if (!inherited_) return 0;
    const std::span<const PageIndex> pages = inherited_->pages();
    for (std::size_t i = 0; i < pages.size(); ++i) {
        std::memcpy(slot_.address() + pages[i].byte_offset(), inherited_->content({i}), kPageBytes);
    }
    return 0;
}

WritableRange WritableImage::writable() const noexcept {
    const PageCount placed{for_child_ ? for_child_->pages().size() : 0};
    return {reinterpret_cast<std::uintptr_t>(slot_.address()), capacity_, placed};
}

PageChanges WritableImage::changes(sys::PageScannerOnDemand& scanner) const {
    if (own_ || capacity_ == 0) return {};
    const std::vector<PageRun> runs = private_runs(scanner.get());
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
    // A page that was copied into place is private from the start: writing there copies no page, but it changes bytes.
    changes.changed_bytes += compare_runs(placed, slot_.address(), before).changed_bytes;
    return changes;
}

}  // namespace vmcow
