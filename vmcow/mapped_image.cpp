#include "vmcow/mapped_image.hpp"

#include <pthread.h>

#include <mutex>
#include <system_error>

#include "vmcow/fork_lock.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

MappedImage* first_image = nullptr;  // under fork_lock

/// In a function process that counts: what images that have ended had copied, or why that is not known.
struct Ended {
    bool counted = false;
    PageChanges changes;
    std::error_code refusal;
};
Ended ended;  // under fork_lock

}  // namespace

PageChanges& PageChanges::operator+=(const PageChanges& other) {
    copied += other.copied;
    identical += other.identical;
    changed_bytes += other.changed_bytes;
    return *this;
}

MappedImage::~MappedImage() { VMCOW_ASSERT(!enlisted_); }

void MappedImage::enlist() {
    const std::scoped_lock lock(fork_lock());
    static const int handled = ::pthread_atfork(nullptr, nullptr, reserve_all_again);
    if (handled != 0) sys::throw_error(handled, "register for forks");
    next_ = first_image;
    if (next_ != nullptr) next_->previous_ = this;
    first_image = this;
    enlisted_ = true;
}

void MappedImage::delist() noexcept {
    const std::scoped_lock lock(fork_lock());
    if (ended.counted) note_end();
    if (next_ != nullptr) next_->previous_ = previous_;
    (previous_ != nullptr ? previous_->next_ : first_image) = next_;
    enlisted_ = false;
}

void MappedImage::note_end() noexcept {
    try {
        ended.changes += changes();
    } catch (const std::system_error& error) {
        ended.refusal = error.code();
    }
}

void MappedImage::reserve_all_again() noexcept {
    for (MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (image->reserved_) continue;
        image->lost_ = image->reserve_again();
        image->reserved_ = image->lost_ == 0;
    }
}

void abandon_inherited_images() {
    const std::scoped_lock lock(fork_lock());
    first_image = nullptr;
    ended = {};
    Slot::leave_inherited_to_claims();
}

ImagesInFork::ImagesInFork() : lock_(fork_lock()) {
    try {
        for (MappedImage* image = first_image; image != nullptr; image = image->next_) image->before_fork();
    } catch (...) {
        forget();
        throw;
    }
}

ImagesInFork::~ImagesInFork() { forget(); }

void ImagesInFork::forget() noexcept {
    for (MappedImage* image = first_image; image != nullptr; image = image->next_) image->forget_fork();
}

int ImagesInFork::map_again() noexcept {
    lock_.release();  // the child's lock is a new one, and nobody holds it
    for (const MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (image->lost_ != 0) return image->lost_;
    }
    for (MappedImage* image = first_image; image != nullptr; image = image->next_) image->reserved_ = false;
    for (MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (const int error = image->map_file_again(); error != 0) return error;
    }
    for (MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (const int error = image->compose_again(); error != 0) return error;
    }
    ended.counted = true;
    ended.changes = {};
    ended.refusal.clear();
    return 0;
}

std::vector<WritableRange> ImagesInFork::writable() const {
    std::vector<WritableRange> ranges;
    for (const MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (const WritableRange range = image->writable(); range.bytes > 0) ranges.push_back(range);
    }
    return ranges;
}

PageChanges ImagesInFork::changes() const {
    if (ended.refusal) throw std::system_error(ended.refusal, "count the pages of an image that has ended");
    PageChanges sum = ended.changes;
    for (const MappedImage* image = first_image; image != nullptr; image = image->next_) sum += image->changes();
    return sum;
}

}  // namespace vmcow
