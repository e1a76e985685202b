#include "vmcow/image/read_only_image.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include "vmcow/image/fork_lock.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"

namespace vmcow {
namespace {

std::uint64_t next_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

ReadOnlyImage::ReadOnlyImage(sys::UniqueFd fd, Slot slot, std::string name, FileState state, FilePart part,
                             ShownBytes shown)
    : ReadOnlyImage(std::make_shared<const sys::UniqueFd>(std::move(fd)), std::move(slot), std::move(name), state, part,
                    shown) {}

ReadOnlyImage::ReadOnlyImage(std::shared_ptr<const sys::UniqueFd> fd, Slot slot, std::string name, FileState state,
                             FilePart part, ShownBytes shown)
    : id_(next_id()),
      fd_(std::move(fd)),
      slot_(std::move(slot)),
      offset_(part.offset),
      bytes_(0),
      name_(std::move(name)),
      state_(state),
      shown_(shown),
      sealed_file_(false) {
    const std::uint64_t file_bytes = sys::file_bytes(fd_->get());
    VMCOW_ASSERT(offset_ <= file_bytes && part.bytes <= file_bytes - offset_ && "the part lies within the file");
    bytes_ = part.bytes != 0 ? part.bytes : file_bytes - offset_;
    const std::optional<bool> sealed = sys::immutability(fd_->get());
    if (state_ == FileState::immutable) {
        if (!sealed) sys::throw_error(EINVAL, "map image '" + name_ + "': its file cannot be sealed");
        VMCOW_ASSERT(*sealed && "I1: the file of an immutable image lacks a seal");
    }
    VMCOW_ASSERT(bytes_ > 0 && bytes_ % kPageBytes == 0 && offset_ % kPageBytes == 0 && "an image has whole pages");
    VMCOW_ASSERT(bytes_ <= slot_.bytes() && "the slot is as large as the image");
    VMCOW_ASSERT(shown_.from < kPageBytes && shown_.from <= shown_.to && "the shown bytes begin in the first page");
    sealed_file_ = sealed.value_or(false) && offset_ == 0 && bytes_ == file_bytes;
    const std::scoped_lock lock(fork_lock());
    if (const int error = map_file_again(); error != 0) sys::throw_error(error, "map image '" + name_ + "'");
    enlist();
}

ReadOnlyImage::ReadOnlyImage(SealedImage&& image, std::string&& name)
    : id_(next_id()),
      fd_(std::make_shared<const sys::UniqueFd>(std::move(image.fd))),
      slot_(std::move(image.slot)),
      offset_(0),
      bytes_(image.bytes),
      name_(std::move(name)),
      state_(FileState::immutable),
      shown_{},
      sealed_file_(true) {
    VMCOW_ASSERT(*fd_ && "I1: a sealed image has lost its file");
    VMCOW_ASSERT(bytes_ > 0 && bytes_ % kPageBytes == 0 && bytes_ <= slot_.bytes() && "it lies in its slot");
    enlist();
}

ReadOnlyImage::ReadOnlyImage(StoredPages&& pages, PageCount count, std::string name)
    : id_(next_id()),
      stored_(std::move(pages)),
      offset_(stored_->file_offset()),
      bytes_(count.bytes()),
      name_(std::move(name)),
      state_(FileState::stored),
      shown_{},
      sealed_file_(false) {
    VMCOW_ASSERT(count > PageCount{} && count <= stored_->count());
}

/// Stored pages are not on the list themselves: they are mapped with their chunk, which is.
ReadOnlyImage::~ReadOnlyImage() {
    if (!stored_) delist();
}

std::vector<std::shared_ptr<const DiskCopy>> ReadOnlyImage::disk_copies() const {
    const std::scoped_lock lock(fork_lock());
    return disk_copies_;
}

void ReadOnlyImage::remember(DiskCopy copy) const {
    auto added = std::make_shared<const DiskCopy>(std::move(copy));
    const std::scoped_lock lock(fork_lock());
    std::erase_if(disk_copies_, [&](const auto& known) { return known->path == added->path; });
    if (disk_copies_.size() == kMaxDiskCopies) disk_copies_.pop_back();
    disk_copies_.insert(disk_copies_.begin(), std::move(added));
}

int ReadOnlyImage::reserve_again() noexcept { return sys::reserve_hole(slot_.address(), bytes_); }

int ReadOnlyImage::map_file_again() noexcept {
    int error = sys::map_file_under_readers(slot_.address(), bytes_, fd_->get(), offset_);
    if (error == 0) error = sys::keep_out_of_children(slot_.address(), bytes_);
    if (error != 0 || shown_.to == 0) return error;
    const PageIndex last = page_at(shown_.to - 1);
    error = hide_rest_of({0});
    return error == 0 && last.value != 0 && last.byte_offset() < bytes_ ? hide_rest_of(last) : error;
}

int ReadOnlyImage::hide_rest_of(PageIndex page) const noexcept {
    const std::uint64_t at = page.byte_offset();
    const std::size_t from = page.value == 0 ? shown_.from : 0;
    const std::size_t to = std::min<std::uint64_t>(shown_.to - at, kPageBytes);
    if (from == 0 && to == kPageBytes) return 0;
    std::byte* const mapped = slot_.address() + at;
    std::array<std::byte, kPageBytes> kept;
    std::memcpy(kept.data(), mapped, kept.size());
    int error = sys::map_memory_at(mapped, kPageBytes);
    if (error != 0) return error;
    std::memcpy(mapped + from, kept.data() + from, to - from);
    error = sys::make_read_only(mapped, kPageBytes);
    return error != 0 ? error : sys::keep_out_of_children(mapped, kPageBytes);
}

std::shared_ptr<const Layers> ReadOnlyImage::layers_now() const {
    auto self = weak_from_this().lock();
    if (!self) return nullptr;
    return std::make_shared<const Layers>(std::move(self), bytes_);
}

}  // namespace vmcow
