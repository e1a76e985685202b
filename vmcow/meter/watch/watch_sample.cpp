#include "vmcow/meter/watch/watch_sample.hpp"

#include <algorithm>
#include <utility>

namespace vmcow::meter {
namespace {

template <class Value>
void add(std::optional<Value>& sum, const std::optional<Value>& value) {
    if (value) sum = sum ? *sum + *value : *value;
}

std::optional<std::uint64_t> known(PageCount pages, const PageFigures& figures) {
    if (figures.copied.value > 0 && figures.copied_by_unknown == figures.copied) return std::nullopt;
    return pages.value;
}

}  // namespace

std::optional<double> PageFigures::amplification() const noexcept {
    if (!compared || !changed_bytes || *changed_bytes == 0) return std::nullopt;
    return static_cast<double>(compared->bytes()) / static_cast<double>(*changed_bytes);
}

std::optional<std::uint64_t> PageFigures::known_by_parent() const noexcept { return known(copied_by_parent, *this); }
std::optional<std::uint64_t> PageFigures::known_by_child() const noexcept { return known(copied_by_child, *this); }

PageFigures& PageFigures::operator+=(const PageFigures& other) noexcept {
    resident_bytes += other.resident_bytes;
    anonymous_bytes += other.anonymous_bytes;
    shared_bytes += other.shared_bytes;
    copied += other.copied;
    copied_by_child += other.copied_by_child;
    copied_by_parent += other.copied_by_parent;
    copied_by_unknown += other.copied_by_unknown;
    copied_with_sibling += other.copied_with_sibling;
    copied_early += other.copied_early;
    new_bytes += other.new_bytes;
    swapped_bytes += other.swapped_bytes;
    add(compared, other.compared);
    add(identical, other.identical);
    add(changed_bytes, other.changed_bytes);
    return *this;
}

void PageFigures::add_process(const PageFigures& other) noexcept {
    PageFigures once = other;
    once.copied = once.copied - std::min(once.copied, other.copied_with_sibling);
    // Copies by an unknown writer are taken off last: that writer would be the parent, too.
    const PageCount by_parent = std::min(once.copied_by_parent, other.copied_with_sibling);
    once.copied_by_parent = once.copied_by_parent - by_parent;
    once.copied_by_unknown =
        once.copied_by_unknown - std::min(once.copied_by_unknown, other.copied_with_sibling - by_parent);
    once.copied_early = std::min(once.copied_early, once.copied);
    *this += once;
}

void ProcessSample::keep_most_copied(std::size_t most) {
    if (mappings.size() <= most) return;
    const auto weight = [](const MappingSample& mapping) {
        return std::pair(mapping.figures.copied, mapping.figures.resident_bytes);
    };
    std::stable_sort(mappings.begin(), mappings.end(),
                     [&](const MappingSample& a, const MappingSample& b) { return weight(a) > weight(b); });
    mappings_left_out += mappings.size() - most;
    mappings.resize(most);
    std::sort(mappings.begin(), mappings.end(),
              [](const MappingSample& a, const MappingSample& b) { return a.start < b.start; });
}

}  // namespace vmcow::meter
