#include "vmcow/meter/compare/engines.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "vmcow/arena.hpp"
#include "vmcow/heap/block_array.hpp"
#include "vmcow/heap/block_table.hpp"
#include "vmcow/heap/list.hpp"
#include "vmcow/image/resident_view.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/meter/compare/compared_value.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/view.hpp"

namespace vmcow::meter {
namespace {

template <class Work>
double seconds_of(Work&& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// NOLINTBEGIN(readability-identifier-naming): the names that containers look for.

/// Counts the bytes that the running engine has allocated.
template <class T>
struct TrackedAllocator {
    using value_type = T;
    using propagate_on_container_move_assignment = std::true_type;
    TrackedAllocator() = default;
    template <class U>
    TrackedAllocator(const TrackedAllocator<U>&) noexcept {}  // NOLINT: allocators convert
    [[nodiscard]] T* allocate(std::size_t count) {
        T* const memory = std::allocator<T>().allocate(count);
        in_use() += count * sizeof(T);
        return memory;
    }
    void deallocate(T* memory, std::size_t count) noexcept {
        in_use() -= count * sizeof(T);
        std::allocator<T>().deallocate(memory, count);
    }
    template <class U>
    bool operator==(const TrackedAllocator<U>&) const noexcept {
        return true;
    }
    [[nodiscard]] static std::uint64_t& in_use() noexcept;
};
// NOLINTEND(readability-identifier-naming)

std::uint64_t& tracked_bytes() noexcept {
    thread_local std::uint64_t bytes = 0;
    return bytes;
}
template <class T>
std::uint64_t& TrackedAllocator<T>::in_use() noexcept {
    return tracked_bytes();
}

constexpr heap::Options kCounted{.counted = true};
using Allocator = TrackedAllocator<std::uint64_t>;

/// `word` with `count` bytes from byte `first` on taken from `value`: the effect of a write that does not cover it.
std::uint64_t merged(std::uint64_t word, std::size_t first, std::size_t count, std::uint64_t value) noexcept {
    std::memcpy(reinterpret_cast<std::byte*>(&word) + first, &value, count);
    return word;
}

// Calls to an engine: `build`, then for each child `hand_over`, `write` and `read` on the child's value, `finish`.

class DeepCopy {
public:
    explicit DeepCopy(const Workload& workload) : workload_(workload) {}
    void build() {
        base_.resize(word_count(workload_));
        for (std::uint64_t i = 0; i < base_.size(); ++i) base_[i] = word_at(i);
    }
    void hand_over() { children_.push_back(base_); }
    void write(const Write& write) {
        auto& child = children_.back();
        for_each_word(write, [&](std::size_t index, std::size_t first, std::size_t count) {
            std::uint64_t value = stored(write, index);
            std::memcpy(reinterpret_cast<std::byte*>(&child[index]) + first,
                        reinterpret_cast<std::byte*>(&value) + first, count);
        });
    }
    [[nodiscard]] std::uint64_t read(std::size_t index) const { return children_.back()[index]; }
    void finish() { copied_ += base_.size() * kWordBytes; }
    [[nodiscard]] std::uint64_t memory_bytes() const { return tracked_bytes(); }
    [[nodiscard]] std::uint64_t copied_bytes() const { return copied_; }

private:
    using Words = std::vector<std::uint64_t, Allocator>;
    const Workload& workload_;
    Words base_;
    std::vector<Words> children_;
    std::uint64_t copied_ = 0;
};

/// The common part of engines on heap structures, which count their own copies.
template <class Structure>
class Shared {
public:
    explicit Shared(const Workload& workload) : workload_(workload) {}
    void hand_over() { children_.push_back(base_); }
    void write(const Write& write) {
        auto& child = children_.back();
        for_each_word(write, [&](std::size_t index, std::size_t first, std::size_t count) {
            const std::uint64_t value = stored(write, index) >> 8 * first;
            child = std::move(child).set(index, merged(count == kWordBytes ? 0 : child[index], first, count, value));
        });
    }
    [[nodiscard]] std::uint64_t read(std::size_t index) const { return children_.back()[index]; }
    void finish() {}
    [[nodiscard]] std::uint64_t memory_bytes() const { return tracked_bytes(); }
    [[nodiscard]] std::uint64_t copied_bytes() const { return heap::counters().copied_bytes; }

protected:
    const Workload& workload_;
    Structure base_;
    std::vector<Structure> children_;
};

class WholeBuffer : public Shared<heap::list<std::uint64_t, kCounted, Allocator>> {
public:
    using Shared::Shared;
    void build() {
        // A list that grows by pushes has room left over, which must not be compared.
        std::vector<std::uint64_t> all(word_count(workload_));
        for (std::uint64_t i = 0; i < all.size(); ++i) all[i] = word_at(i);
        base_ = heap::list<std::uint64_t, kCounted, Allocator>(std::span<const std::uint64_t>(all));
    }
};

using Blocks = heap::block_array<std::uint64_t, kCounted, Allocator>;

class BlockTree : public Shared<Blocks> {
public:
    BlockTree(const Workload& workload, std::size_t leaf_bytes) : Shared(workload), leaf_bytes_(leaf_bytes) {}
    void build() {
        Blocks::builder all({.leaf_bytes = leaf_bytes_});
        for (std::uint64_t i = 0; i < word_count(workload_); ++i) all.push_back(word_at(i));
        base_ = std::move(all).build();
    }

private:
    std::size_t leaf_bytes_;
};

class Deduplicated : public BlockTree {
public:
    explicit Deduplicated(const Workload& workload) : BlockTree(workload, 256) {}
    void hand_over() {
        // The first call looks at all blocks. Later calls look at what has changed since, which is nothing.
        table_.deduplicate(base_, children_.empty() ? nullptr : &base_);
        BlockTree::hand_over();
    }
    void finish() { table_.deduplicate(children_.back(), &base_); }

private:
    heap::block_table<std::uint64_t, kCounted, Allocator> table_;
};

Arena filled_arena(const Workload& workload) {
    const std::size_t words = word_count(workload);
    const std::size_t bytes = words * kWordBytes;
    Arena arena({.name = "compare", .reserve_bytes = round_up(bytes, kHugeBytes)});
    const std::span<std::uint64_t> all = arena.allocate_array<std::uint64_t>(words);
    for (std::uint64_t i = 0; i < words; ++i) all[i] = word_at(i);
    return arena;
}
void write_bytes(std::span<std::byte> image, const Write& write) {
    for_each_word(write, [&](std::size_t index, std::size_t first, std::size_t count) {
        const std::uint64_t value = stored(write, index);
        std::memcpy(image.data() + index * kWordBytes + first, reinterpret_cast<const std::byte*>(&value) + first,
                    count);
    });
}
std::uint64_t read_word(const std::byte* image, std::size_t index) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, image + index * kWordBytes, sizeof word);
    return word;
}

class Pages {
public:
    explicit Pages(const Workload& workload) : workload_(workload) {}
    void build() { snapshot_ = std::make_unique<Snapshot>(filled_arena(workload_).freeze()); }
    void hand_over() { children_.push_back(snapshot_->map_private()); }
    void write(const Write& write) { write_bytes(children_.back().bytes(), write); }
    [[nodiscard]] std::uint64_t read(std::size_t index) const {
        return read_word(children_.back().bytes().data(), index);
    }
    void finish() { copied_ += children_.back().changes().copied.bytes(); }
    [[nodiscard]] std::uint64_t memory_bytes() const { return snapshot_->page_count().bytes() + copied_; }
    [[nodiscard]] std::uint64_t copied_bytes() const { return copied_; }

private:
    const Workload& workload_;
    std::unique_ptr<Snapshot> snapshot_;
    std::vector<View> children_;
    std::uint64_t copied_ = 0;
};

/// Counts the second call: the pages are in place, and the changes of the first call are undone.
class ResidentPages {
public:
    explicit ResidentPages(const Workload& workload) : workload_(workload) {}
    void build() {
        const Snapshot snapshot = filled_arena(workload_).freeze();
        const std::size_t bytes = round_up(snapshot.page_count().bytes(), kHugeBytes);
        view_ =
            std::make_unique<ResidentView>(snapshot, Slot::reserve(bytes), CopyCosts::measure(), snapshot.page_count());
        image_bytes_ = snapshot.page_count().bytes();
        WriteSequence sequence(workload_);
        for (std::uint64_t i = 0; i < workload_.writes; ++i) write(sequence.next());
        view_->find_changes(sys::PageScanner(), true);
        resident_ = view_->resident();
    }
    void hand_over() {
        view_->restore();
        view_->prepare(Snapshot(view_->snapshot()), false);
        static_cast<void>(view_->take_refreshed());
    }
    void write(const Write& write) { write_bytes(view_->bytes(), write); }
    [[nodiscard]] std::uint64_t read(std::size_t index) const { return read_word(view_->bytes().data(), index); }
    void finish() {
        view_->find_changes(sys::PageScanner(), true);
        copied_ += view_->changed().size() * kPageBytes;
        resident_ = view_->resident();
    }
    [[nodiscard]] std::uint64_t memory_bytes() const { return image_bytes_ + resident_.bytes(); }
    [[nodiscard]] std::uint64_t copied_bytes() const { return copied_; }

private:
    const Workload& workload_;
    std::unique_ptr<ResidentView> view_;
    std::uint64_t image_bytes_ = 0;
    PageCount resident_;
    std::uint64_t copied_ = 0;
};

class Moved {
public:
    explicit Moved(const Workload& workload) : workload_(workload) {}
    void build() {
        arena_ = std::make_unique<Arena>(filled_arena(workload_));
        image_ = arena_->bytes();
    }
    void hand_over() {
        arena_ = std::make_unique<Arena>(std::move(*arena_));
        image_ = arena_->bytes();
    }
    void write(const Write& write) { write_bytes(image_, write); }
    [[nodiscard]] std::uint64_t read(std::size_t index) const { return read_word(image_.data(), index); }
    void finish() {}
    [[nodiscard]] std::uint64_t memory_bytes() const { return round_up(image_.size(), kPageBytes); }
    [[nodiscard]] std::uint64_t copied_bytes() const { return 0; }

private:
    const Workload& workload_;
    std::unique_ptr<Arena> arena_;
    std::span<std::byte> image_;
};

/// The seconds that `work` takes for all writes of the workload, without the time to generate the writes.
template <class Work>
double seconds_of_each(const Workload& workload, Work&& work) {
    constexpr std::uint64_t kAtOnce = 4096;
    std::vector<Write> some(std::min(workload.writes, kAtOnce));
    WriteSequence sequence(workload);
    double seconds = 0;
    for (std::uint64_t done = 0; done < workload.writes; done += some.size()) {
        some.resize(std::min<std::uint64_t>(workload.writes - done, kAtOnce));
        for (Write& write : some) write = sequence.next();
        seconds += seconds_of([&] {
            for (const Write& write : some) work(write);
        });
    }
    return seconds;
}

template <class Engine>
EngineFigures run(Engine engine, const Workload& workload, std::uint64_t children) {
    heap::counters() = {};
    EngineFigures figures;
    figures.build_seconds = seconds_of([&] { engine.build(); });
    figures.memory_before_bytes = engine.memory_bytes();
    double writing = 0;
    double reading = 0;
    for (std::uint64_t child = 0; child < children; ++child) {
        figures.hand_over_seconds += seconds_of([&] { engine.hand_over(); });
        writing += seconds_of_each(workload, [&](const Write& write) { engine.write(write); });
        figures.checksum = 0;
        reading += seconds_of_each(workload, [&](const Write& write) {
            figures.checksum = folded(figures.checksum, engine.read(write.offset / kWordBytes));
        });
        engine.finish();
    }
    const double each = 1e9 / static_cast<double>(children) / static_cast<double>(workload.writes);
    figures.write_ns = writing * each;
    figures.read_ns = reading * each;
    figures.hand_over_seconds /= static_cast<double>(children);
    figures.memory_after_bytes = engine.memory_bytes();
    figures.copied_bytes = engine.copied_bytes();
    const auto logical = static_cast<double>(workload.logical_bytes() * children);
    if (logical > 0) figures.amplification = static_cast<double>(*figures.copied_bytes) / logical;
    return figures;
}

/// The leaf size in a name such as "block-256"; 0 for other names.
std::size_t leaf_bytes_of(std::string_view name) {
    for (std::size_t bytes = heap::BlockShape::kLeastLeafBytes; bytes <= heap::BlockShape::kMostLeafBytes; bytes *= 2) {
        if (name == fmt::format("block-{}", bytes)) return bytes;
    }
    return 0;
}

EngineFigures run_named(std::string_view name, const Workload& workload, std::uint64_t children) {
    if (name == "deep-copy") return run(DeepCopy(workload), workload, children);
    if (name == "whole-buffer") return run(WholeBuffer(workload), workload, children);
    if (name == "pages") return run(Pages(workload), workload, children);
    if (name == "pages-resident") return run(ResidentPages(workload), workload, children);
    if (name == "moved") return run(Moved(workload), workload, children);
    if (name == "dedup") return run(Deduplicated(workload), workload, children);
    const std::size_t leaf_bytes = leaf_bytes_of(name);
    VMCOW_ASSERT(leaf_bytes > 0 && "an engine of an unknown name");
    return run(BlockTree(workload, leaf_bytes), workload, children);
}

}  // namespace

