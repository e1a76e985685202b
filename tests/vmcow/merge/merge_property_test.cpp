// Tests random merges and differences against a model on plain bytes.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "tests/support/images.hpp"
#include "tests/support/warm_page_store.hpp"
#include "vmcow/diff.hpp"
#include "vmcow/image/delta.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/merge.hpp"
#include "vmcow/view.hpp"

namespace {

using namespace vmcow;
using tests::same_bytes;

using Bytes = std::vector<std::byte>;

/// A snapshot, and the bytes that it must have.
struct Modelled {
    Snapshot snapshot;
    Bytes bytes;
};

/// Few values, so that sides often agree. As numbers they are small, negative, large or NaN.
std::byte any_byte() {
    return *rc::gen::element(std::byte{0}, std::byte{1}, std::byte{2}, std::byte{0x3f}, std::byte{0x40},
                             std::byte{0x7f}, std::byte{0x80}, std::byte{0xff});
}

/// Some offsets are hit often, so that sides meet: those at the start and around the end of a page.
std::size_t any_offset(std::size_t bytes) {
    const auto offset = *rc::gen::oneOf(rc::gen::inRange<std::size_t>(0, 80), rc::gen::inRange<std::size_t>(0, bytes),
                                        rc::gen::inRange<std::size_t>(kPageBytes - 40, kPageBytes + 40));
    return std::min(offset, bytes - 1);
}

void edit(Bytes& bytes) {
    const std::size_t at = any_offset(bytes.size());
    const auto length = *rc::gen::weightedOneOf<std::size_t>(
        {{8, rc::gen::inRange<std::size_t>(1, 12)}, {1, rc::gen::inRange<std::size_t>(1, 3 * kPageBytes)}});
    const std::byte value = any_byte();
    for (std::size_t i = at; i < std::min(bytes.size(), at + length); ++i) bytes[i] = value;
}

/// `below` with one more delta: the pages on which `bytes`, which may be longer, differs from it.
Snapshot with_bytes(const Modelled& below, const Bytes& bytes) {
    const auto padded = [](Bytes content, std::size_t extent) {
        content.resize(round_up(extent, kPageBytes));
        return content;
    };
    const Bytes before = padded(below.bytes, bytes.size());
    const Bytes now = padded(bytes, bytes.size());
    std::vector<PageIndex> pages;
    for (PageIndex page; page.byte_offset() < now.size(); page = page + PageCount{1}) {
        const std::size_t at = page.byte_offset();
        if (std::memcmp(before.data() + at, now.data() + at, kPageBytes) != 0) pages.push_back(page);
    }
    const auto content = [&](std::size_t i) { return now.data() + pages[i].byte_offset(); };
    return Snapshot(below.snapshot.layers()->with_changes(pages, content, Delta::stored_copy_of, bytes.size()));
}

/// `below` with `bytes`, written through a view and captured. Pre: `bytes` is as long as `below`.
Snapshot captured(const Modelled& below, const Bytes& bytes) {
    View view(below.snapshot);
    std::memcpy(view.bytes().data(), bytes.data(), bytes.size());
    return view.capture();
}

/// `image` after up to `most` steps of edits, each of which adds a delta.
Modelled any_relative(Modelled image, int most) {
    const int steps = *rc::gen::inRange(0, most + 1);
    for (int step = 0; step < steps; ++step) {
        Bytes bytes = image.bytes;
        const bool grow = *rc::gen::weightedElement<bool>({{6, false}, {1, true}});
        if (grow) bytes.resize(bytes.size() + *rc::gen::inRange<std::size_t>(0, 3 * kPageBytes));
        const int edits = *rc::gen::inRange(1, 12);
        for (int i = 0; i < edits; ++i) edit(bytes);
        const bool by_view = bytes.size() == image.bytes.size() && *rc::gen::arbitrary<bool>();
        Snapshot next = by_view ? captured(image, bytes) : with_bytes(image, bytes);
        image = {std::move(next), std::move(bytes)};
    }
    return image;
}

Modelled any_image() {
    const auto size =
        *rc::gen::element<std::size_t>(1, 100, kPageBytes, kPageBytes + 1, 3 * kPageBytes - 5, 20 * kPageBytes);
    Bytes bytes(size);
    for (int i = 0; i < 4; ++i) edit(bytes);
    Snapshot snapshot = tests::snapshot_of(bytes);
    return any_relative({std::move(snapshot), std::move(bytes)}, 6);
}

std::vector<Modelled> any_sides(const Modelled& base) {
    std::vector<Modelled> sides;
    const int count = *rc::gen::element(1, 2, 2, 3, 4);
    for (int i = 0; i < count; ++i) {
        Modelled side = any_relative(base, 3);
        // This side is no relative any more, so that each of its pages has to be compared.
        if (*rc::gen::inRange(0, 8) == 0) side.snapshot = tests::snapshot_of(side.bytes);
        sides.push_back(std::move(side));
    }
    return sides;
}

std::vector<Snapshot> snapshots_of(const std::vector<Modelled>& sides) {
    std::vector<Snapshot> snapshots;
    for (const Modelled& side : sides) snapshots.push_back(side.snapshot);
    return snapshots;
}

std::vector<MergeRule> any_rules(std::size_t extent) {
    std::vector<MergeRule> rules;
    std::size_t at = 0;
    while (*rc::gen::inRange(0, 5) != 0) {
        const auto element = static_cast<ElementType>(*rc::gen::inRange(0, 10));
        const std::size_t each = element_bytes(element);
        at += *rc::gen::oneOf(rc::gen::inRange<std::size_t>(0, 20),
                              rc::gen::inRange<std::size_t>(kPageBytes - 64, kPageBytes));
        at = round_up(at, each);
        const std::size_t bytes = each * *rc::gen::inRange<std::size_t>(1, 30);
        if (at + bytes > extent) break;
        rules.push_back({{at, bytes}, element, static_cast<MergeBy>(*rc::gen::inRange(0, 4))});
        at += bytes;
    }
    return rules;
}

/// A merge of plain bytes that follows the definition literally.
class Model {
public:
    struct Conflict {
        std::size_t offset;
        std::size_t first;
        std::size_t second;
        bool operator==(const Conflict&) const = default;
    };

