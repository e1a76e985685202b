#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "vmcow/image/layers.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/page_set.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/page_scan_method.hpp"
#include "vmcow/sys/written_pages.hpp"

namespace vmcow {

/// One private mapping of all layers of a snapshot, with what was written to it. A View is a handle to it.
///
/// A function process gets the image as it is at the fork: the changes made until then are frozen into one more layer,
/// and the child's mapping begins with that layer.
///
/// Cost: a commit looks at the private pages, all of them or, where there are many of which few change, those that were
///       written to since the last one.
class ComposedImage final : public MappedImage {
public:
    /// Maps the layers, with `room_bytes` of addresses behind them to grow into, or as many as there are.
    /// Throws: std::system_error -- ENOMEM.
    explicit ComposedImage(std::shared_ptr<const Layers> layers, std::size_t room_bytes = 0);
    ~ComposedImage() override;

    [[nodiscard]] std::byte* data() const noexcept { return slot_.address(); }
    [[nodiscard]] std::uint64_t extent_bytes() const noexcept { return extent_bytes_; }
    [[nodiscard]] const std::shared_ptr<const Layers>& layers() const noexcept { return layers_; }

    /// The private pages that exist because of a write, ascending (I5): those of `private_before` are left out.
    [[nodiscard]] std::vector<PageRun> copied_runs(sys::PageScanMethod method) const;
    /// Counts the copied pages and compares them with the layers below.
    [[nodiscard]] PageChanges changes(sys::PageScanMethod method) const;
    /// The layers below, with one more if anything differs from them (I6).
    [[nodiscard]] std::shared_ptr<const Layers> capture(Layers::DeltaMaker make) const;
    /// Captures the image, and counts changes from the captured layers from now on.
    void commit();
    /// Extends the image with zeros to `extent_bytes`.
    /// Throws: std::system_error -- ENOMEM; the image is as before.
    void grow(std::uint64_t extent_bytes);
    /// Maps the layers again, which drops all changes.
    /// Throws: std::system_error -- ENOMEM.
    void reset();
    /// Makes the mapping read-only from now on.
    /// Throws: std::system_error -- ENOMEM.
    void make_read_only();

private:
    void before_fork() override;
    void forget_fork() noexcept override;
    int reserve_again() noexcept override;
    int compose_again() noexcept override;
    [[nodiscard]] PageChanges changes(sys::PageScannerOnDemand& scanner) const override;

    [[nodiscard]] WritableRange writable() const noexcept override;

    [[nodiscard]] std::span<const std::byte> mapped() const noexcept override { return {data(), mapped_bytes_}; }
    [[nodiscard]] std::shared_ptr<const Layers> layers_now() const override {
        return writable_ ? capture(Delta::stored_copy_of) : layers_;
    }

    /// The pages that were private when counting began: at the last commit, else when the layers were mapped.
    [[nodiscard]] std::vector<PageRun> private_before() const;
    /// The private pages that may differ from the layers, ascending.
    [[nodiscard]] std::vector<PageRun> suspects() const;
    void choose_watching(std::size_t changed);
    /// Like capture(make), for the private pages `runs` that were found already.
    [[nodiscard]] std::shared_ptr<const Layers> capture(const std::vector<PageRun>& runs,
                                                        Layers::DeltaMaker make) const;
    [[nodiscard]] PageChanges changes_in(const std::vector<PageRun>& runs) const;
    [[nodiscard]] std::vector<PageRun> private_runs(const sys::PageScanner& scanner) const;

    std::shared_ptr<const Layers> layers_;
    /// The layers that the mapping is made of. After a `commit`, `layers_` lie over them, and their memory must not
    /// become somebody else's (I1).
    std::shared_ptr<const Layers> mapped_;
    std::shared_ptr<const Layers> parked_;  // in a child: the layers that the parent's mapping is made of
    Slot slot_;
    std::uint64_t extent_bytes_;
    std::size_t mapped_bytes_;
    bool writable_ = true;
    std::shared_ptr<const Layers> for_child_;
    PageSet at_commit_;  // the private pages at the last commit; unused in a child and after a reset
    bool committed_ = false;
    /// Which private pages were written to since the last commit, where most of them are left alone.
    std::unique_ptr<sys::WrittenPages> written_;
    std::unique_ptr<sys::WrittenPages> parked_written_;  // in a child: its parent's
};

}  // namespace vmcow
