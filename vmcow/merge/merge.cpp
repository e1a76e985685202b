#include "vmcow/merge.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <compare>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>

#include "vmcow/diff.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/merge/clipped_image.hpp"
#include "vmcow/merge/page_join.hpp"
#include "vmcow/sys/error.hpp"

namespace vmcow {
namespace {

/// A page that a side changed.
struct Change {
    PageIndex page;
    std::size_t side = 0;
    auto operator<=>(const Change&) const = default;
};

std::string hexadecimal(std::span<const std::byte> bytes) {
    const auto* const first = reinterpret_cast<const unsigned char*>(bytes.data());
    return fmt::format("{:02x}", fmt::join(first, first + bytes.size(), " "));
}

class Merge {
public:
    Merge(const Snapshot& base, const std::vector<Snapshot>& sides, const MergeOptions& options)
        : base_(base), options_(options), extent_bytes_(base.extent_bytes()), join_(options.rules) {
        for (const Snapshot& side : sides) {
            sides_.emplace_back(side);
            extent_bytes_ = std::max(extent_bytes_, side.extent_bytes());
        }
        check_options();
    }

    [[nodiscard]] MergeResult run() {
        collect_changes();
        const Snapshot* const same = find_same();
        if (auto conflict = join_pages()) return {std::move(*conflict), counts_};
        if (same != nullptr) return {*same, counts_};
        Snapshot merged = build();
        return {std::move(merged), counts_};
    }

private:
    /// The changes of one page: `count` of `changes_` from `first` on.
    struct Group {
        std::size_t first = 0;
        std::size_t count = 0;
    };

    void check_options() const;
    void collect_changes();
    [[nodiscard]] const Snapshot* find_same() const;
    [[nodiscard]] std::optional<MergeConflict> join_pages();
    [[nodiscard]] std::optional<PageJoin::Clash> join(const Group& group);
    [[nodiscard]] MergeConflict conflict_of(const Group& group, const PageJoin::Clash& clash) const;
    [[nodiscard]] MergeConflict::Side side_of(const Change& change, std::size_t at, std::size_t bytes) const;
    [[nodiscard]] const std::byte* content_of(const Group& group);
    [[nodiscard]] Snapshot build();

    [[nodiscard]] PageIndex page_of(const Group& group) const { return changes_[group.first].page; }
    [[nodiscard]] const std::byte* page_on(const Change& change) const { return sides_[change.side].page(change.page); }

