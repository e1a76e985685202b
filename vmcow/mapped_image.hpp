#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "vmcow/units.hpp"

namespace vmcow {

/// What happened to the pages of a private mapping since it was made.
///
/// Units: pages, and bytes that differ from what the mapping began with.
struct PageChanges {
    PageCount copied;                 ///< pages that exist because of a write
    PageCount identical;              ///< of these, pages that hold the same bytes as before (I6)
    std::uint64_t changed_bytes = 0;  ///< bytes that differ

    [[nodiscard]] std::uint64_t copied_bytes() const noexcept { return copied.bytes(); }
    PageChanges& operator+=(const PageChanges& other);
    bool operator==(const PageChanges&) const = default;
};

/// Where a function process can write to an image, for counting its pages from outside.
struct WritableRange {
    std::uintptr_t address = 0;
    std::size_t bytes = 0;
    PageCount placed;  ///< pages that are private from the start
};

/// A part of an image that this process has mapped. All of them are known, because none is inherited by fork: page
/// tables of large mappings are what makes fork slow (MADV_DONTFORK). A function process maps them again for itself,
/// privately:
///
///     caller  before_fork()       a view freezes what it changed, so that the child can be given it
///     child   map_file_again()    at the same addresses; an arena becomes a private copy, without a writable file
///     child   compose_again()     views of several layers
///     child   changes()           what the child's function copied; also asked when one of them ends there
///     caller  forget_fork()
///
/// Any other forked child has nothing there, but the addresses stay reserved in it: its heap must not grow into a range
/// that the end of an image gives back.
///
/// A class maps under fork_lock, so that no child is forked between the mapping and MADV_DONTFORK.
///
/// Threads: creation and destruction from any thread; while one thread forks, others wait. Pre: no other thread writes
///          to an image while it is being forked, if the child is to see it as it was.
class MappedImage {
public:
    MappedImage(const MappedImage&) = delete;
    MappedImage& operator=(const MappedImage&) = delete;

protected:
    MappedImage() = default;
    virtual ~MappedImage();

    /// Makes the image known to forks: the last thing that a constructor does, when there is something to map again.
    void enlist();
    /// Takes it back: the first thing that the destructor of a class does that overrides what is below.
    void delist() noexcept;

private:
    friend class ImagesInFork;
    friend void abandon_inherited_images();

    static void reserve_all_again() noexcept;
    void note_end() noexcept;

    virtual void before_fork() {}
    virtual void forget_fork() noexcept {}
    /// In any child, right after the fork: reserves the range again that the fork has left out (I7). 0 or an errno:
    /// EEXIST when something else was placed there first.
    [[nodiscard]] virtual int reserve_again() noexcept = 0;
    /// In the child: 0 or an errno. No allocation, no lock, no exception (I7). First every file is mapped, then what is
    /// composed by copying from these.
    [[nodiscard]] virtual int map_file_again() noexcept { return 0; }
    [[nodiscard]] virtual int compose_again() noexcept { return 0; }
    [[nodiscard]] virtual PageChanges changes() const { return {}; }
    /// In the caller, before the fork: what the child will be able to write to; empty by default.
    [[nodiscard]] virtual WritableRange writable() const noexcept { return {}; }

    bool enlisted_ = false;
    bool reserved_ = false;  // in a child that has not mapped it again: forks of that child inherit the reservation
    int lost_ = 0;           // in a child: the errno with which its range could not be reserved again
    MappedImage* previous_ = nullptr;
    MappedImage* next_ = nullptr;
};

/// In a process that is forked to live on by itself, with other images than its parent's: forgets the parent's images,
/// none of which is mapped here, and leaves their addresses to be claimed. Objects of the parent that hold images must
/// not be used or destroyed here. Pre: one thread.
void abandon_inherited_images();

/// Every mapped image of this process on its way through one fork: made in the caller before the fork, which no other
/// thread's images come between, and ended in the caller right after it.
class ImagesInFork {
public:
    /// Cost:   a page scan per view, and a copy of each page that a view has changed.
    /// Throws: std::system_error -- out of memory or descriptors; nothing has changed.
    ImagesInFork();
    ~ImagesInFork();
    ImagesInFork(const ImagesInFork&) = delete;
    ImagesInFork& operator=(const ImagesInFork&) = delete;

    /// In the child, first thing: 0 or the errno of the mapping that failed; EEXIST when a fork handler has put
    /// something where an image was, which is not taken away. Async-signal-safe (I7). Cost: 3 µs an image.
    [[nodiscard]] int map_again() noexcept;
    /// In the child, last thing: the sum over all images, those that have ended there meanwhile too.
    /// Throws: std::system_error -- no page scan, now or when one of them ended.
    [[nodiscard]] PageChanges changes() const;
    /// In the caller: what the child can write to.
    [[nodiscard]] std::vector<WritableRange> writable() const;

private:
    void forget() noexcept;

    std::unique_lock<std::recursive_mutex> lock_;
};

}  // namespace vmcow
