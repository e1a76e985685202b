#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <system_error>
#include <utility>

#include "vmcow/facilities.hpp"

namespace vmcow {

/// What one look at a facility found.
struct Sighting {
    FacilityState state;
    std::string detail;
    std::string enable = {};  ///< replaces the facility's where what was seen calls for another command
};

/// Fills in a facility from `look()`, which returns a Sighting or throws what the kernel refused: an errno among
/// `lacking` is how this call says that it is not to be had here, any other one leaves the answer unknown.
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
