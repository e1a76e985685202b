#include <algorithm>
#include <cstddef>
#include <numeric>
#include <optional>

#include "procrun/pool.hpp"
#include "vmcow/units.hpp"

namespace procrun::detail {
namespace {

/// Adds `one` if it is known; a sum of unknown numbers stays unknown (I8).
template <class T>
void add(std::optional<T>& all, const std::optional<T>& one) {
    if (one) all = all ? T(*all + *one) : *one;
}

}  // namespace

void add_cost(CallCost& all, const CallCost& one) {
    all.queue_seconds += one.queue_seconds;
    all.mapping_seconds += one.mapping_seconds;
    all.running_seconds += one.running_seconds;
    all.returning_seconds += one.returning_seconds;
    add(all.copied, one.copied);
    add(all.identical, one.identical);
    add(all.refreshed, one.refreshed);
    add(all.changed, one.changed);
    add(all.changed_bytes, one.changed_bytes);
    all.image_costs.insert(all.image_costs.end(), one.image_costs.begin(), one.image_costs.end());
}

std::vector<PartRange> equal_parts(std::size_t elements, std::size_t element_bytes, std::size_t count) {
    // The fewest elements that end on a page's boundary.
    const std::size_t whole_pages = std::lcm(element_bytes, vmcow::kPageBytes) / element_bytes;
    std::size_t each = elements / std::max<std::size_t>(count, 1);
    each += elements % std::max<std::size_t>(count, 1) != 0 ? 1U : 0U;
    if (each >= whole_pages) each = (each + whole_pages - 1) / whole_pages * whole_pages;
    std::vector<PartRange> parts;
    for (std::size_t first = 0; first < elements; first += each) {
        parts.push_back({first, std::min(each, elements - first)});
    }
    if (parts.empty()) parts.push_back({});
    return parts;
}

}  // namespace procrun::detail
