#include "procrun/call_cost.hpp"

#include "vmcow/sys/error.hpp"

namespace procrun {

const char* name_of(CallPath path) noexcept {
    switch (path) {
        case CallPath::alias:
            return "alias";
        case CallPath::mapped:
            return "private";
        case CallPath::resident:
            return "resident";
        case CallPath::remapped:
            return "remapped";
        case CallPath::moved:
            return "moved";
        case CallPath::sent:
            return "sent";
    }
    vmcow::sys::assert_failed("CallPath is one of its enumerators", __FILE__, __LINE__);
}

const char* describe(PathReason reason) noexcept {
    switch (reason) {
        case PathReason::read_only_parameter:
            return "the function takes the image as const";
        case PathReason::first_use:
            return "this worker has not had the image lately";
        case PathReason::nothing_copied_yet:
            return "no call has written to the image in this worker";
        case PathReason::refreshed:
            return "keeping pages costs less than copying them anew";
        case PathReason::same_as_left:
            return "the last call in this worker left exactly these bytes";
        case PathReason::refreshing_too_dear:
            return "refreshing the kept pages would cost more than copying those that a call usually writes";
        case PathReason::over_budget:
            return "more pages were kept than the worker may have";
        case PathReason::other_snapshot:
            return "the image has too little in common with the one that the worker had";
        case PathReason::last_use:
            return "the caller has moved the image";
        case PathReason::forked:
            return "a process was forked for the call";
        case PathReason::small:
            return "so few bytes cost less to send than to map";
    }
    vmcow::sys::assert_failed("PathReason is one of its enumerators", __FILE__, __LINE__);
}

const char* describe(CallStep step) noexcept {
    switch (step) {
        case CallStep::received:
            return "after receiving the call";
        case CallStep::mapping:
            return "while mapping images";
        case CallStep::mapped:
            return "after mapping images";
        case CallStep::reading:
            return "while reading arguments";
        case CallStep::running:
            return "in the function";
        case CallStep::ran:
            return "after the function";
        case CallStep::comparing:
            return "while comparing pages";
        case CallStep::writing_out:
            return "while writing changed pages";
        case CallStep::replying:
            return "while replying";
        case CallStep::replied:
            return "after its reply";
        case CallStep::refreshing:
            return "while refreshing pages";
        case CallStep::idle:
            return "while idle";
        case CallStep::none:
            break;
    }
    return "";  // also for a number that is no step: a worker may have written anything (I3)
}

}  // namespace procrun
