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

/// A single page in the store has no table, which would take another page.
std::size_t stored_bytes_for(PageCount count) { return count.value == 1 ? kPageBytes : file_bytes_for(count); }

void fill(std::byte* to, std::span<const PageIndex> pages, const std::function<const std::byte*(std::size_t)>& content,
          bool with_table) {
    for (std::size_t i = 0; i < pages.size(); ++i) std::memcpy(to + i * kPageBytes, content(i), kPageBytes);
    if (with_table) std::memcpy(to + pages.size() * kPageBytes, pages.data(), pages.size_bytes());
}

std::uint64_t next_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

/// A delta and its count of references in one piece of memory.
struct Delta::Made final : Delta {
    template <class Kept>
    Made(Kept memory, const std::byte* data, std::span<const PageIndex> pages)
        : Delta(std::move(memory), data, pages) {}

    [[nodiscard]] static std::shared_ptr<const Delta> in_file(File image, std::uint64_t offset,
                                                              std::span<const PageIndex> pages) {
        const bool within = offset <= image->bytes() && pages.size() * kPageBytes <= image->bytes() - offset;
        VMCOW_ASSERT(within && "I3: a page of a delta lies outside of its file");
        const std::byte* const data = image->data() + offset;
        return std::make_shared<const Made>(std::move(image), data, pages);
    }
    [[nodiscard]] static std::shared_ptr<const Delta> in_store(StoredPages stored, std::span<const PageIndex> pages) {
        VMCOW_ASSERT(stored.is_own() && "I3: a function process would write to its caller's store");
        const std::byte* const data = stored.data();
        return std::make_shared<const Made>(std::move(stored), data, pages);
    }
    [[nodiscard]] static std::shared_ptr<const Delta> in_memory(Memory memory, std::span<const PageIndex> pages) {
        const std::byte* const data = memory.get();
        return std::make_shared<const Made>(std::move(memory), data, pages);
    }
};

template <class Kept>
Delta::Delta(Kept memory, const std::byte* data, std::span<const PageIndex> pages)
    : memory_(std::move(memory)), data_(data), pages_(pages.begin(), pages.end()), id_(next_id()) {}

int Delta::fd() const noexcept {
    const StoredPages* const pages = stored();
    return pages != nullptr ? pages->fd() : std::get_if<File>(&memory_)->get()->fd();
}

std::uint64_t Delta::file_offset() const noexcept {
    if (const StoredPages* const pages = stored()) return pages->file_offset();
    const ReadOnlyImage& image = **std::get_if<File>(&memory_);
    return image.file_offset() + static_cast<std::uint64_t>(data_ - image.data());
}

bool Delta::holds_memory() const noexcept {
    const File* const file = std::get_if<File>(&memory_);
    return file == nullptr || ((*file)->state() != FileState::on_disk && (*file)->state() != FileState::borrowed);
}

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
    fill(to, pages, content, true);
    // The kernel refuses to seal while a writable mapping is left, so the mapping goes first. ReadOnlyImage maps the
    // file again, read-only.
    if (const int error = sys::reserve_at(to, bytes); error != 0) sys::throw_error(error, "unmap delta");
    sys::seal_memfd(fd.get(), kName);
    auto image = std::make_shared<const ReadOnlyImage>(std::move(fd), std::move(slot), kName);
    return Made::in_file(std::move(image), 0, pages);
}

std::shared_ptr<const Delta> Delta::stored_copy_of(std::span<const PageIndex> pages,
                                                   const std::function<const std::byte*(std::size_t)>& content) {
    VMCOW_ASSERT(!pages.empty() && may_ascend(pages) && "a delta has pages, in ascending order");
    StoredPages stored = PageStore::allocate(pages_of(stored_bytes_for({pages.size()})));
    fill(stored.data(), pages, content, pages.size() > 1);
    return Made::in_store(std::move(stored), pages);
}

std::shared_ptr<const Delta> Delta::copy_for_child(std::span<const PageIndex> pages,
                                                   const std::function<const std::byte*(std::size_t)>& content) {
    VMCOW_ASSERT(!pages.empty() && may_ascend(pages) && "a delta has pages, in ascending order");
    if (PageCount{pages.size()} >= kMappedRun) return copy_of(pages, content);
    auto memory = std::make_unique_for_overwrite<std::byte[]>(pages.size() * kPageBytes);
    for (std::size_t i = 0; i < pages.size(); ++i) std::memcpy(memory.get() + i * kPageBytes, content(i), kPageBytes);
    return Made::in_memory(std::move(memory), pages);
}

std::shared_ptr<const Delta> Delta::adopt(sys::UniqueFd fd, PageCount count, PageCount image_pages) {
    if (!fd || !sys::is_immutable(fd.get())) sys::throw_error(EBADMSG, "received delta: not sealed");
    if (count.value == 0 || count > image_pages || sys::file_bytes(fd.get()) != file_bytes_for(count)) {
        sys::throw_error(EBADMSG, "received delta: its size does not fit its page count");
    }
    Slot slot = Slot::reserve(file_bytes_for(count));
    auto image = std::make_shared<const ReadOnlyImage>(std::move(fd), std::move(slot), kName);
    const std::vector<PageIndex> pages = checked_table(image->data() + count.bytes(), count, image_pages);
    return Made::in_file(std::move(image), 0, pages);
}

std::shared_ptr<const Delta> Delta::lying_in(std::shared_ptr<const ReadOnlyImage> image, std::uint64_t offset,
                                             PageCount count, PageIndex first, PageCount image_pages) {
    const bool fits = count.value > 0 && count <= image_pages && offset % kPageBytes == 0 && offset < image->bytes() &&
                      stored_bytes_for(count) <= image->bytes() - offset;
    if (!fits) sys::throw_error(EBADMSG, "received delta: it does not lie within its file");
    std::vector<PageIndex> pages{first};
    if (count.value > 1) pages = checked_table(image->data() + offset + count.bytes(), count, image_pages);
    if (pages.front() != first || first.value >= image_pages.value) {
        sys::throw_error(EBADMSG, "received delta: its first page is not within the image");
    }
    return Made::in_file(std::move(image), offset, pages);
}

std::shared_ptr<const Delta> Delta::filling(std::shared_ptr<const ReadOnlyImage> image, std::vector<PageIndex> pages) {
    VMCOW_ASSERT(!pages.empty() && may_ascend(pages) && "a delta has pages, in ascending order");
    VMCOW_ASSERT(image->bytes() == pages.size() * kPageBytes && "the image holds these pages and nothing else");
    return Made::in_file(std::move(image), 0, pages);
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
    const File* const file = std::get_if<File>(&delta->memory_);
    const bool whole_file = file != nullptr && delta->file_offset() == 0 &&
                            (*file)->bytes() == file_bytes_for({delta->pages().size()}) &&
                            sys::is_immutable((*file)->fd());
    if (whole_file) return delta;
    return copy_of(delta->pages(), [&](std::size_t i) { return delta->content({i}); });
}

}  // namespace vmcow