    Model(const Modelled& base, const std::vector<Modelled>& sides, const std::vector<MergeRule>& rules)
        : base_(base.bytes), rules_(rules) {
        std::size_t extent = base_.size();
        for (const Modelled& side : sides) extent = std::max(extent, side.bytes.size());
        base_.resize(extent);
        for (const Modelled& side : sides) {
            sides_.push_back(side.bytes);
            sides_.back().resize(extent);
        }
        result_ = base_;
        for (std::size_t at = 0; at < extent && !conflict_;) at += take(at);
    }

    [[nodiscard]] const std::optional<Conflict>& conflict() const { return conflict_; }
    [[nodiscard]] const Bytes& result() const { return result_; }

private:
    /// The sides that changed any of `bytes` bytes from `at` on.
    [[nodiscard]] std::vector<std::size_t> changers(std::size_t at, std::size_t bytes) const {
        std::vector<std::size_t> found;
        for (std::size_t side = 0; side < sides_.size(); ++side) {
            if (std::memcmp(sides_[side].data() + at, base_.data() + at, bytes) != 0) found.push_back(side);
        }
        return found;
    }

    std::size_t take(std::size_t at) {
        for (const MergeRule& rule : rules_) {
            if (at < rule.range.offset || at >= rule.range.end()) continue;
            take_element(rule, at);
            return element_bytes(rule.element);
        }
        const auto changed = changers(at, 1);
        if (changed.empty()) return 1;
        result_[at] = sides_[changed.front()][at];
        for (const std::size_t side : changed) {
            if (sides_[side][at] == result_[at]) continue;
            conflict_ = Conflict{at, changed.front(), side};
            break;
        }
        return 1;
    }

    void take_element(const MergeRule& rule, std::size_t at) {
        const auto changed = changers(at, element_bytes(rule.element));
        if (changed.empty()) return;
        if (changed.size() == 1 || rule.by == MergeBy::last_wins) {
            std::memcpy(result_.data() + at, sides_[changed.back()].data() + at, element_bytes(rule.element));
            return;
        }
        switch (rule.element) {
            case ElementType::i8:
                return join<std::int8_t>(rule.by, at, changed);
            case ElementType::i16:
                return join<std::int16_t>(rule.by, at, changed);
            case ElementType::i32:
                return join<std::int32_t>(rule.by, at, changed);
            case ElementType::i64:
                return join<std::int64_t>(rule.by, at, changed);
            case ElementType::u8:
                return join<std::uint8_t>(rule.by, at, changed);
            case ElementType::u16:
                return join<std::uint16_t>(rule.by, at, changed);
            case ElementType::u32:
                return join<std::uint32_t>(rule.by, at, changed);
            case ElementType::u64:
                return join<std::uint64_t>(rule.by, at, changed);
            case ElementType::f32:
                return join<float>(rule.by, at, changed);
            case ElementType::f64:
                return join<double>(rule.by, at, changed);
        }
    }

