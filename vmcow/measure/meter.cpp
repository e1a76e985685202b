#include "vmcow/measure/meter.hpp"

namespace vmcow::measure {

std::optional<double> Meter::amplification() const noexcept {
    if (logical_bytes.value_or(0) == 0) return std::nullopt;
    return static_cast<double>(copied_bytes()) / static_cast<double>(*logical_bytes);
}

}  // namespace vmcow::measure
