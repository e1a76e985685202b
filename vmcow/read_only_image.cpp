#include "vmcow/read_only_image.hpp"

#include <atomic>
#include <mutex>
#include <utility>

#include "vmcow/fork_lock.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/memory.hpp"

namespace vmcow {
namespace {

std::uint64_t next_id() noexcept {
    static std::atomic<std::uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

ReadOnlyImage::ReadOnlyImage(sys::UniqueFd fd, Slot slot, std::string name, FileState state, FilePart part)
    : id_(next_id()),
      fd_(std::move(fd)),
      slot_(std::move(slot)),
      offset_(part.offset),
      bytes_(0),
      name_(std::move(name)),
      state_(state),
      sealed_file_(false) {
    const std::uint64_t file_bytes = sys::file_bytes(fd_.get());
    VMCOW_ASSERT(offset_ <= file_bytes && part.bytes <= file_bytes - offset_);
    bytes_ = part.bytes != 0 ? part.bytes : file_bytes - offset_;
    const bool sealed = sys::is_immutable(fd_.get());
    VMCOW_ASSERT((state_ != FileState::immutable || sealed) && "I1");
    VMCOW_ASSERT(bytes_ > 0 && bytes_ % kPageBytes == 0 && offset_ % kPageBytes == 0 && bytes_ <= slot_.bytes());
    sealed_file_ = sealed && offset_ == 0 && bytes_ == file_bytes;
    const std::scoped_lock lock(fork_lock());
    if (const int error = map_file_again(); error != 0) sys::throw_error(error, "map image '" + name_ + "'");
    enlist();
}

ReadOnlyImage::~ReadOnlyImage() { delist(); }

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
    const int error = sys::map_file_under_readers(slot_.address(), bytes_, fd_.get(), offset_);
    return error != 0 ? error : sys::keep_out_of_children(slot_.address(), bytes_);
}

}  // namespace vmcow
