#pragma once

#include <utility>
#include <vector>

#include "vmcow/diff.hpp"
#include "vmcow/merge.hpp"
#include "vmcow/value.hpp"

namespace vmcow {

/// Where two values differ, in the bytes of their images. Cost: see `diff` of snapshots.
template <class T>
[[nodiscard]] Diff diff(const Value<T>& a, const Value<T>& b) {
    return diff(a.snapshot(), b.snapshot());
}

/// The result of a merge of values: a value, or a conflict.
template <class T>
class MergedValue {
public:
    explicit MergedValue(MergeResult result) : result_(std::move(result)) {}

    [[nodiscard]] bool ok() const noexcept { return result_.ok(); }
    /// Pre: ok(). Throws: std::system_error -- EBADMSG: the joined bytes make no T.
    [[nodiscard]] Value<T> value() const { return Value<T>::from_snapshot(result_.snapshot()); }
    /// Pre: !ok().
    [[nodiscard]] const MergeConflict& conflict() const noexcept { return result_.conflict(); }
    [[nodiscard]] const MergeCounts& counts() const noexcept { return result_.counts(); }

private:
    MergeResult result_;
};

/// Joins what several processes have changed in copies of `base`, byte by byte: see `merge` of snapshots.
///
/// Two sides that have both taken memory for containers, or given it back, are in conflict: an image has a single heap.
/// A container that several processes are to change at once has to be given its size before, or is joined by
/// `merge_members` (member_merge.hpp).
template <class T>
[[nodiscard]] MergedValue<T> merge(const Value<T>& base, const std::vector<Value<T>>& sides,
                                   const MergeOptions& options = {}) {
    std::vector<Snapshot> snapshots;
    snapshots.reserve(sides.size());
    for (const Value<T>& side : sides) snapshots.push_back(side.snapshot());
    return MergedValue<T>(merge(base.snapshot(), snapshots, options));
}

/// A rule for the numbers in a part.
template <class T, class E>
[[nodiscard]] MergeRule merge_rule(const Part<T, E>& part, MergeBy by) {
    return merge_rule<std::remove_extent_t<E>>(part.offset(), part.size(), by);
}

}  // namespace vmcow
