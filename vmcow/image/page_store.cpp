#include "vmcow/image/page_store.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/image/fork_lock.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/image/writable_image.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/mmap.hpp"

namespace vmcow {
namespace {

const std::string kName = "pages";

}  // namespace

/// Free runs of pages, found by place and by length.
class FreeRuns {
public:
    /// Takes the first `count` pages of the shortest run that is long enough; false when there is none.
    /// Cost: O(log n).
    bool take(PageCount count, PageIndex& first) {
        const auto found = by_length_.lower_bound({count, PageIndex{0}});
        if (found == by_length_.end()) return false;
        first = found->second;
        const PageCount left = found->first - count;
        by_place_.erase(first);
        by_length_.erase(found);
        if (left > PageCount{}) insert(first + count, left);
        return true;
    }

    /// Adds a run, and joins it with the runs that it touches.
    void give_back(PageIndex first, PageCount count) {
        VMCOW_ASSERT(is_taken(first, count) && "I1: pages that are free already would be handed out twice");
        if (const auto next = by_place_.find(first + count); next != by_place_.end()) {
            count += next->second;
            erase(next);
        }
        const auto after = by_place_.lower_bound(first);
        if (after != by_place_.begin()) {
            const auto previous = std::prev(after);
            if (previous->first + previous->second == first) {
                first = previous->first;
                count += previous->second;
                erase(previous);
            }
        }
        insert(first, count);
    }

private:
    using Places = std::map<PageIndex, PageCount>;

    [[nodiscard]] bool is_taken(PageIndex first, PageCount count) const {
        const auto after = by_place_.lower_bound(first);
        if (after != by_place_.end() && after->first < first + count) return false;
        if (after == by_place_.begin()) return true;
        const auto before = std::prev(after);
        return before->first + before->second <= first;
    }
    void insert(PageIndex first, PageCount count) {
        by_place_.emplace(first, count);
        by_length_.emplace(count, first);
    }
    void erase(Places::const_iterator run) {
        by_length_.erase({run->second, run->first});
        by_place_.erase(run);
    }

    Places by_place_;
    std::set<std::pair<PageCount, PageIndex>> by_length_;
};

/// One memfd of the store, and which of its pages are free. All members are used under fork_lock.
///
/// A function process has a private copy of it, as of an arena: a value that lies here can be edited there.
class StoreChunk final : public WritableImage {
public:
    StoreChunk(std::uint64_t id, std::size_t bytes)
        : WritableImage(sys::create_memfd(kName), Slot::reserve(bytes), kName), id_(id), bytes_(bytes) {
        sys::resize_memfd(fd_.get(), bytes, kName);
        check(map_for_writing(0, bytes), "map");
        capacity_ = bytes;
        constexpr int kSeals = F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
        if (::fcntl(fd_.get(), F_ADD_SEALS, kSeals) != 0) sys::throw_errno("seal a chunk of pages");
        free_.give_back(PageIndex{0}, pages_of(bytes_));
    }

    [[nodiscard]] std::byte* data() const noexcept { return slot_.address(); }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] PageCount used() const noexcept { return used_; }
    /// True in a forked child: nothing is handed out of it there.
    [[nodiscard]] bool is_inherited() const noexcept { return inherited_; }

    /// Takes pages from the shortest run of free pages that is long enough; false when there is none.
    bool take(PageCount count, PageIndex& first) {
        if (inherited_ || count.bytes() > bytes_ || !free_.take(count, first)) return false;
        used_ += count;
        make_huge((first + count).byte_offset());
        return true;
    }

    void give_back(PageIndex first, PageCount count) {
        VMCOW_ASSERT(count <= used_ && "I1: pages are given back that nobody has");
        used_ = used_ - count;
        free_.give_back(first, count);
    }

private:
    /// Puts the pages up to `end` that are used for the first time into huge pages. If the kernel refuses, they stay
    /// small, which only their first use notices.
    void make_huge(std::size_t end) noexcept {
        if (end <= huge_) return;
        const std::size_t to = std::min(round_up(end, PageStore::kChunkBytes), bytes_);
        VMCOW_ASSERT(huge_ % kHugeBytes == 0 && to % kHugeBytes == 0 && "whole chunks are collapsed");
        for (std::size_t at = huge_; at < to; at += kHugeBytes) {
            // Only a chunk that has a page can be collapsed.
            *reinterpret_cast<volatile unsigned char*>(data() + at) = 0;
        }
        static_cast<void>(sys::collapse(data() + huge_, to - huge_));
        huge_ = to;
    }

    /// F_SEAL_FUTURE_WRITE leaves nothing but the mapping.
    [[nodiscard]] bool is_writable_by_fd() const noexcept override { return false; }
    int reserve_again() noexcept override {
        inherited_ = true;
        return WritableImage::reserve_again();
    }
    /// Values are passed on by themselves, not with all that lies beside them.
    [[nodiscard]] std::span<const std::byte> mapped() const noexcept override { return {}; }

    std::uint64_t id_;
    std::size_t bytes_;
    FreeRuns free_;
    PageCount used_;
    std::size_t huge_ = 0;  // up to here the chunk was collapsed
    bool inherited_ = false;
};

namespace {

/// Memory for the objects of chunks, side by side. Each forked child writes to all of them, and the first write to a
/// page copies it.
template <class T>
struct SideBySide {
    using value_type = T;

    SideBySide() noexcept = default;
    template <class U>
    explicit SideBySide(const SideBySide<U>& /*other*/) noexcept {}

