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

ReadOnlyImage::ReadOnlyImage(sys::UniqueFd fd, Slot slot, std::string name, FileState state)
    : id_(next_id()),
      fd_(std::move(fd)),
      slot_(std::move(slot)),
      bytes_(sys::file_bytes(fd_.get())),
      name_(std::move(name)) {
    VMCOW_ASSERT((state == FileState::lent || sys::is_immutable(fd_.get())) && "I1");
    VMCOW_ASSERT(bytes_ > 0 && bytes_ % kPageBytes == 0 && bytes_ <= slot_.bytes());
    const std::scoped_lock lock(fork_lock());
    if (const int error = map_file_again(); error != 0) sys::throw_error(error, "map image '" + name_ + "'");
    enlist();
}

ReadOnlyImage::~ReadOnlyImage() { delist(); }

int ReadOnlyImage::reserve_again() noexcept { return sys::reserve_hole(slot_.address(), bytes_); }

int ReadOnlyImage::map_file_again() noexcept {
    const int error = sys::map_file_at(slot_.address(), bytes_, sys::MapMode::read_only, fd_.get(), 0);
    return error != 0 ? error : sys::keep_out_of_children(slot_.address(), bytes_);
}

}  // namespace vmcow
