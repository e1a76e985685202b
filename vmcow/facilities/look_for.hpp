#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <system_error>
#include <utility>

#include "vmcow/facilities/facility.hpp"

namespace vmcow {

/// What one look at a facility found.
struct Sighting {
    FacilityState state;
    std::string detail;
    std::string enable = {};  ///< replaces the facility's command when the result calls for another one
};

/// Fills in a facility from `look()`, which returns a Sighting or throws the kernel's refusal. An errno among `lacking`
/// means that the facility is not available here; any other errno leaves the answer unknown.
template <class Look>
Facility look_for(Facility facility, std::initializer_list<int> lacking, Look&& look) {
    try {
        Sighting sighting = std::forward<Look>(look)();
        facility.state = sighting.state;
        facility.detail = std::move(sighting.detail);
        if (!sighting.enable.empty()) facility.enable = std::move(sighting.enable);
    } catch (const std::system_error& refusal) {
        const bool absent = std::find(lacking.begin(), lacking.end(), refusal.code().value()) != lacking.end();
        facility.state = absent ? FacilityState::absent : FacilityState::unknown;
        facility.detail = refusal.what();
    }
    return facility;
}

}  // namespace vmcow
