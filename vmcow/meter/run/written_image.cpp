#include "vmcow/meter/run/written_image.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include "vmcow/meter/model/index_set.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/faults.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {
namespace {

static_assert(std::endian::native == std::endian::little, "byte i of a word is bits 8i to 8i+7");

constexpr std::size_t kWordBytes = sizeof(std::uint64_t);
/// The image is filled in steps of this size, so that the pages just allocated are still in the cache.
constexpr std::size_t kFillStep = std::size_t{16} << 20;

/// The word of the image's content at byte `index * 8`.
std::uint64_t content_word(std::uint64_t index) noexcept {
    const std::uint64_t product = (index + 1) * 0x9e3779b97f4a7c15;
    return product ^ (product >> 29);
}

/// Eight bytes of the image's content from byte `offset` on, which need not be a multiple of 8.
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

struct __attribute__((packed, may_alias)) UnalignedWord {
    std::uint64_t value;
};

/// Stores the first `bytes` bytes of `word`, at most 8, and reads nothing: a read of a page that is not present would
/// take one more fault. Sanitizers are off, because the shadow memory of the image would fault too.
__attribute__((no_sanitize("address"), no_sanitize("thread"))) void store(std::byte* to, std::uint64_t word,
                                                                          std::size_t bytes) noexcept {
    if (bytes == kWordBytes) {
        reinterpret_cast<UnalignedWord*>(to)->value = word;
        return;
    }
    for (std::size_t i = 0; i < bytes; ++i) to[i] = static_cast<std::byte>(word >> 8 * i);
}

}  // namespace

WrittenImage make_image(const Workload& workload, PagePolicy pages) {
    Arena arena({.name = "measure", .reserve_bytes = round_up(workload.size_bytes, kHugeBytes), .pages = pages});
    for (std::uint64_t done = 0; done < workload.size_bytes;) {
        const std::size_t step = std::min<std::uint64_t>(kFillStep, workload.size_bytes - done);
        fill({arena.allocate(step, 1), step}, done);
        done += step;
    }
    const ImagePages got = arena.pages();
    return {std::move(arena).freeze(), got};
}

TimedWrites apply(const Workload& workload, std::byte* image, std::uint8_t mark) {
    VMCOW_ASSERT(mark != 0 && "writes that change nothing");
    WriteSequence sequence(workload);
    const std::uint64_t marks = mark * std::uint64_t{0x0101010101010101};
    const std::uint64_t faults_before = sys::fault_counts().minor;
    const auto start = std::chrono::steady_clock::now();
    for (std::uint64_t i = 0; i < workload.writes; ++i) {
        const Write write = sequence.next();
        const std::uint64_t flipped = write.same ? 0 : marks;
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

void warm_up(const Workload& workload, View view) {
    VMCOW_ASSERT(workload.size_bytes <= view.bytes().size() && "writes past the end of the image");
    static_cast<void>(apply(workload, view.bytes().data()));
}

}  // namespace vmcow::meter
