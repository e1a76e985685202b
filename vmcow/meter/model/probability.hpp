#pragma once

namespace vmcow::meter {

/// The probability that n writes all miss a block that each of them hits with probability `p`.
[[nodiscard]] double all_miss(double p, double n) noexcept;
/// The probability that at least one of n writes hits a block that each of them hits with probability `p`.
[[nodiscard]] double some_hit(double p, double n) noexcept;
/// The covariance of "all n writes miss A" and "all n writes miss B". Each write hits A with probability `a`, B with
/// probability `b`, and both at once with probability `both`.
[[nodiscard]] double covariance(double a, double b, double both, double n) noexcept;

}  // namespace vmcow::meter
