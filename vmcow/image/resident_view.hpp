#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmcow/image/copy_costs.hpp"
#include "vmcow/image/layers.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/page_set.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/sys/written_pages.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// How a resident view came to hold the snapshot that was wanted.
enum class Preparation : std::uint8_t {
    clean,      ///< it held the snapshot already, and has no private pages
    resident,   ///< it held the snapshot already, or the pages that it had kept were refreshed
    too_dear,   ///< mapped anew: refreshing so many pages costs more than the faults for those that are written
    too_many,   ///< mapped anew: more pages than the budget allows
    unrelated,  ///< mapped anew: too little in common with what it held before
};

/// A private view that serves one call after the other over an image. The pages that the kernel has copied stay with
/// the view. What a call has changed is found by comparing these pages with the snapshot, and undone by copying from
/// the snapshot. That costs a twentieth of the fault that dropping the pages would bring again.
///
///     prepare(snapshot)   → the view holds the snapshot's bytes
///     (a call writes)
///     find_changes()      → changed() lists the pages that differ
///     restore()           → the view holds the snapshot's bytes again; or accept(result), if these are the next one's
///
/// The view may grow meanwhile, by zeroed memory behind the image. All pages there are new when they are written.
///
/// The image is mapped anew if there are more pages than the budget, or if going through all of them costs more than
/// the faults of those that a call usually writes.
///
/// Threads:    one at a time.
/// After fork: a function process has the view at the same address and as it was, as a private copy of its own. It can
///             write to the copy and grow it, and nothing else.
/// Invariant:  I5, I6.
class ResidentView final : public MappedImage {
public:
    /// Maps the snapshot into `slot`.
    /// Pre:    the slot is at least as large.
    /// Throws: std::system_error -- ENOMEM.
    ResidentView(Snapshot snapshot, Slot slot, const CopyCosts& costs, PageCount budget);
    ~ResidentView() override;

    [[nodiscard]] std::span<std::byte> bytes() noexcept { return {slot_.address(), extent_bytes_}; }
    /// The bytes that are mapped: the image and what it has grown by, in whole pages.
    [[nodiscard]] std::size_t mapped_bytes() const noexcept { return mapped_bytes_; }
    /// Extends the view with zeros to `extent_bytes`, as far as the slot goes, until it is restored or prepared.
    /// Throws: std::system_error -- ENOMEM; the view is as before.
    void grow(std::uint64_t extent_bytes);
    [[nodiscard]] const Snapshot& snapshot() const noexcept { return snapshot_; }

    /// Makes the view hold `wanted`. With `base_may_have_changed`, the owner of the base has written to it since (I2).
    /// Pre:    `wanted` has the same base.
    /// Throws: std::system_error -- ENOMEM; the view can be prepared again.
    /// Cost:   nothing if the view holds `wanted`; a memcpy for each page that differs; at the most that of mapping
    ///         anew.
    Preparation prepare(const Snapshot& wanted, bool base_may_have_changed);

    /// Finds the pages that were written since. With `faulted`, this process has taken page faults meanwhile, so there
    /// may be new private pages.
    /// Throws: std::system_error -- no page scan.
    /// Cost:   a page scan if `faulted`, and a comparison for each private page, or, where few of many are usually
    ///         written, for each of these.
    void find_changes(const sys::PageScanner& scanner, bool faulted);
    /// The pages that differ from the snapshot, ascending, as `find_changes` found them last.
    [[nodiscard]] std::span<const PageIndex> changed() const noexcept { return changed_; }
    /// How many bytes differ in the changed pages.
    /// Cost: reads each of these pages twice.
    [[nodiscard]] std::uint64_t changed_bytes() const noexcept;
    [[nodiscard]] const std::byte* page(PageIndex index) const noexcept {
        return slot_.address() + index.byte_offset();
    }
    /// The pages that the kernel has copied between the last `prepare` and the last `find_changes`.
    [[nodiscard]] PageCount copied() const noexcept { return copied_; }
    /// The pages that the view has to itself.
    [[nodiscard]] PageCount resident() const noexcept { return pages_.count(); }

    /// Undoes the changes that `find_changes` has found.
    /// Throws: std::system_error -- ENOMEM; the view can be prepared again.
    void restore();
    /// Makes `result` the snapshot of the view.
    /// Pre: `result` has the same base, and the bytes that the view holds.
    void accept(const Snapshot& result);
    /// The pages that were refreshed since the last call of this function.
    [[nodiscard]] PageCount take_refreshed() noexcept;

private:
    void before_fork() override;
    void forget_fork() noexcept override {
        if (for_child_) for_child_.reset();
    }
    [[nodiscard]] int reserve_again() noexcept override;
    [[nodiscard]] int compose_again() noexcept override;
    [[nodiscard]] PageChanges changes(sys::PageScannerOnDemand& scanner) const override;
    [[nodiscard]] WritableRange writable() const noexcept override;
    [[nodiscard]] std::span<const std::byte> mapped() const noexcept override {
        return {slot_.address(), mapped_bytes_};
    }
    [[nodiscard]] std::shared_ptr<const Layers> layers_now() const override;

    [[nodiscard]] std::shared_ptr<const Layers> capture(Layers::DeltaMaker make) const;
    [[nodiscard]] std::vector<PageRun> private_runs(const sys::PageScanner& scanner) const;
    /// The layers below the private pages: those of the snapshot, or, in a function process, those at the fork.
    [[nodiscard]] const std::shared_ptr<const Layers>& below() const noexcept {
        return inherited_ ? inherited_ : snapshot_.layers();
    }

    void map_anew();
    void resize(std::size_t mapped_bytes);
    void refresh(PageIndex page, const std::byte* source) noexcept;
    void restore_by(Preparation& how);
    void rebase(const Snapshot& wanted, Preparation& how);
    void compare(const std::vector<PageRun>& suspects);
    void choose_watching();
    void keep_what_has_moved(const Snapshot& before);
    [[nodiscard]] bool over_budget() const noexcept;
    [[nodiscard]] bool refreshing_pays(std::size_t refreshed) const noexcept;

    Snapshot snapshot_;
    Slot slot_;
    std::uint64_t extent_bytes_ = 0;
    std::size_t mapped_bytes_ = 0;
    CopyCosts costs_;
    PageCount budget_;
    PageSet pages_;  // that the view has to itself
    std::vector<PageIndex> changed_;
    /// Which private pages were written to since the last look, where most of them are left alone.
    std::unique_ptr<sys::WrittenPages> written_;
    bool whole_ = false;                         // the view holds the snapshot, except for `changed_`
    Preparation restored_ = Preparation::clean;  // why `restore` has mapped anew, until `prepare` tells it
    PageCount copied_;
    PageCount refreshed_;
    double usually_changed_ = 0;  // pages a call, a moving average
    std::shared_ptr<const Layers> for_child_;
    std::shared_ptr<const Layers> inherited_;  // in a function process: the layers at the fork
};

}  // namespace vmcow