    template <class T>
    void join(MergeBy by, std::size_t at, const std::vector<std::size_t>& changed) {
        std::vector<T> values;
        for (const std::size_t side : changed) values.push_back(load<T>(sides_[side], at));
        T value = by == MergeBy::sum ? sum(load<T>(base_, at), values) : extreme(by, values);
        std::memcpy(result_.data() + at, &value, sizeof(value));
    }
    template <class T>
    static T load(const Bytes& bytes, std::size_t at) {
        T value;
        std::memcpy(&value, bytes.data() + at, sizeof(value));
        return value;
    }
    /// Integers are added digit by digit in base 256, so that only the last carry is lost.
    template <class T>
    static T sum(T base, const std::vector<T>& values) {
        if constexpr (std::is_floating_point_v<T>) {
            T changes = 0;
            for (const T value : values) changes += value - base;
            return base + changes;
        } else {
            int carry = 0;
            T result{};
            for (std::size_t digit = 0; digit < sizeof(T); ++digit) {
                const auto of = [&](T value) { return static_cast<int>((value >> (8 * digit)) & 0xff); };
                for (const T value : values) carry += of(value) - of(base);
                carry += of(base);
                const auto low = static_cast<std::uint8_t>(carry & 0xff);
                std::memcpy(reinterpret_cast<std::byte*>(&result) + digit, &low, 1);
                carry = (carry - low) / 256;
            }
            return result;
        }
    }
    template <class T>
    static T extreme(MergeBy by, std::vector<T> values) {
        if constexpr (std::is_floating_point_v<T>) {
            const auto numbers =
                std::stable_partition(values.begin(), values.end(), [](T value) { return !std::isnan(value); });
            if (numbers == values.begin()) return values.front();
            values.erase(numbers, values.end());
        }
        return by == MergeBy::min ? *std::min_element(values.begin(), values.end())
                                  : *std::max_element(values.begin(), values.end());
    }

