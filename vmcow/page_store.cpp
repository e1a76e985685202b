#include "vmcow/page_store.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "vmcow/fork_lock.hpp"
#include "vmcow/mapped_image.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"
#include "vmcow/sys/memory.hpp"

namespace vmcow {
namespace {

const std::string kName = "pages";

}  // namespace

/// One memfd of the store and which of its pages are free. All members are used under fork_lock.
class StoreChunk final : public MappedImage {
public:
    StoreChunk(std::uint64_t id, std::size_t bytes)
        : id_(id), bytes_(bytes), fd_(sys::create_memfd(kName)), slot_(Slot::reserve(bytes)) {
        sys::resize_memfd(fd_.get(), bytes, kName);
        check(sys::map_file_at(slot_.address(), bytes_, sys::MapMode::shared_write, fd_.get(), 0), "map");
        check(sys::keep_out_of_children(slot_.address(), bytes_), "map");
        constexpr int kSeals = F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
        if (::fcntl(fd_.get(), F_ADD_SEALS, kSeals) != 0) sys::throw_errno("seal a chunk of pages");
        for (std::size_t at = 0; at < bytes_; at += kHugeBytes) {
            *reinterpret_cast<volatile unsigned char*>(data() + at) = 0;  // only what has a page can be collapsed
        }
        static_cast<void>(sys::collapse(data(), bytes_));  // refused: small pages, which only the first use notices
        free_.emplace(PageIndex{0}, pages_of(bytes_));
        enlist();
    }
    ~StoreChunk() override { delist(); }

    [[nodiscard]] std::byte* data() const noexcept { return slot_.address(); }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] PageCount used() const noexcept { return used_; }
    /// In a forked child: its pages can be read, if at all.
    [[nodiscard]] bool is_inherited() const noexcept { return inherited_; }

    /// The first run of free pages that is long enough; false when there is none.
    bool take(PageCount count, PageIndex& first) {
        if (inherited_) return false;
        const auto found =
            std::find_if(free_.begin(), free_.end(), [&](const auto& run) { return run.second >= count; });
        if (found == free_.end()) return false;
        first = found->first;
        const PageCount left = found->second - count;
        free_.erase(found);
        if (left > PageCount{}) free_.emplace(first + count, left);
        used_ += count;
        return true;
    }

    void give_back(PageIndex first, PageCount count) {
        used_ = used_ - count;
        auto [run, inserted] = free_.emplace(first, count);
        if (const auto next = std::next(run); next != free_.end() && run->first + run->second == next->first) {
            run->second += next->second;
            free_.erase(next);
        }
        if (run == free_.begin()) return;
        if (const auto previous = std::prev(run); previous->first + previous->second == run->first) {
            previous->second += run->second;
            free_.erase(run);
        }
    }

private:
    static void check(int error, const char* what) {
        if (error != 0) sys::throw_error(error, std::string(what) + " a chunk of pages");
    }

    int reserve_again() noexcept override {
        inherited_ = true;
        return sys::reserve_hole(data(), bytes_);
    }
    int map_file_again() noexcept override {
        const int error = sys::map_file_at(data(), bytes_, sys::MapMode::read_only, fd_.get(), 0);
        return error != 0 ? error : sys::keep_out_of_children(data(), bytes_);
    }

    std::uint64_t id_;
    std::size_t bytes_;
    sys::UniqueFd fd_;
    Slot slot_;
    std::map<PageIndex, PageCount> free_;
    PageCount used_;
    bool inherited_ = false;
};

namespace {

/// All chunks. Never destroyed: a delta may outlive every static object.
struct Store {
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

    /// The oldest ones are kept, so that what is in use gathers there.
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

StoredPages PageStore::allocate(PageCount count) {
    VMCOW_ASSERT(count > PageCount{});
    const std::scoped_lock lock(fork_lock());
    Store& store = Store::instance();
    PageIndex first;
    for (const auto& chunk : store.chunks) {
        if (chunk->take(count, first)) return {chunk, first, count};
    }
    const std::size_t bytes = std::max(kChunkBytes, round_up(count.bytes(), kHugeBytes));
    store.chunks.reserve(store.chunks.size() + 1);
    store.chunks.push_back(std::make_shared<StoreChunk>(store.next_id++, bytes));
    VMCOW_ASSERT(store.chunks.back()->take(count, first));
    return {store.chunks.back(), first, count};
}

PageStore::Pin::Pin() noexcept {
    const std::scoped_lock lock(fork_lock());
    ++Store::instance().pins;
}

PageStore::Pin::~Pin() {
    const std::scoped_lock lock(fork_lock());
    Store& store = Store::instance();
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
