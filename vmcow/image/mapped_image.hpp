#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "vmcow/page_changes.hpp"
#include "vmcow/sys/page_scan.hpp"
#include "vmcow/units.hpp"

namespace vmcow {

class Layers;

/// A range in which a function process can write to an image. Its pages are counted from outside.
struct WritableRange {
    std::uintptr_t address = 0;
    std::size_t bytes = 0;
    PageCount placed;  ///< pages that are private from the start
};

/// The image that lies at an address of this process, as it is now.
struct PresentImage {
    /// Their base is sealed, or its owner may still write to it (FileState::borrowed).
    std::shared_ptr<const Layers> layers;
    const std::byte* begin = nullptr;  ///< where this process has byte 0 of the image
};

/// A part of an image that this process has mapped. All mapped images are on a list, because fork inherits none of
/// them: the page tables of large mappings are what makes fork slow (MADV_DONTFORK). A function process maps them again
/// for itself, privately:
///
///     caller  before_fork()       a view freezes its changes, so that they can be given to the child
///     child   map_file_again()    at the same addresses; an arena becomes a private copy, without a writable file
///     child   compose_again()     views of several layers
///     child   changes()           what the child's function copied; also asked when an image ends in the child
///     caller  forget_fork()
///
/// Any other forked child has nothing mapped there, but the addresses stay reserved in it: its heap must not grow into
/// a range that the end of an image gives back. So in each process an image is either mapped, and its children begin
/// with a hole there, or only reserved, and its children have it reserved too:
///
///     mapped   --fork-->  hole  --reserve_again()-->  reserved  --fork-->  reserved
///        ^                                               |
///        '------- map_again(), of a function process ----'   where `goes_along()`
///
/// Function processes nest: a child is the caller of those that it forks.
///
/// A derived class maps under fork_lock, so that no child is forked between the mapping and MADV_DONTFORK.
///
/// Pre:     while an image is being forked, no other thread writes to it, if the child is to see it as it was.
/// Threads: creation and destruction from any thread; while one thread forks, others wait.
class MappedImage {
public:
    MappedImage(const MappedImage&) = delete;
    MappedImage& operator=(const MappedImage&) = delete;

protected:
    MappedImage() = default;
    virtual ~MappedImage();

public:
    /// The image that the `bytes` from `address` on lie in, as it is now; nullopt when there is none.
    /// Throws: std::system_error -- EMFILE, ENOMEM.
    /// Cost:   a look at each image, then a scan of that image and a copy of each page that was changed in it.
    [[nodiscard]] static std::optional<PresentImage> present_at(const void* address, std::size_t bytes);

protected:
    /// Puts the image on the list. A constructor does this last, when there is something to map again.
    void enlist();
    /// Takes the image off the list. The destructor of a class that overrides the functions below does this first.
    void delist() noexcept;

private:
    friend class ImagesInFork;
    friend void abandon_inherited_images();

    static void reserve_all_again() noexcept;
    void note_end() noexcept;

    /// Whether a function process gets the image. False for what a caller and a worker say to each other.
    [[nodiscard]] virtual bool goes_along() const noexcept { return true; }
    virtual void before_fork() {}
    /// Writes to an object whose state has to change, and to no other: after a fork, the first write to a page of the
    /// heap copies it.
    virtual void forget_fork() noexcept {}
    /// In any child, right after the fork: reserves the range that the fork has left out (I7). Returns 0 or an errno:
    /// EEXIST when something else was placed there first.
    [[nodiscard]] virtual int reserve_again() noexcept = 0;
    /// In a function process: maps the file of the image. Returns 0 or an errno. No allocation, no lock, no exception
    /// (I7).
    [[nodiscard]] virtual int map_file_again() noexcept { return 0; }
    /// In a function process, after the files of all images are mapped: copies into place what is composed from them.
    /// Returns 0 or an errno; I7 as in map_file_again.
    [[nodiscard]] virtual int compose_again() noexcept { return 0; }
    [[nodiscard]] virtual PageChanges changes(sys::PageScannerOnDemand& /*scanner*/) const { return {}; }
    /// In the caller, before the fork: the range that the child will be able to write to; empty by default.
    [[nodiscard]] virtual WritableRange writable() const noexcept { return {}; }
    /// The mapped range; empty if it is no image of a caller.
    [[nodiscard]] virtual std::span<const std::byte> mapped() const noexcept { return {}; }
    /// What the mapping holds now; nullptr if it is no image of a caller.
    [[nodiscard]] virtual std::shared_ptr<const Layers> layers_now() const;

    /// What this process has of it.
    enum class Presence : std::uint8_t {
        unlisted,  ///< forks do not know it, yet or any more
        mapped,    ///< a hole in each child, at first
        reserved,  ///< not mapped in this process, which was forked: its children inherit the reservation
        lost,      ///< in a child: its range could not be reserved again
    };

    Presence presence_ = Presence::unlisted;
    int lost_error_ = 0;  // the errno of that
    MappedImage* previous_ = nullptr;
    MappedImage* next_ = nullptr;
};

/// Forgets the parent's images, in a process that is forked to live on by itself with other images. None of the
/// parent's images is mapped here; their addresses are left to be claimed. Objects of the parent that hold images must
/// not be used or destroyed here.
/// Pre: one thread.
void abandon_inherited_images();

/// All mapped images of this process during one fork. The caller makes it before the fork and ends it right after.
/// Meanwhile no other thread can add an image.
class ImagesInFork {
public:
    /// Throws: std::system_error -- out of memory or descriptors; nothing has changed.
    /// Cost:   a page scan for each view, and a copy of each page that a view has changed.
    ImagesInFork();
    ~ImagesInFork();
    ImagesInFork(const ImagesInFork&) = delete;
    ImagesInFork& operator=(const ImagesInFork&) = delete;

    /// In the child, first: maps all images again. Returns 0 or the errno of the mapping that failed; EEXIST when a
    /// fork handler has put something where an image was, which stays there. Async-signal-safe (I7).
    /// Cost: 3 µs an image.
    [[nodiscard]] int map_again() noexcept;
    /// In the child, last: the sum over all images, including those that have ended there meanwhile.
    /// Throws: std::system_error -- no page scan, now or when an image ended.
    [[nodiscard]] PageChanges changes() const;
    /// In the caller: the ranges that the child can write to.
    [[nodiscard]] std::vector<WritableRange> writable() const;

private:
    void forget() noexcept;

    std::unique_lock<std::recursive_mutex> lock_;
};

}  // namespace vmcow