double EngineNumbers::total_seconds(const Workload& workload, std::uint64_t children) const noexcept {
    const double each = hand_over_seconds + write_ns * 1e-9 * static_cast<double>(workload.writes);
    return each * static_cast<double>(children);
}

const std::vector<std::string>& engine_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all{"deep-copy", "whole-buffer", "pages", "pages-resident", "moved"};
        for (std::size_t bytes = heap::BlockShape::kLeastLeafBytes; bytes <= heap::BlockShape::kMostLeafBytes;
             bytes *= 2) {
            all.push_back(fmt::format("block-{}", bytes));
        }
        all.emplace_back("dedup");
        return all;
    }();
    return names;
}

EngineFigures run_engine(std::string_view name, const Workload& workload, std::uint64_t children) {
    VMCOW_ASSERT(children > 0 && "a mean over no children");
    EngineFigures figures = run_named(name, workload, children);
    figures.name = name;
    return figures;
}

std::uint64_t engine_memory_needed(std::string_view name, const Workload& workload, std::uint64_t children) {
    const std::uint64_t size = round_up(workload.size_bytes, kPageBytes);
    if (name == "moved") return size;
    if (name == "deep-copy" || name == "whole-buffer") return size * (children + 1);
    // 48: what malloc adds to a block. 1024: the path to a block. Copies are never more than the whole tree.
    const std::size_t leaf = name == "dedup" ? 256 : leaf_bytes_of(name);
    const std::uint64_t block = leaf == 0 ? kPageBytes : leaf;
    const std::uint64_t whole = leaf == 0 ? size : size / leaf * (leaf + 48);
    const std::uint64_t copies = workload.writes * 2 + workload.logical_bytes() / block;
    return whole + std::min(whole, copies * (block + 1024)) * (name == "pages-resident" ? 1 : children);
}

}  // namespace vmcow::meter