    ClippedImage base_;
    std::vector<ClippedImage> sides_;
    const MergeOptions& options_;
    std::uint64_t extent_bytes_;
    PageJoin join_;
    std::vector<const std::byte*> joined_sides_;
    std::vector<Change> changes_;  // by page, then by side
    std::vector<Group> result_;    // the pages on which the result differs from the base
    MergeCounts counts_;
};

void Merge::check_options() const {
    const std::size_t names = options_.side_names.size();
    if (names != 0 && names != sides_.size()) {
        throw std::invalid_argument(fmt::format("merge: {} names for {} sides", names, sides_.size()));
    }
    const auto rules = options_.rules.all();
    if (rules.empty() || rules.back().range.end() <= extent_bytes_) return;
    throw std::invalid_argument(fmt::format("merge rule for {}: the image '{}' has {} bytes",
                                            to_string(rules.back().range), base_.snapshot().name(), extent_bytes_));
}

void Merge::collect_changes() {
    for (std::size_t side = 0; side < sides_.size(); ++side) {
        const DiffCounts found =
            for_each_changed_page(base_.snapshot(), sides_[side].snapshot(), [&](const ChangedPage& changed) {
                changes_.push_back({changed.index, side});
            });
        counts_.pages_compared += found.pages_compared;
        counts_.pages_changed.push_back(found.pages_changed);
    }
    std::sort(changes_.begin(), changes_.end());
}

/// The snapshot that is already the result, or nullptr. There can be one where at most one side changed anything.
const Snapshot* Merge::find_same() const {
    const auto fits = [&](const ClippedImage& image) { return image.snapshot().extent_bytes() == extent_bytes_; };
    if (changes_.empty()) {
        if (fits(base_)) return &base_.snapshot();
        return &std::find_if(sides_.begin(), sides_.end(), fits)->snapshot();
    }
    const std::size_t author = changes_.front().side;
    const bool alone =
        std::all_of(changes_.begin(), changes_.end(), [&](const Change& change) { return change.side == author; });
    return alone && fits(sides_[author]) ? &sides_[author].snapshot() : nullptr;
}

/// Finds the pages of the result, or the first conflict. Joined pages are not kept, but joined again when the result is
/// written: that takes one page of memory instead of one for each joined page.
std::optional<MergeConflict> Merge::join_pages() {
    for (Group group; group.first < changes_.size(); group.first += group.count) {
        const auto begin = changes_.begin() + static_cast<std::ptrdiff_t>(group.first);
        const auto end = std::find_if(begin, changes_.end(), [&](const Change& c) { return c.page != begin->page; });
        group.count = static_cast<std::size_t>(end - begin);
        if (group.count == 1) {
            counts_.pages_taken += PageCount{1};
            result_.push_back(group);
            continue;
        }
        if (const auto clash = join(group)) return conflict_of(group, *clash);
        counts_.pages_joined += PageCount{1};
        const bool as_before = std::memcmp(join_.page(), base_.page(page_of(group)), kPageBytes) == 0;
        if (!as_before) result_.push_back(group);
    }
    counts_.elements_joined = join_.elements_joined();
    return std::nullopt;
}

std::optional<PageJoin::Clash> Merge::join(const Group& group) {
    joined_sides_.clear();
    for (std::size_t i = 0; i < group.count; ++i) joined_sides_.push_back(page_on(changes_[group.first + i]));
    return join_.join(page_of(group), base_.page(page_of(group)), joined_sides_);
}

MergeConflict Merge::conflict_of(const Group& group, const PageJoin::Clash& clash) const {
    const Change& first = changes_[group.first + clash.first];
    const Change& second = changes_[group.first + clash.second];
    const std::byte* const base = base_.page(first.page);
    const std::byte* const a = page_on(first);
    const std::byte* const b = page_on(second);
    const std::uint64_t page_offset = first.page.byte_offset();
    const std::size_t limit = std::min(kPageBytes, clash.at + MergeConflict::kMaxBytes);
    std::size_t end = clash.at + 1;
    while (end < limit && a[end] != base[end] && b[end] != base[end] && a[end] != b[end] &&
           options_.rules.within({page_offset + end, 1}).empty()) {
        ++end;
    }
    return {base_.snapshot().name(),
            page_offset + clash.at,
            {base + clash.at, base + end},
            side_of(first, clash.at, end - clash.at),
            side_of(second, clash.at, end - clash.at)};
}

MergeConflict::Side Merge::side_of(const Change& change, std::size_t at, std::size_t bytes) const {
    const auto& names = options_.side_names;
    const std::byte* const from = page_on(change) + at;
    return {
        change.side, names.empty() ? fmt::format("side {}", change.side) : names[change.side], {from, from + bytes}};
}

const std::byte* Merge::content_of(const Group& group) {
    if (group.count == 1) return page_on(changes_[group.first]);
    const auto clash = join(group);
    VMCOW_ASSERT(!clash && "I1: it was joined before");
    return join_.page();
}

Snapshot Merge::build() {
    const Layers& below = *base_.snapshot().layers();
    if (result_.empty()) return Snapshot(below.with_changes({}, {}, Delta::stored_copy_of, extent_bytes_));
    std::vector<PageIndex> pages;
    for (const Group& group : result_) pages.push_back(page_of(group));
    counts_.pages_copied = {pages.size()};
    return Snapshot(below.with_changes(
        pages, [&](std::size_t i) { return content_of(result_[i]); }, Delta::stored_copy_of, extent_bytes_));
}

}  // namespace

std::string MergeConflict::describe() const {
    return fmt::format("image '{}', byte {} in page {}: '{}' has {}, '{}' has {}, the base has {}", image, offset,
                       page_at(offset).value, first.name, hexadecimal(first.bytes), second.name,
                       hexadecimal(second.bytes), hexadecimal(base_bytes));
}

MergeResult::MergeResult(Snapshot merged, MergeCounts counts)
    : outcome_(std::move(merged)), counts_(std::move(counts)) {}

MergeResult::MergeResult(MergeConflict conflict, MergeCounts counts)
    : outcome_(std::move(conflict)), counts_(std::move(counts)) {}

const Snapshot& MergeResult::snapshot() const noexcept {
    const Snapshot* const merged = std::get_if<Snapshot>(&outcome_);
    VMCOW_ASSERT(merged != nullptr && "a merge with a conflict has no snapshot");
    return *merged;
}

const MergeConflict& MergeResult::conflict() const noexcept {
    const MergeConflict* const conflict = std::get_if<MergeConflict>(&outcome_);
    VMCOW_ASSERT(conflict != nullptr && "a merge that went well has no conflict");
    return *conflict;
}

MergeResult merge(const Snapshot& base, const std::vector<Snapshot>& sides, const MergeOptions& options) {
    return Merge(base, sides, options).run();
}

}  // namespace vmcow
