#include "vmcow/meter/model/probability.hpp"

#include <algorithm>
#include <cmath>

namespace vmcow::meter {

double all_miss(double p, double n) noexcept { return p >= 1 ? 0 : std::exp(n * std::log1p(-p)); }

double some_hit(double p, double n) noexcept { return p >= 1 ? 1 : -std::expm1(n * std::log1p(-p)); }

double covariance(double a, double b, double both, double n) noexcept {
    if (a >= 1 || b >= 1) return 0;
    // (1-a-b+both)^n - (1-a)^n (1-b)^n. The second term is factored out, because the two are nearly equal.
    const double ratio = std::max(-1.0, (both - a * b) / ((1 - a) * (1 - b)));
    const double independent = n * (std::log1p(-a) + std::log1p(-b));
    const double joint = n * std::log1p(ratio);
    if (joint > 1) return std::exp(independent + joint) - std::exp(independent);
    return std::exp(independent) * std::expm1(joint);
}

}  // namespace vmcow::meter
