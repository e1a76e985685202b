#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "procrun/limits.hpp"
#include "vmcow/units.hpp"

namespace procrun {

/// How an image argument got to the function.
enum class CallPath : std::uint8_t {
    alias,     ///< mapped read-only: the kernel lets nobody write
    mapped,    ///< mapped privately, with no page copied yet
    resident,  ///< mapped privately before: the pages that earlier calls have copied were made equal to the image again
    remapped,  ///< mapped privately anew, although the worker had the image: the pages that it kept were dropped
    moved,     ///< mapped shared and writable: changed in place
    sent,      ///< not mapped: its bytes came with the request
};
/// "alias", "private", "resident", "remapped", "moved", "sent".
[[nodiscard]] const char* name_of(CallPath path) noexcept;

/// Why a path was taken.
enum class PathReason : std::uint8_t {
    read_only_parameter,  ///< the function takes the image as const
    first_use,            ///< this worker has not had the image, or not lately
    nothing_copied_yet,   ///< this worker has the image, and no call has written to it
    refreshed,            ///< refreshing the kept pages costs less than copying them anew
    same_as_left,         ///< the last call in this worker has left exactly these bytes
    refreshing_too_dear,  ///< so many pages are kept that copying anew those that a call usually writes costs less
    over_budget,          ///< the worker would keep more pages than it may
    other_snapshot,       ///< the worker had a relative of the image, with too little in common
    last_use,             ///< the caller has moved the image into the call
    forked,               ///< a process was forked for this call
    small,                ///< so few bytes cost less to send than to map
};
/// A sentence for people.
[[nodiscard]] const char* describe(PathReason reason) noexcept;

/// Where a warm function process is in a call. When the process dies, the step says what it was doing.
enum class CallStep : std::uint8_t {
    none,
    received,  ///< it has read the request
    mapping,   ///< it maps images
    mapped,
    reading,  ///< it reads arguments
    running,  ///< it runs the function
    ran,
    comparing,    ///< it compares pages with the image
    writing_out,  ///< it writes changed pages
    replying,
    replied,
    refreshing,  ///< it refreshes pages for the next call
    idle,
};
/// "while mapping images", …; "" for none.
[[nodiscard]] const char* describe(CallStep step) noexcept;

/// What one image argument cost. Units: pages, bytes.
struct ImageCost {
    CallPath path = CallPath::alias;
    PathReason reason = PathReason::read_only_parameter;
    vmcow::PageCount copied;     ///< pages that the kernel copied at a write fault
    vmcow::PageCount refreshed;  ///< pages that the worker copied again from the image, for this call
    vmcow::PageCount changed;    ///< pages that differ from the image after the call
    vmcow::PageCount resident;   ///< private pages of the image that the worker has after the call
    std::uint64_t changed_bytes = 0;
};

/// What a call cost. What could not be counted is nullopt (I8): in a process that crashed nothing can be counted any
/// more, and in one that was killed at its deadline only what is seen from outside.
struct CallCost {
    double seconds = 0;        ///< from the call to the result; of a forked process, from the fork to the reaped child
    double queue_seconds = 0;  ///< of `seconds`, waiting for a worker; 0 for a forked process
    double mapping_seconds = 0;    ///< then until images and arguments were there; 0 for a forked process
    double running_seconds = 0;    ///< then in the function; 0 for a forked process
    double returning_seconds = 0;  ///< then until the result was back; 0 for a forked process

    std::optional<vmcow::PageCount> copied;      ///< pages of images that the function wrote to and the kernel copied
    std::optional<vmcow::PageCount> identical;   ///< copied pages that end with the bytes they began with
    std::optional<vmcow::PageCount> refreshed;   ///< pages that the worker copied again
    std::optional<vmcow::PageCount> changed;     ///< pages that differ at the end
    std::optional<std::uint64_t> changed_bytes;  ///< bytes of images that differ at the end

    /// Private pages that the worker has after the call, of all images together: PoolOptions::resident_budget bounds
    /// them. nullopt when it has none.
    std::optional<vmcow::PageCount> worker_resident;

    /// How the memory limit was enforced; nullopt without a limit.
    std::optional<MemoryLimitBy> memory_limit_by;
    /// The limits that could not be watched, each with the reason; empty when all were.
    std::string unwatched;

    /// The cost of each image argument, in the order of the arguments.
    std::vector<ImageCost> image_costs;
    [[nodiscard]] std::span<const ImageCost> images() const noexcept { return image_costs; }
};

}  // namespace procrun
