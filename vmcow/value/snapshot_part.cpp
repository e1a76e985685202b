#include "vmcow/value/snapshot_part.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "vmcow/arena.hpp"
#include "vmcow/diff.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

using Page = std::array<std::byte, kPageBytes>;

/// Fewer pages than this are copied, because a mapping costs as much.
constexpr PageCount kFew{4};

/// The bytes of one page of the whole that belong to a part.
struct Share {
    std::size_t from = 0;
    std::size_t to = kPageBytes;

    [[nodiscard]] bool is_whole() const noexcept { return from == 0 && to == kPageBytes; }
};

Share share_of(PageIndex page, std::uint64_t offset, std::uint64_t bytes) noexcept {
    const std::uint64_t at = page.byte_offset();
    return {offset > at ? offset - at : 0, std::min<std::uint64_t>(offset + bytes - at, kPageBytes)};
}

Snapshot copy_of(const Layers& layers, const std::string& name, std::uint64_t offset, std::uint64_t bytes) {
    const std::size_t skip = offset % kPageBytes;
    const std::uint64_t extent = skip + bytes;
    StoredPages pages = PageStore::allocate(std::max(pages_of(extent), PageCount{1}));
    std::byte* const to = pages.data();
    std::memset(to, 0, skip);
    for (std::uint64_t done = 0; done < bytes;) {
        const std::uint64_t at = offset + done;
        const std::size_t count = std::min<std::uint64_t>(kPageBytes - at % kPageBytes, bytes - done);
        std::memcpy(to + skip + done, layers.page(page_at(at)) + at % kPageBytes, count);
        done += count;
    }
    std::memset(to + extent, 0, pages.count().bytes() - extent);
    const PageCount count = pages.count();
    auto base = std::make_shared<const ReadOnlyImage>(std::move(pages), count, name);
    return Snapshot(std::make_shared<const Layers>(std::move(base), extent));
}

Snapshot image_of(const Snapshot& whole, std::uint64_t offset, std::uint64_t bytes) {
    const Layers& layers = *whole.layers();
    const ReadOnlyImage& base = layers.base();
    const PageIndex first = page_at(offset);
    const PageIndex end = first + pages_of(offset % kPageBytes + bytes);
    const PageIndex base_end = std::min(end, page_at(base.bytes()));
    // Pages of the store lie beside the pages of other images, so a part of them is copied into pages of its own.
    if (base_end < first + kFew || base.stored() != nullptr) return copy_of(layers, whole.name(), offset, bytes);
    const FilePart file{base.file_offset() + first.byte_offset(), (base_end - first).bytes()};
    auto part = std::make_shared<const ReadOnlyImage>(sys::duplicate(base.fd()), Slot::reserve(file.bytes),
                                                      whole.name(), base.state(), file);
    std::vector<PageIndex> pages;
    std::vector<const std::byte*> sources;
    std::deque<Page> cut;
    for (PageIndex page = first; page < end; page = page + PageCount{1}) {
        const Share share = share_of(page, offset, bytes);
        const Layers::Source source = layers.source(page);
        if (share.is_whole() && source.block == 0 && page < base_end) continue;
        pages.push_back({(page - first).value});
        sources.push_back(source.bytes);
        if (share.is_whole()) continue;
        Page& masked = cut.emplace_back();
        std::memcpy(masked.data() + share.from, source.bytes + share.from, share.to - share.from);
        sources.back() = masked.data();
    }
    const std::uint64_t extent = offset % kPageBytes + bytes;
    const Layers alone(std::move(part), extent);
    return Snapshot(alone.with_changes(
        pages, [&](std::size_t i) { return sources[i]; }, Delta::stored_copy_of));
}

std::uint64_t checked_end(const Snapshot& whole, std::uint64_t offset, std::uint64_t bytes) {
    const std::uint64_t extent = whole.extent_bytes();
    if (offset <= extent && bytes <= extent - offset) return offset + bytes;
    throw std::out_of_range("a part of " + std::to_string(bytes) + " bytes from " + std::to_string(offset) +
                            " on is not within the " + std::to_string(extent) + " bytes of image '" + whole.name() +
                            "'");
}

/// Whether no two parts have a byte in common.
bool are_disjoint(std::span<const ChangedPart> parts) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;  // from, to, end excluded
    for (const auto& [part, changed] : parts) {
        if (part.bytes() > 0) ranges.emplace_back(part.offset(), part.offset() + part.bytes());
    }
    std::sort(ranges.begin(), ranges.end());
    const auto overlap = [](const auto& a, const auto& b) { return b.first < a.second; };
    return std::adjacent_find(ranges.begin(), ranges.end(), overlap) == ranges.end();
}

}  // namespace

SnapshotPart::SnapshotPart(Snapshot whole, std::uint64_t offset, std::uint64_t bytes)
    : whole_(std::move(whole)),
      offset_(offset),
      bytes_(checked_end(whole_, offset, bytes) - offset),
      image_(image_of(whole_, offset, bytes)) {}

Snapshot put_back(std::span<const ChangedPart> parts) {
    VMCOW_ASSERT(!parts.empty());
    VMCOW_ASSERT(are_disjoint(parts) && "parts that are put back have no bytes in common");
    const Layers& layers = *parts.front().part.whole().layers();
    struct Change {
        PageIndex page;
        const std::byte* content;
    };
    std::vector<Change> changes;
    std::deque<Page> joined;
    std::vector<std::pair<PageIndex, Page*>> shared;  // copies of the pages of which a part has only some bytes
    const auto own_copy = [&](PageIndex page) -> Page& {
        for (const auto& [index, copy] : shared) {
            if (index == page) return *copy;
        }
        Page& copy = joined.emplace_back();
        std::memcpy(copy.data(), layers.page(page), kPageBytes);
        shared.emplace_back(page, &copy);
        changes.push_back({page, copy.data()});
        return copy;
    };
    for (const ChangedPart& each : parts) {
        const SnapshotPart& part = each.part;
        VMCOW_ASSERT(part.whole().layers().get() == &layers && "parts of one whole");
        const PageIndex first = page_at(part.offset());
        const PageCount count = pages_of(part.skip() + part.bytes());
        for_each_changed_page(part.image(), each.changed, [&](const ChangedPage& changed) {
            if (changed.index.value >= count.value) return;  // behind the part
            const PageIndex page = first + PageCount{changed.index.value};
            const Share share = share_of(page, part.offset(), part.bytes());
            if (share.is_whole()) return changes.push_back({page, each.changed.layers()->page(changed.index)});
            std::memcpy(own_copy(page).data() + share.from, changed.b + share.from, share.to - share.from);
        });
    }
    std::sort(changes.begin(), changes.end(), [](const Change& a, const Change& b) { return a.page < b.page; });
    std::erase_if(changes, [&](const Change& change) {  // I6: the change may have been in bytes of no part
        return std::memcmp(change.content, layers.page(change.page), kPageBytes) == 0;
    });
    std::vector<PageIndex> pages;
    pages.reserve(changes.size());
    for (const Change& change : changes) pages.push_back(change.page);
    if (pages.empty()) return parts.front().part.whole();
    return Snapshot(layers.with_changes(
        pages, [&](std::size_t i) { return changes[i].content; }, Delta::stored_copy_of));
}

}  // namespace vmcow
