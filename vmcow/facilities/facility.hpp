#pragma once

#include <string>

namespace vmcow {

/// What a probe found. Unknown is not absent: the probe could not find out here, and `detail` has the reason.
enum class FacilityState {
    present,
    limited,  ///< there, but less than the library makes use of
    absent,   ///< the kernel lacks it, or refuses it to this user
    unknown,
};

/// The name in reports: "present", "limited", "absent" or "unknown".
[[nodiscard]] const char* name_of(FacilityState state) noexcept;

/// One thing that the kernel, its settings or the limits of this process allow or refuse.
struct Facility {
    std::string name;
    std::string group;  ///< "kernel", "settings" or "limits"
    FacilityState state = FacilityState::unknown;
    std::string detail = {};    ///< what was seen
    std::string used_for = {};  ///< what the library uses it for
    std::string without = {};   ///< what happens without it
    std::string enable = {};    ///< the command that would turn it on, or why there is none
    std::string since = {};     ///< "Linux 6.1"; empty where every supported kernel has it
    bool required = false;
};

}  // namespace vmcow
