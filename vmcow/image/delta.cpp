#include "vmcow/image/delta.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "vmcow/image/fork_lock.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"

namespace vmcow {
namespace {

const std::string kName = "delta";

static_assert(sizeof(PageIndex) == sizeof(std::uint64_t), "the table in the file is an array of PageIndex");

/// Maps a delta to fill it, and keeps it out of forked children: a child with a writable mapping would make the kernel
/// refuse to seal.
int map_for_writing(std::byte* at, std::size_t bytes, int fd) {
    const std::scoped_lock lock(fork_lock());
    const int error = sys::map_file_at(at, bytes, sys::MapMode::shared_write, fd, 0);
    return error != 0 ? error : sys::keep_out_of_children(at, bytes);
}

std::size_t file_bytes_for(PageCount count) {
    return count.bytes() + round_up(count.value * sizeof(PageIndex), kPageBytes);
}

void fill(std::byte* to, std::span<const PageIndex> pages,
          const std::function<const std::byte*(std::size_t)>& content) {
    for (std::size_t i = 0; i < pages.size(); ++i) std::memcpy(to + i * kPageBytes, content(i), kPageBytes);
    std::memcpy(to + pages.size() * kPageBytes, pages.data(), pages.size_bytes());
}

std::uint64_t next_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Delta::Delta(std::shared_ptr<const ReadOnlyImage> image, std::uint64_t offset, std::vector<PageIndex> pages)
    : image_(std::move(image)),
      data_(image_->data() + offset),
      offset_(image_->file_offset() + offset),
      pages_(std::move(pages)),
      id_(next_id()) {
    const bool within = offset <= image_->bytes() && pages_.size() * kPageBytes <= image_->bytes() - offset;
    VMCOW_ASSERT(within && "I3: a page of a delta lies outside of its file");
}

Delta::Delta(StoredPages stored, std::vector<PageIndex> pages)
    : stored_(std::move(stored)),
      data_(stored_->data()),
      offset_(stored_->file_offset()),
      pages_(std::move(pages)),
      id_(next_id()) {
    VMCOW_ASSERT(stored_->is_own() && "I3: a function process would write to its caller's store");
}

Delta::Delta(std::unique_ptr<std::byte[]> memory, std::vector<PageIndex> pages)
    : memory_(std::move(memory)), data_(memory_.get()), offset_(0), pages_(std::move(pages)), id_(next_id()) {}

std::shared_ptr<const Delta> Delta::copy_of(std::span<const PageIndex> pages,
                                            const std::function<const std::byte*(std::size_t)>& content) {
    VMCOW_ASSERT(!pages.empty() && may_ascend(pages) && "a delta has pages, in ascending order");
    const std::size_t bytes = file_bytes_for({pages.size()});
    sys::UniqueFd fd = sys::create_memfd(kName);
    sys::resize_memfd(fd.get(), bytes, kName);
    Slot slot = Slot::reserve(bytes);
    std::byte* const to = slot.address();
    if (const int error = map_for_writing(to, bytes, fd.get()); error != 0) {
        sys::throw_error(error, "map delta of " + std::to_string(pages.size()) + " pages");
    }
    fill(to, pages, content);
    // The kernel refuses to seal while a writable mapping is left, so the mapping goes first. ReadOnlyImage maps the
    // file again, read-only.
    if (const int error = sys::reserve_at(to, bytes); error != 0) sys::throw_error(error, "unmap delta");
    sys::seal_memfd(fd.get(), kName);
    auto image = std::make_shared<const ReadOnlyImage>(std::move(fd), std::move(slot), kName);
    return std::shared_ptr<const Delta>(new Delta(std::move(image), 0, {pages.begin(), pages.end()}));
}

std::shared_ptr<const Delta> Delta::stored_copy_of(std::span<const PageIndex> pages,
                                                   const std::function<const std::byte*(std::size_t)>& content) {
    VMCOW_ASSERT(!pages.empty() && may_ascend(pages) && "a delta has pages, in ascending order");
    StoredPages stored = PageStore::allocate(pages_of(file_bytes_for({pages.size()})));
    fill(stored.data(), pages, content);
    return std::shared_ptr<const Delta>(new Delta(std::move(stored), {pages.begin(), pages.end()}));
}

std::shared_ptr<const Delta> Delta::copy_for_child(std::span<const PageIndex> pages,
                                                   const std::function<const std::byte*(std::size_t)>& content) {
    VMCOW_ASSERT(!pages.empty() && may_ascend(pages) && "a delta has pages, in ascending order");
    if (PageCount{pages.size()} >= kMappedRun) return copy_of(pages, content);
    auto memory = std::make_unique_for_overwrite<std::byte[]>(pages.size() * kPageBytes);
    for (std::size_t i = 0; i < pages.size(); ++i) std::memcpy(memory.get() + i * kPageBytes, content(i), kPageBytes);
    return std::shared_ptr<const Delta>(new Delta(std::move(memory), {pages.begin(), pages.end()}));
}

std::shared_ptr<const Delta> Delta::adopt(sys::UniqueFd fd, PageCount count, PageCount image_pages) {
    if (!fd || !sys::is_immutable(fd.get())) sys::throw_error(EBADMSG, "received delta: not sealed");
    if (count.value == 0 || count > image_pages || sys::file_bytes(fd.get()) != file_bytes_for(count)) {
        sys::throw_error(EBADMSG, "received delta: its size does not fit its page count");
    }
    Slot slot = Slot::reserve(file_bytes_for(count));
    return lying_in(std::make_shared<const ReadOnlyImage>(std::move(fd), std::move(slot), kName), 0, count,
                    image_pages);
}

std::shared_ptr<const Delta> Delta::lying_in(std::shared_ptr<const ReadOnlyImage> image, std::uint64_t offset,
                                             PageCount count, PageCount image_pages) {
    const bool fits = count.value > 0 && count <= image_pages && offset % kPageBytes == 0 && offset < image->bytes() &&
                      file_bytes_for(count) <= image->bytes() - offset;
    if (!fits) sys::throw_error(EBADMSG, "received delta: it does not lie within its file");
    std::vector<PageIndex> pages = checked_table(image->data() + offset + count.bytes(), count, image_pages);
    return std::shared_ptr<const Delta>(new Delta(std::move(image), offset, std::move(pages)));
}

std::shared_ptr<const Delta> Delta::filling(std::shared_ptr<const ReadOnlyImage> image, std::vector<PageIndex> pages) {
    VMCOW_ASSERT(!pages.empty() && may_ascend(pages) && "a delta has pages, in ascending order");
    VMCOW_ASSERT(image->bytes() == pages.size() * kPageBytes && "the image holds these pages and nothing else");
    return std::shared_ptr<const Delta>(new Delta(std::move(image), 0, std::move(pages)));
}

std::vector<PageIndex> Delta::checked_table(const std::byte* table, PageCount count, PageCount image_pages) {
    std::vector<PageIndex> pages(count.value);
    std::memcpy(pages.data(), table, pages.size() * sizeof(PageIndex));
    for (std::size_t i = 0; i < pages.size(); ++i) {
        const bool ascending = i == 0 || pages[i - 1] < pages[i];
        if (!ascending || pages[i].value >= image_pages.value) {
            sys::throw_error(EBADMSG, "received delta: its page table is not ascending within the image");
        }
    }
    return pages;
}

std::shared_ptr<const Delta> Delta::in_own_file(const std::shared_ptr<const Delta>& delta) {
    // A delta in somebody else's file may lie at the beginning of that file, so the size is compared too.
    const bool whole_file = delta->image_ && delta->offset_ == 0 &&
                            delta->image_->bytes() == file_bytes_for({delta->pages().size()}) &&
                            sys::is_immutable(delta->fd());
    if (whole_file) return delta;
    return copy_of(delta->pages(), [&](std::size_t i) { return delta->content({i}); });
}

}  // namespace vmcow
