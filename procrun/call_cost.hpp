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
    alias,     ///< read-only: the kernel sees to it that nothing is written
    mapped,    ///< private, without a page of its own yet
    resident,  ///< private, with the pages that earlier calls have copied, made equal to the image again
    remapped,  ///< private, mapped anew although the worker had it: what it kept was dropped
    moved,     ///< shared and writable: changed in place
};
/// "alias", "private", "resident", "remapped", "moved".
[[nodiscard]] const char* name_of(CallPath path) noexcept;

/// Why a path was taken.
enum class PathReason : std::uint8_t {
    read_only_parameter,  ///< the function takes it as const
    first_use,            ///< this worker has not had the image, or not lately
    nothing_copied_yet,   ///< it has, and no call has written to it
    refreshed,            ///< keeping the pages costs less than to copy them anew
    same_as_left,         ///< the last call here has left just these bytes
    refreshing_too_dear,  ///< so many pages are kept that copying those usually written anew costs less
    over_budget,          ///< more pages are kept than the worker may have
    other_snapshot,       ///< a relative of what it had, with too little in common
    last_use,             ///< the caller has moved it here
    forked,               ///< a process was forked for this call
};
/// A sentence for people.
[[nodiscard]] const char* describe(PathReason reason) noexcept;

/// Where a warm function process is in a call: what it was last seen doing, when it dies.
enum class CallStep : std::uint8_t {
    none,
    received,  ///< has read the request
    mapping,   ///< images
    mapped,
    reading,  ///< arguments
    running,  ///< the function
    ran,
    comparing,    ///< pages with the image
    writing_out,  ///< changed pages
    replying,
    replied,
    refreshing,  ///< pages, for the next call
    idle,
};
/// "while mapping images", …; "" for none.
[[nodiscard]] const char* describe(CallStep step) noexcept;

/// What one image argument cost. Units: pages, bytes.
struct ImageCost {
    CallPath path = CallPath::alias;
    PathReason reason = PathReason::read_only_parameter;
    vmcow::PageCount copied;     ///< by the kernel, at a write fault
    vmcow::PageCount refreshed;  ///< copied again from the image by the worker, for this call
    vmcow::PageCount changed;    ///< differ from the image after the call
    vmcow::PageCount resident;   ///< the worker has to itself after the call
    std::uint64_t changed_bytes = 0;
};

/// What a call cost. What could not be counted is nullopt (I8): a process that crashed can no longer be looked at, and
/// one that was ended at its deadline only from outside.
struct CallCost {
    double seconds = 0;  ///< from the call to its result: for a forked process, from the fork to the reaped child
    /// Of these: waiting for a worker; until images and arguments were there; in the function; until the result was
    /// back. 0 for a forked process, but running.
    double queue_seconds = 0;
    double mapping_seconds = 0;
    double running_seconds = 0;
    double returning_seconds = 0;

    std::optional<vmcow::PageCount> copied;      ///< pages of images that the function wrote to and the kernel copied
    std::optional<vmcow::PageCount> identical;   ///< of these, pages that end with the bytes they began with
    std::optional<vmcow::PageCount> refreshed;   ///< pages that were copied again by the worker
    std::optional<vmcow::PageCount> changed;     ///< pages that differ at the end
    std::optional<std::uint64_t> changed_bytes;  ///< bytes of images that differ at the end

    /// Private pages of images that the worker has now, of all images together: what the budget bounds. nullopt when
    /// the call has had none.
    std::optional<vmcow::PageCount> worker_resident;

    /// Who has watched the memory limit; nullopt without one. `unwatched` says what could not be watched, and why.
    std::optional<MemoryLimitBy> memory_limit_by;
    std::string unwatched;

    /// Of each image argument, in their order.
    std::vector<ImageCost> image_costs;
    [[nodiscard]] std::span<const ImageCost> images() const noexcept { return image_costs; }
};

}  // namespace procrun
