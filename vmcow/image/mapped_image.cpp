#include "vmcow/image/mapped_image.hpp"

#include <pthread.h>

#include <mutex>
#include <system_error>
#include <utility>

#include "vmcow/image/fork_lock.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

MappedImage* first_image = nullptr;  // under fork_lock

/// In a function process that counts: the changes of images that have ended, or the reason why these are unknown.
struct Ended {
    bool counted = false;
    PageChanges changes;
    std::error_code refusal;
};
Ended ended;  // under fork_lock

}  // namespace

MappedImage::~MappedImage() {
    VMCOW_ASSERT(presence_ == Presence::unlisted && "I7: a child would map an image that is gone");
}

void MappedImage::enlist() {
    const std::scoped_lock lock(fork_lock());
    static const int handled = ::pthread_atfork(nullptr, nullptr, reserve_all_again);
    if (handled != 0) sys::throw_error(handled, "register for forks");
    VMCOW_ASSERT(presence_ == Presence::unlisted && "I7: a child would map an image twice");
    next_ = first_image;
    if (next_ != nullptr) next_->previous_ = this;
    first_image = this;
    presence_ = Presence::mapped;
}

void MappedImage::delist() noexcept {
    const std::scoped_lock lock(fork_lock());
    VMCOW_ASSERT(presence_ != Presence::unlisted && "an image leaves the list once");
    if (ended.counted) note_end();
    if (next_ != nullptr) next_->previous_ = previous_;
    (previous_ != nullptr ? previous_->next_ : first_image) = next_;
    presence_ = Presence::unlisted;
}

void MappedImage::note_end() noexcept {
    try {
        sys::PageScannerOnDemand scanner;
        ended.changes += changes(scanner);
    } catch (const std::system_error& error) {
        ended.refusal = error.code();
    }
}

std::shared_ptr<const Layers> MappedImage::layers_now() const { return nullptr; }

std::optional<PresentImage> MappedImage::present_at(const void* address, std::size_t bytes) {
    const std::scoped_lock lock(fork_lock());
    const auto number = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at); };
    for (const MappedImage* image = first_image; image != nullptr; image = image->next_) {
        const std::span<const std::byte> mapped = image->mapped();
        if (image->presence_ != Presence::mapped) continue;
        if (number(address) - number(mapped.data()) >= mapped.size()) continue;
        const std::size_t offset = number(address) - number(mapped.data());
        if (bytes > mapped.size() - offset) return std::nullopt;
        if (auto layers = image->layers_now()) return PresentImage{std::move(layers), mapped.data()};
    }
    return std::nullopt;
}

void MappedImage::reserve_all_again() noexcept {
    for (MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (image->presence_ == Presence::reserved) continue;
        image->lost_error_ = image->reserve_again();
        image->presence_ = image->lost_error_ == 0 ? Presence::reserved : Presence::lost;
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
        static_cast<void>(sys::best_page_scan());  // asked once here, and not in each child
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
    VMCOW_ASSERT(lock_.owns_lock() && "I7: nothing is prepared for a second fork");
    lock_.release();  // the child's lock is a new one, and nobody holds it
    for (const MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (image->presence_ == MappedImage::Presence::lost) return image->lost_error_;
    }
    for (MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (!image->goes_along()) continue;
        if (const int error = image->map_file_again(); error != 0) return error;
    }
    for (MappedImage* image = first_image; image != nullptr; image = image->next_) {
        if (!image->goes_along()) continue;
        if (const int error = image->compose_again(); error != 0) return error;
        image->presence_ = MappedImage::Presence::mapped;
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
    sys::PageScannerOnDemand scanner;
    for (const MappedImage* image = first_image; image != nullptr; image = image->next_) sum += image->changes(scanner);
    return sum;
}

}  // namespace vmcow