    [[nodiscard]] T* allocate(std::size_t count) {
        const std::scoped_lock lock(fork_lock());
        return static_cast<T*>(pool().allocate(count * sizeof(T), alignof(T)));
    }
    void deallocate(T* memory, std::size_t count) noexcept {
        const std::scoped_lock lock(fork_lock());
        pool().deallocate(memory, count * sizeof(T), alignof(T));
    }
    bool operator==(const SideBySide& /*other*/) const noexcept { return true; }

private:
    /// Never destroyed: a chunk may outlive every static object.
    static std::pmr::memory_resource& pool() {
        static auto* const resource = new std::pmr::unsynchronized_pool_resource;
        return *resource;
    }
};

/// All chunks. Never destroyed: a delta may outlive every static object.
struct Store {
    static constexpr std::uint64_t kChunkShare = 8;

    static Store& instance() {
        static auto* const store = new Store;
        return *store;
    }

    struct Returned {
        std::shared_ptr<StoreChunk> chunk;
        PageIndex first;
        PageCount count;
    };

    void give_back(const Returned& run) {
        run.chunk->give_back(run.first, run.count);
        if (run.chunk->used() > PageCount{}) return;
        if (run.chunk->bytes() > PageStore::kChunkBytes) {
            std::erase(chunks, run.chunk);
            return;
        }
        keep(PageStore::kSpareChunks);
    }

    /// The size of the next chunk. A chunk is a share of what all chunks hold, so that the number of chunks, and with
    /// it that of descriptors and mappings, grows with the logarithm of what they hold.
    [[nodiscard]] std::size_t next_chunk_bytes(PageCount count) const {
        std::uint64_t held = 0;
        for (const auto& chunk : chunks) held += chunk->bytes();
        const std::uint64_t share = round_down(held / kChunkShare, PageStore::kChunkBytes);
        const std::size_t least = std::max(PageStore::kChunkBytes, round_up(count.bytes(), kHugeBytes));
        return std::max(least, std::min<std::size_t>(share, PageStore::kLargestChunkBytes));
    }

    /// Ends all chunks without a page in use but `spare_chunks`. The oldest ones are kept, so that the pages in use
    /// gather there.
    void keep(std::size_t spare_chunks) {
        std::size_t spare = 0;
        std::erase_if(chunks, [&](const auto& chunk) {
            return chunk->used() == PageCount{} && !chunk->is_inherited() && ++spare > spare_chunks;
        });
    }

    std::vector<std::shared_ptr<StoreChunk>> chunks;
    std::vector<Returned> parked;
    std::size_t pins = 0;
    std::uint64_t next_id = 1;
};

}  // namespace

StoredPages::StoredPages(std::shared_ptr<StoreChunk> chunk, PageIndex first, PageCount count) noexcept
    : chunk_(std::move(chunk)), first_(first), count_(count) {}

StoredPages::StoredPages(StoredPages&& other) noexcept = default;

StoredPages::~StoredPages() {
    if (!chunk_) return;
    const std::scoped_lock lock(fork_lock());
    Store& store = Store::instance();
    Store::Returned run{std::move(chunk_), first_, count_};
    if (store.pins > 0) {
        store.parked.push_back(std::move(run));
    } else {
        store.give_back(run);
    }
}

std::byte* StoredPages::data() const noexcept { return chunk_->data() + first_.byte_offset(); }
int StoredPages::fd() const noexcept { return chunk_->fd(); }
std::uint64_t StoredPages::chunk_id() const noexcept { return chunk_->id(); }
std::uint64_t StoredPages::chunk_bytes() const noexcept { return chunk_->bytes(); }
std::weak_ptr<const void> StoredPages::chunk_liveness() const noexcept { return chunk_; }
bool StoredPages::is_own() const noexcept { return !chunk_->is_inherited(); }

StoredPages PageStore::allocate(PageCount count) {
    VMCOW_ASSERT(count > PageCount{} && "there is a page to hand out");
    const std::scoped_lock lock(fork_lock());
    Store& store = Store::instance();
    PageIndex first;
    for (const auto& chunk : store.chunks) {
        if (chunk->take(count, first)) return {chunk, first, count};
    }
    const std::size_t bytes = store.next_chunk_bytes(count);
    store.chunks.reserve(store.chunks.size() + 1);
    store.chunks.push_back(std::allocate_shared<StoreChunk>(SideBySide<StoreChunk>(), store.next_id++, bytes));
    VMCOW_ASSERT(store.chunks.back()->take(count, first) && "a new chunk has room");
    return {store.chunks.back(), first, count};
}

PageStore::Pin::Pin() noexcept {
    const std::scoped_lock lock(fork_lock());
    ++Store::instance().pins;
}

PageStore::Pin::~Pin() {
    const std::scoped_lock lock(fork_lock());
    Store& store = Store::instance();
    VMCOW_ASSERT(store.pins > 0 && "I1: pages that a child reads would be handed out again");
    if (--store.pins > 0) return;
    for (const Store::Returned& run : store.parked) store.give_back(run);
    store.parked.clear();
}

void PageStore::trim() noexcept {
    const std::scoped_lock lock(fork_lock());
    Store::instance().keep(1);
}

std::uint64_t PageStore::held_bytes() noexcept {
    const std::scoped_lock lock(fork_lock());
    std::uint64_t sum = 0;
    for (const auto& chunk : Store::instance().chunks) sum += chunk->bytes();
    return sum;
}

std::uint64_t PageStore::used_bytes() noexcept {
    const std::scoped_lock lock(fork_lock());
    PageCount sum;
    for (const auto& chunk : Store::instance().chunks) sum += chunk->used();
    return sum.bytes();
}

}  // namespace vmcow
