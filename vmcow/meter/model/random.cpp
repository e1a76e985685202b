#include "vmcow/meter/model/random.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "vmcow/sys/error.hpp"

namespace vmcow::meter {
namespace {

__extension__ using Wide = unsigned __int128;

}  // namespace

std::uint64_t bounded(RandomEngine& engine, std::uint64_t range) noexcept {
    VMCOW_ASSERT(range > 0 && "no number is below 0");
    Wide product = Wide{engine()} * range;
    auto low = static_cast<std::uint64_t>(product);
    if (low < range) {
        const std::uint64_t threshold = (0 - range) % range;
        while (low < threshold) {
            product = Wide{engine()} * range;
            low = static_cast<std::uint64_t>(product);
        }
    }
    return static_cast<std::uint64_t>(product >> 64);
}

double unit_real(RandomEngine& engine) noexcept { return static_cast<double>(engine() >> 11) * 0x1p-53; }

ZipfRanks::ZipfRanks(std::uint64_t ranks) noexcept
    : ranks_(ranks),
      lowest_(integral(1.5) - 1),
      highest_(integral(static_cast<double>(ranks) + 0.5)),
      always_accepted_(2 - inverse_integral(integral(2.5) - weight(2))) {}

std::uint64_t ZipfRanks::draw(RandomEngine& engine) const noexcept {
    for (;;) {
        const double area = highest_ + unit_real(engine) * (lowest_ - highest_);
        const double x = inverse_integral(area);
        const std::uint64_t rank = std::clamp(static_cast<std::uint64_t>(std::llround(x)), std::uint64_t{1}, ranks_);
        const auto real_rank = static_cast<double>(rank);
        if (real_rank - x <= always_accepted_ || area >= integral(real_rank + 0.5) - weight(real_rank)) return rank;
    }
}

double ZipfRanks::weight(double rank) noexcept { return std::exp(-kExponent * std::log(rank)); }

double ZipfRanks::integral(double x) noexcept {
    constexpr double kPower = 1 - kExponent;
    return std::expm1(kPower * std::log(x)) / kPower;
}

double ZipfRanks::inverse_integral(double y) noexcept {
    constexpr double kPower = 1 - kExponent;
    return std::exp(std::log1p(kPower * y) / kPower);
}

Scatter::Scatter(std::uint64_t count) noexcept
    // The golden section puts each next index into the largest gap that the earlier indices left.
    : count_(count), factor_(static_cast<std::uint64_t>(static_cast<double>(count) * 0.6180339887498949)) {
    while (std::gcd(factor_, count_) != 1) ++factor_;
}

std::uint64_t Scatter::operator()(std::uint64_t index) const noexcept {
    return static_cast<std::uint64_t>(Wide{index} * factor_ % count_);
}

}  // namespace vmcow::meter
