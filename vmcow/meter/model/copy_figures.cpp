#include "vmcow/meter/model/copy_figures.hpp"

namespace vmcow::meter {

std::optional<double> CopyFigures::amplification() const noexcept {
    if (logical_bytes.value_or(0) == 0) return std::nullopt;
    return static_cast<double>(copied_bytes()) / static_cast<double>(*logical_bytes);
}

}  // namespace vmcow::meter
