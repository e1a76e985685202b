#include "pipes/pump/pump_report.hpp"

#include <string.h>

#include <system_error>

namespace pipes {

std::string EndReport::reason() const {
    switch (state) {
        case EndState::finished:
            return "end of file";
        case EndState::reader_gone:
            return "reader gone";
        case EndState::stopped:
            return "stopped";
        case EndState::failed:
        case EndState::spill_failed:
            break;
    }
    const char* const name = ::strerrorname_np(error);
    return (name == nullptr ? std::to_string(error) : name) + std::string(": ") +
           std::generic_category().message(error);
}

}  // namespace pipes
