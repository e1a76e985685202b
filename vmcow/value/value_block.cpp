#include "vmcow/value/value_block.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/page_store.hpp"
#include "vmcow/image/read_only_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/units.hpp"

namespace vmcow {
namespace {

/// The largest block from operator new: a larger one fills at least half a page of the store.
constexpr std::size_t kLargestPlain = 2048;

}  // namespace

ValueBlock::ValueBlock() noexcept = default;

ValueBlock::ValueBlock(std::size_t bytes, std::size_t alignment, std::size_t capacity) : bytes_(bytes) {
    const std::size_t wanted = std::max({bytes, capacity, std::size_t{1}});
    VMCOW_ASSERT(wanted <= kLargest && alignment <= kPageBytes);
    if (wanted <= kLargestPlain && alignment <= kPlainAlignment) {
        data_ = static_cast<std::byte*>(::operator new(wanted));
        capacity_ = wanted;
    } else {
        stored_ = std::make_unique<StoredPages>(PageStore::allocate(pages_of(wanted)));
        data_ = stored_->data();
        capacity_ = stored_->count().bytes();
    }
    std::memset(data_, 0, bytes_);
}

ValueBlock::ValueBlock(std::span<const std::byte> bytes, std::size_t alignment)
    : ValueBlock(0, alignment, bytes.size()) {
    bytes_ = bytes.size();
    if (!bytes.empty()) std::memcpy(data_, bytes.data(), bytes.size());
}

ValueBlock::ValueBlock(ValueBlock&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      capacity_(std::exchange(other.capacity_, 0)),
      stored_(std::move(other.stored_)) {}

ValueBlock& ValueBlock::operator=(ValueBlock&& other) noexcept {
    if (this == &other) return *this;
    release();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    stored_ = std::move(other.stored_);
    return *this;
}

ValueBlock::~ValueBlock() { release(); }

void ValueBlock::release() noexcept {
    if (!stored_) ::operator delete(data_);
    stored_.reset();
    data_ = nullptr;
}

/// Half as much again, so that a value that is appended to piece by piece is moved only a few times.
std::size_t ValueBlock::capacity_for(std::size_t bytes) noexcept {
    return std::min(kLargest, std::max(bytes, bytes + bytes / 2));
}

void ValueBlock::resize(std::size_t bytes) {
    VMCOW_ASSERT(bytes >= bytes_ && bytes <= kLargest);
    if (bytes > capacity_) {
        ValueBlock longer(0, alignment(), capacity_for(bytes));
        std::memcpy(longer.data_, data_, bytes_);
        longer.bytes_ = bytes_;
        *this = std::move(longer);
    }
    std::memset(data_ + bytes_, 0, bytes - bytes_);
    bytes_ = bytes;
}

Snapshot ValueBlock::freeze(const std::string& name) {
    const auto clear_rest = [this](StoredPages& pages) {
        std::memset(pages.data() + bytes_, 0, pages.count().bytes() - bytes_);
    };
    if (!stored_ || !stored_->is_own()) {
        StoredPages copy = PageStore::allocate(std::max(pages_of(bytes_), PageCount{1}));
        std::memcpy(copy.data(), data_, bytes_);
        clear_rest(copy);
        return stored_image(std::move(copy), bytes_, name);
    }
    clear_rest(*stored_);
    Snapshot frozen = stored_image(std::move(*stored_), bytes_, name);
    stored_.reset();
    data_ = nullptr;
    bytes_ = capacity_ = 0;
    return frozen;
}

Snapshot stored_image(StoredPages pages, std::uint64_t extent_bytes, const std::string& name) {
    VMCOW_ASSERT(pages_of(extent_bytes) <= pages.count() && "an image is not longer than its pages");
    // A block may have more pages than its bytes fill.
    const PageCount count = std::max(pages_of(extent_bytes), PageCount{1});
    auto base = std::make_shared<const ReadOnlyImage>(std::move(pages), count, name);
    return Snapshot(std::make_shared<const Layers>(std::move(base), extent_bytes));
}

}  // namespace vmcow
