#include "vmcow/measure/run_workload.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "vmcow/measure/index_set.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/faults.hpp"
#include "vmcow/sys/proc_field.hpp"
#include "vmcow/sys/smaps.hpp"
#include "vmcow/units.hpp"
#include "vmcow/view.hpp"

namespace vmcow::measure {
namespace {

static_assert(std::endian::native == std::endian::little, "byte i of a word is bits 8i to 8i+7");

constexpr std::size_t kWordBytes = sizeof(std::uint64_t);
/// The image is filled this much at a time, while what was made ready is still in the cache.
constexpr std::size_t kFillStep = std::size_t{16} << 20;

/// The word of the image's content at `index * 8`.
std::uint64_t content_word(std::uint64_t index) noexcept {
    const std::uint64_t product = (index + 1) * 0x9e3779b97f4a7c15;
    return product ^ (product >> 29);
}

/// Eight bytes of the content from any offset on.
std::uint64_t content_at(std::uint64_t offset) noexcept {
    const std::uint64_t low = content_word(offset / kWordBytes);
    const auto shift = static_cast<unsigned>(offset % kWordBytes) * 8;
    if (shift == 0) return low;
    return low >> shift | content_word(offset / kWordBytes + 1) << (64 - shift);
}

void fill(std::span<std::byte> part, std::uint64_t offset) noexcept {
    for (std::size_t at = 0; at < part.size(); at += kWordBytes) {
        const std::uint64_t word = content_at(offset + at);
        std::memcpy(part.data() + at, &word, std::min(kWordBytes, part.size() - at));
    }
}

Arena filled_arena(const Workload& workload, PagePolicy pages) {
    Arena arena({.name = "measure", .reserve_bytes = round_up(workload.size_bytes, kHugeBytes), .pages = pages});
    for (std::uint64_t done = 0; done < workload.size_bytes;) {
        const std::size_t step = std::min<std::uint64_t>(kFillStep, workload.size_bytes - done);
        fill({arena.allocate(step, 1), step}, done);
        done += step;
    }
    return arena;
}

struct __attribute__((packed, may_alias)) UnalignedWord {
    std::uint64_t value;
};

/// Stores the first `bytes` of `word`, at most 8, and reads nothing: a read of a page not yet there is one more fault.
/// Sanitizers stay out, because the shadow memory of the image would fault too.
__attribute__((no_sanitize("address"), no_sanitize("thread"))) void store(std::byte* to, std::uint64_t word,
                                                                          std::size_t bytes) noexcept {
    if (bytes == kWordBytes) {
        reinterpret_cast<UnalignedWord*>(to)->value = word;
        return;
    }
    for (std::size_t i = 0; i < bytes; ++i) to[i] = static_cast<std::byte>(word >> 8 * i);
}

struct TimedWrites {
    std::uint64_t minor_faults;
    double seconds;
};

TimedWrites apply(const Workload& workload, std::byte* image) noexcept {
    WriteSequence sequence(workload);
    const std::uint64_t faults_before = sys::fault_counts().minor;
    const auto start = std::chrono::steady_clock::now();
    for (std::uint64_t i = 0; i < workload.writes; ++i) {
        const Write write = sequence.next();
        const std::uint64_t flipped = write.same ? 0 : ~std::uint64_t{0};
        for (std::uint64_t at = 0; at < write.bytes; at += kWordBytes) {
            const std::uint64_t offset = write.offset + at;
            store(image + offset, content_at(offset) ^ flipped, std::min(kWordBytes, write.bytes - at));
        }
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    return {sys::fault_counts().minor - faults_before, seconds.count()};
}

std::uint64_t count_distinct(const Workload& workload) {
    IndexSet written(workload.size_bytes);
    WriteSequence sequence(workload);
    std::uint64_t distinct = 0;
    for (std::uint64_t i = 0; i < workload.writes; ++i) {
        const Write write = sequence.next();
        distinct += written.add(write.offset, write.bytes);
    }
    return distinct;
}

/// The writes once for nothing: that brings in the code and the data which they need, so that the next time they fault
/// on the image alone, and the memory for the copies, which a virtual machine that never touched it before pays three
/// times as much for. In a view of its own, so that the page tables it makes are not those that are counted.
void warm_up(const Workload& workload, View view) { static_cast<void>(apply(workload, view.bytes().data())); }

/// More pages than the writes can touch, or all of the image's.
std::uint64_t most_copies(const Workload& workload, std::uint64_t pages) noexcept {
    if (workload.pattern == Pattern::trace) {
        return std::min(workload.logical_bytes() / kPageBytes + 2 * workload.writes, pages);
    }
    const std::uint64_t pages_a_write = (workload.write_bytes - 1) / kPageBytes + 2;
    return workload.writes < pages / pages_a_write ? workload.writes * pages_a_write : pages;
}

std::optional<std::uint64_t> page_table_bytes() { return sys::read_proc_bytes("/proc/self/status", "VmPTE"); }

BlockCounts changed_blocks(const View& view, sys::PageScanMethod page_scan) {
    ChangedBlocks blocks;
    const Snapshot before = view.snapshot();
    for (const PageRun& run : view.copied_runs(page_scan)) {
        for (PageIndex page = run.first; page < run.end(); page = page + PageCount{1}) {
            blocks.add_page(page.byte_offset(), view.bytes().data() + page.byte_offset(), before.page(page));
        }
    }
    return blocks.counts();
}

}  // namespace

WorkloadRun run_workload(const Workload& workload, const RunOptions& options) {
    WorkloadRun run;
    run.page_scan = options.page_scan;
    run.expected = expect_copied(workload);
    Arena arena = filled_arena(workload, options.pages);
    run.image = arena.pages();
    const Snapshot snapshot = std::move(arena).freeze();
    View view = snapshot.map_private();

    run.meter.distinct_bytes = count_distinct(workload);

    warm_up(workload, snapshot.map_private());

    const std::optional<std::uint64_t> tables_before = page_table_bytes();
    const TimedWrites timed = apply(workload, view.bytes().data());
    const std::optional<std::uint64_t> tables_after = page_table_bytes();
    run.minor_faults = timed.minor_faults;
    run.seconds = timed.seconds;

    const auto address = reinterpret_cast<std::uintptr_t>(view.bytes().data());
    const sys::SmapsTotals smaps = sys::read_smaps(address, round_up(workload.size_bytes, kPageBytes));
    run.anonymous_bytes = smaps.anonymous_bytes;
    run.meter.resident_bytes = smaps.resident_bytes;
    if (tables_before && tables_after && *tables_after >= *tables_before) {
        run.meter.page_table_bytes = *tables_after - *tables_before;
    }
    const PageChanges changes = view.changes(options.page_scan);
    run.meter.logical_bytes = workload.logical_bytes();
    run.meter.changed_bytes = changes.changed_bytes;
    run.meter.copied = changes.copied;
    run.meter.identical = changes.identical;
    run.blocks = changed_blocks(view, options.page_scan);
    return run;
}

std::uint64_t memory_needed(const Workload& workload) noexcept {
    const std::uint64_t pages = pages_of(workload.size_bytes).value;
    const std::uint64_t copies = most_copies(workload, pages);
    // Three mappings of the image at eight bytes a page, and as much for the model.
    constexpr std::uint64_t kBytesAPage = 32;
    const std::uint64_t image_bytes = round_up(workload.size_bytes, kHugeBytes);
    return image_bytes + copies * kPageBytes + workload.size_bytes / 8 + pages * kBytesAPage;
}

}  // namespace vmcow::measure
