#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "vmcow/layers.hpp"
#include "vmcow/mapped_image.hpp"
#include "vmcow/slot.hpp"
#include "vmcow/sys/page_scan.hpp"

namespace vmcow {

/// One private mapping of all layers of a snapshot, and what was written to it: the inside of a View.
///
/// A function process gets it as it is at the fork: what was changed until then is frozen into one more layer, which
/// the child's mapping begins with.
class ComposedImage final : public MappedImage {
public:
    /// With `room_bytes` of addresses behind it to grow into, or as many as there are. Throws: std::system_error --
    /// ENOMEM.
    explicit ComposedImage(std::shared_ptr<const Layers> layers, std::size_t room_bytes = 0);
    ~ComposedImage() override;

    [[nodiscard]] std::byte* data() const noexcept { return slot_.address(); }
    [[nodiscard]] std::uint64_t extent_bytes() const noexcept { return extent_bytes_; }
    [[nodiscard]] const std::shared_ptr<const Layers>& layers() const noexcept { return layers_; }

    /// The private pages, ascending, without those that were placed when the mapping was made.
    [[nodiscard]] std::vector<PageRun> copied_runs(sys::PageScanMethod method) const;
    [[nodiscard]] PageChanges changes(sys::PageScanMethod method) const;
    /// The layers below and, if anything differs from them, one more.
    [[nodiscard]] std::shared_ptr<const Layers> capture(Layers::DeltaMaker make) const;
    /// The same, and from now on it counts from there.
    void commit();
    /// Extends it with zeros. Throws: std::system_error -- ENOMEM; it is as before.
    void grow(std::uint64_t extent_bytes);
    /// Maps the layers again: all changes are gone. Throws: std::system_error -- ENOMEM.
    void reset();
    /// From now on nothing can be written. Throws: std::system_error -- ENOMEM.
    void make_read_only();

private:
    void before_fork() override;
    void forget_fork() noexcept override;
    int reserve_again() noexcept override;
    int compose_again() noexcept override;
    [[nodiscard]] PageChanges changes() const override { return changes(sys::best_page_scan()); }

    [[nodiscard]] WritableRange writable() const noexcept override;

    /// The pages that were private before anything was written that counts now.
    [[nodiscard]] const std::vector<PageRun>& private_before() const noexcept;
    /// The same of the private pages that were found already.
    [[nodiscard]] std::shared_ptr<const Layers> capture(const std::vector<PageRun>& runs,
                                                        Layers::DeltaMaker make) const;
    [[nodiscard]] std::vector<PageRun> private_runs(sys::PageScanMethod method) const;
    [[nodiscard]] bool differs(PageIndex page) const noexcept;

    std::shared_ptr<const Layers> layers_;
    /// What the mapping is made of: `commit` leaves these below, and their memory must not become somebody else's (I1).
    std::shared_ptr<const Layers> mapped_;
    std::shared_ptr<const Layers> parked_;  // in a child: what it was made of in the parent
    Slot slot_;
    std::uint64_t extent_bytes_;
    std::size_t mapped_bytes_;
    bool writable_ = true;
    std::shared_ptr<const Layers> for_child_;
    std::vector<PageRun> at_commit_;  // the private pages at the last commit; void in a child and after a reset
    bool committed_ = false;
};

}  // namespace vmcow