    Bytes base_;
    std::vector<Bytes> sides_;
    const std::vector<MergeRule>& rules_;
    Bytes result_;
    std::optional<Conflict> conflict_;
};

/// Which NaN the sum of two NaNs is depends on the order of the operands of an instruction: make all NaNs equal.
template <class T>
void make_one_nan(Bytes& bytes, const ByteRange& range) {
    for (std::size_t at = range.offset; at < range.end(); at += sizeof(T)) {
        T value;
        std::memcpy(&value, bytes.data() + at, sizeof(value));
        if (std::isnan(value)) std::memset(bytes.data() + at, 0xff, sizeof(value));
    }
}

Bytes with_one_nan(Bytes bytes, const std::vector<MergeRule>& rules) {
    for (const MergeRule& rule : rules) {
        if (rule.element == ElementType::f32) make_one_nan<float>(bytes, rule.range);
        if (rule.element == ElementType::f64) make_one_nan<double>(bytes, rule.range);
    }
    return bytes;
}

std::optional<Model::Conflict> conflict_of(const MergeResult& result) {
    if (result.ok()) return std::nullopt;
    const MergeConflict& conflict = result.conflict();
    return Model::Conflict{conflict.offset, conflict.first.index, conflict.second.index};
}

std::size_t longest(const Modelled& base, const std::vector<Modelled>& sides) {
    std::size_t extent = base.bytes.size();
    for (const Modelled& side : sides) extent = std::max(extent, side.bytes.size());
    return extent;
}

/// Reads the image page by page, without mapping it as a whole.
Bytes bytes_of(const Snapshot& snapshot) {
    Bytes bytes(snapshot.extent_bytes());
    for (std::size_t at = 0; at < bytes.size(); at += kPageBytes) {
        std::memcpy(bytes.data() + at, snapshot.page(page_at(at)), std::min(kPageBytes, bytes.size() - at));
    }
    return bytes;
}

/// Whether every page that the merged image has elsewhere than the base differs from the base's (I6). True as well
/// where there is more than the block of the merge: then pages of blocks that were hardly used any more were gathered.
bool has_no_equal_page(const Snapshot& merged, const Snapshot& base) {
    std::set<const Delta*> blocks;
    std::uint64_t elsewhere = 0;
    vmcow::PageTree::for_each_difference(base.layers()->tree(), merged.layers()->tree(),
                                         [&](vmcow::PageIndex, const auto*, const vmcow::PageTree::Place* place) {
                                             blocks.insert(place->block.get());
                                             ++elsewhere;
                                         });
    return blocks.size() != 1 || elsewhere <= diff(base, merged).pages_changed.value;
}

RC_GTEST_PROP(MergePropertyTest, AnyMergeIsThatOfPlainBytes, ()) {
    const Modelled base = any_image();
    const std::vector<Modelled> sides = any_sides(base);
    const std::vector<MergeRule> rules = any_rules(longest(base, sides));
    const Model model(base, sides, rules);
    const MergeResult result = merge(base.snapshot, snapshots_of(sides), {.rules = MergeRules(rules)});
    RC_CLASSIFY(result.ok());
    RC_ASSERT(conflict_of(result) == model.conflict());
    if (!result.ok()) return;
    RC_ASSERT(result.snapshot().extent_bytes() == model.result().size());
    RC_ASSERT(same_bytes(with_one_nan(bytes_of(result.snapshot()), rules), with_one_nan(model.result(), rules)));
    RC_ASSERT(result.snapshot().delta_count() <= Layers::kMaxDeltas);
    const bool is_a_side = std::any_of(sides.begin(), sides.end(), [&](const Modelled& side) {
        return side.snapshot.layers() == result.snapshot().layers();
    });
    if (is_a_side) return;
    RC_ASSERT(has_no_equal_page(result.snapshot(), base.snapshot));
}

RC_GTEST_PROP(MergePropertyTest, WithoutRulesTheOrderOfTheSidesDoesNotMatter, ()) {
    const Modelled base = any_image();
    std::vector<Snapshot> sides = snapshots_of(any_sides(base));
    const MergeResult result = merge(base.snapshot, sides);
    std::rotate(sides.begin(), sides.begin() + *rc::gen::inRange<std::ptrdiff_t>(0, std::ssize(sides)), sides.end());
    if (*rc::gen::arbitrary<bool>()) std::reverse(sides.begin(), sides.end());
    const MergeResult other = merge(base.snapshot, sides);
    RC_ASSERT(result.ok() == other.ok());
    if (result.ok()) {
        RC_ASSERT(diff(result.snapshot(), other.snapshot()).empty());
    } else {
        RC_ASSERT(result.conflict().offset == other.conflict().offset);
    }
}

RC_GTEST_PROP(MergePropertyTest, SidesThatAgreeAreTheResult, ()) {
    const Modelled base = any_image();
    const Modelled side = any_relative(base, 4);
    const std::vector<Snapshot> sides(*rc::gen::inRange<std::size_t>(1, 4), side.snapshot);
    RC_ASSERT(diff(merge(base.snapshot, sides).snapshot(), side.snapshot).empty());
}

RC_GTEST_PROP(DiffPropertyTest, DifferencesAreThoseOfPlainBytes, ()) {
    const Modelled base = any_image();
    const Modelled a = any_relative(base, 4);
    const Modelled b = any_sides(base).front();
    const Diff found = diff(a.snapshot, b.snapshot);
    Bytes from = a.bytes;
    Bytes to = b.bytes;
    const std::size_t extent = std::max(from.size(), to.size());
    from.resize(extent);
    to.resize(extent);
    std::vector<ByteRange> ranges;
    tests::Pages pages;
    for (std::size_t at = 0; at < extent; ++at) {
        if (from[at] == to[at]) continue;
        if (ranges.empty() || ranges.back().end() != at) ranges.push_back({at, 0});
        ++ranges.back().bytes;
        pages.insert(page_at(at).value);
    }
    RC_ASSERT(found.ranges == ranges);
    RC_ASSERT(tests::pages_in(found.pages) == pages);
    RC_ASSERT(tests::is_maximal(found.pages));
    RC_ASSERT(found.pages_changed.value == pages.size());
    for (const ByteRange& range : found.ranges) {
        std::copy_n(to.begin() + static_cast<std::ptrdiff_t>(range.offset), range.bytes,
                    from.begin() + static_cast<std::ptrdiff_t>(range.offset));
    }
    RC_ASSERT(same_bytes(from, to));
    const Diff back = diff(b.snapshot, a.snapshot);
    RC_ASSERT(back.ranges == found.ranges);
    RC_ASSERT(back.pages == found.pages);
    RC_ASSERT(back.pages_compared == found.pages_compared);
    const bool related = a.snapshot.layers()->shared_base() == b.snapshot.layers()->shared_base();
    RC_ASSERT(found.related == related);
    const PageCount held = a.snapshot.delta_pages() + b.snapshot.delta_pages();
    if (related) RC_ASSERT(found.pages_compared <= held + PageCount{1});
}

}  // namespace
