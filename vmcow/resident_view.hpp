#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmcow/copy_costs.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// How a resident view came to hold the snapshot that it is to hold.
enum class Preparation : std::uint8_t {
    clean,      ///< it held it already, and has no pages of its own
    resident,   ///< it held it already, or was made to by refreshing the pages that it had kept
    too_dear,   ///< mapped anew: refreshing so many pages costs more than the faults for those that are written
    too_many,   ///< mapped anew: more pages than the budget allows
    unrelated,  ///< mapped anew: too little in common with what it held before
};

/// A private view for one call after the other over an image. The pages that the kernel has copied stay with it: what a
/// call has changed is found by comparing them with the snapshot, and undone by copying from there, which costs a
/// twentieth of the fault that dropping them would bring again.
///
///     prepare(snapshot)   → holds the snapshot's bytes
///     (somebody writes)
///     find_changes()      → changed() says which pages differ
///     restore()           → holds the snapshot's bytes again; or accept(result), if they are the next snapshot's
///
/// It may grow meanwhile: zeroed memory behind the image, all of whose pages are new when they are written.
///
/// If the pages are more than the budget, or it costs more to go through all of them than to take the faults of those
/// that a call usually writes, the image is mapped anew.
///
/// Threads:    one at a time.
/// After fork: not mapped in a child.
/// Invariant:  I5, I6.
class ResidentView {
public:
    /// Maps the snapshot into `slot`, at least as large. Throws: std::system_error -- ENOMEM.
    ResidentView(Snapshot snapshot, Slot slot, const CopyCosts& costs, PageCount budget);
    ~ResidentView();
    ResidentView(const ResidentView&) = delete;
    ResidentView& operator=(const ResidentView&) = delete;

    [[nodiscard]] std::span<std::byte> bytes() noexcept { return {slot_.address(), extent_bytes_}; }
    /// All that is mapped.
    [[nodiscard]] std::size_t mapped_bytes() const noexcept { return mapped_bytes_; }
    /// Extends it with zeros, as far as the slot goes, until it is restored or prepared.
    /// Throws: std::system_error -- ENOMEM; it is as before.
    void grow(std::uint64_t extent_bytes);
    [[nodiscard]] const Snapshot& snapshot() const noexcept { return snapshot_; }

    /// Makes it hold `wanted`, which has the same base. `base_may_have_changed`: its owner has written to it since
    /// (I2). Throws: std::system_error -- ENOMEM; it can be prepared again. Cost:   nothing when it holds it; a memcpy
    /// for each page that differs; at the most that of mapping anew.
    Preparation prepare(const Snapshot& wanted, bool base_may_have_changed);

    /// Looks for what was written since. `faulted`: this process has taken page faults meanwhile, so there may be new
    /// pages. Throws: std::system_error -- no page scan. Cost: a comparison for each page; a page scan if `faulted`.
    void find_changes(const sys::PageScanner& scanner, bool faulted);
    /// The pages that differ from the snapshot, ascending, as found last.
    [[nodiscard]] std::span<const PageIndex> changed() const noexcept { return changed_; }
    /// The bytes that differ in them. Cost: reads each of them twice.
    [[nodiscard]] std::uint64_t changed_bytes() const noexcept;
    [[nodiscard]] const std::byte* page(PageIndex index) const noexcept {
        return slot_.address() + index.byte_offset();
    }
    /// The pages that the kernel has copied between the last `prepare` and the last `find_changes`.
    [[nodiscard]] PageCount copied() const noexcept { return copied_; }
    /// The pages that it has to itself.
    [[nodiscard]] PageCount resident() const noexcept { return {pages_.size()}; }

    /// Undoes what `find_changes` has found. Throws: std::system_error -- ENOMEM; it can be prepared again.
    void restore();
    /// Takes what it holds for `result`, whose bytes they are.
    void accept(const Snapshot& result);
    /// The pages that were refreshed since the last time this was asked.
    [[nodiscard]] PageCount take_refreshed() noexcept;

private:
    struct Page {
        PageIndex index;
        const std::byte* source;  // where the snapshot has its bytes
    };

    void map_anew();
    void resize(std::size_t mapped_bytes);
    void refresh(PageIndex page, const std::byte* source) noexcept;
    void restore_by(Preparation& how);
    void rebase(const Snapshot& wanted, Preparation& how);
    PageCount add_pages(const std::vector<PageRun>& runs);
    void find_sources();
    void keep_what_has_moved(const Snapshot& before);
    [[nodiscard]] bool over_budget() const noexcept;
    [[nodiscard]] bool refreshing_pays(std::size_t refreshed) const noexcept;

    Snapshot snapshot_;
    Slot slot_;
    std::uint64_t extent_bytes_ = 0;
    std::size_t mapped_bytes_ = 0;
    CopyCosts costs_;
    PageCount budget_;
    std::vector<Page> pages_;  // ascending
    std::vector<PageIndex> changed_;
    bool whole_ = false;                         // holds the snapshot but for `changed_`
    Preparation restored_ = Preparation::clean;  // how `restore` has done it, if by mapping anew: not yet told
    PageCount copied_;
    PageCount refreshed_;
    double usually_changed_ = 0;  // pages a call, a moving average
};

}  // namespace vmcow
