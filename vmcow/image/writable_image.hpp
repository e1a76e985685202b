#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vmcow/image/delta.hpp"
#include "vmcow/image/mapped_image.hpp"
#include "vmcow/image/slot.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/mmap.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

/// An image whose file can still be written. Its own process maps the file shared and writable, a function process
/// privately.
///
///     own process         |--- file, shared and writable ---|------- reserved -------|
///     function process    |--- the same file, private ------|- memory -|-- reserved -|
///                          pages that it has changed          what it has grown by
///
/// When a function process forks another one, its changes go along as a delta over the file. If its private pages
/// themselves went along, the kernel would copy page tables for all that is mapped.
///
/// Threads: one at a time.
class WritableImage : public MappedImage {
protected:
    /// Maps nothing yet. `fd` may be read-only if all that is mapped of it is mapped already.
    WritableImage(sys::UniqueFd fd, Slot slot, std::string name);
    ~WritableImage() override;

    /// False in a function process, which has a private copy of its caller's image.
    [[nodiscard]] bool is_own() const noexcept { return own_; }
    void check(int error, const char* what) const;

    /// Maps the file's bytes from `from` to `to`, shared and writable. Returns 0 or an errno.
    [[nodiscard]] int map_for_writing(std::size_t from, std::size_t to);
    /// In a function process: maps private memory behind the copy, up to `capacity`.
    /// Throws: std::system_error -- ENOMEM.
    void extend_copy(std::size_t capacity);

    /// A descriptor that cannot be used for writing. It is opened when it is first asked for.
    /// Throws: std::system_error -- EMFILE.
    [[nodiscard]] int read_only_fd() const;

    /// Whether the file can be written to through its descriptor: a child drops that right.
    [[nodiscard]] virtual bool is_writable_by_fd() const noexcept { return true; }

    [[nodiscard]] int reserve_again() noexcept override;
    [[nodiscard]] std::span<const std::byte> mapped() const noexcept override { return {slot_.address(), capacity_}; }

    sys::UniqueFd fd_;
    Slot slot_;
    std::size_t capacity_ = 0;  // bytes mapped

private:
    /// In a function process: the file as it is without the changes made here; zeros behind it.
    class FileCopy;

    /// False for an image that was frozen or given away, and is about to end.
    [[nodiscard]] bool goes_along() const noexcept override { return static_cast<bool>(fd_); }
    void before_fork() override;
    void forget_fork() noexcept override {
        if (for_child_) for_child_.reset();
    }
    [[nodiscard]] int map_file_again() noexcept override;
    [[nodiscard]] int compose_again() noexcept override;
    [[nodiscard]] PageChanges changes(sys::PageScannerOnDemand& scanner) const override;
    [[nodiscard]] WritableRange writable() const noexcept override;
    [[nodiscard]] std::shared_ptr<const Layers> layers_now() const override;

    [[nodiscard]] int map(std::size_t from, std::size_t to, sys::MapMode mode) noexcept;
    [[nodiscard]] std::vector<PageRun> private_runs(const sys::PageScanner& scanner) const;
    /// In a function process: the pages that differ from the file, ascending.
    [[nodiscard]] std::vector<PageIndex> changed_pages() const;

    std::string name_;
    mutable sys::UniqueFd read_only_fd_;
    bool own_ = true;
    std::size_t file_bytes_ = 0;  // in a function process: how many of the mapped bytes are in the file
    std::shared_ptr<const Delta> for_child_;
    std::shared_ptr<const Delta> inherited_;  // the changes of its parent, if that is a function process too
};

}  // namespace vmcow
