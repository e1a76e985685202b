#pragma once

#include <cstdint>
#include <random>

namespace vmcow::meter {

/// An engine whose sequence the C++ standard fixes. The distributions below are written out, because those of the
/// standard differ from library to library, and a seed must give the same sequence of writes everywhere.
using RandomEngine = std::mt19937_64;

/// A whole number below `range`, all equally likely. Pre: `range` > 0.
/// Source: Lemire, Fast Random Integer Generation in an Interval, 2019.
[[nodiscard]] std::uint64_t bounded(RandomEngine& engine, std::uint64_t range) noexcept;

/// A real number in [0, 1).
[[nodiscard]] double unit_real(RandomEngine& engine) noexcept;

/// Draws ranks 1 … `ranks`, rank r with a probability proportional to r^-0.99.
///
/// Cost:   O(1) a draw, without a table.
/// Source: Hörmann and Derflinger, Rejection-Inversion to Generate Variates from Monotone Discrete Distributions, 1996.
class ZipfRanks {
public:
    static constexpr double kExponent = 0.99;

    explicit ZipfRanks(std::uint64_t ranks) noexcept;

    [[nodiscard]] std::uint64_t draw(RandomEngine& engine) const noexcept;
    /// A number to which the probability of `rank` is proportional.
    [[nodiscard]] static double weight(double rank) noexcept;

private:
    /// The integral of `weight` from 1 to `x`.
    static double integral(double x) noexcept;
    /// The x for which `integral(x)` is `y`.
    static double inverse_integral(double y) noexcept;

    std::uint64_t ranks_;
    double lowest_;
    double highest_;
    double always_accepted_;
};

/// A permutation of 0 … count-1 that puts neighbours far apart. Cost: O(1) a call, without a table.
class Scatter {
public:
    explicit Scatter(std::uint64_t count) noexcept;
    [[nodiscard]] std::uint64_t operator()(std::uint64_t index) const noexcept;

private:
    std::uint64_t count_;
    std::uint64_t factor_;
};

}  // namespace vmcow::meter
