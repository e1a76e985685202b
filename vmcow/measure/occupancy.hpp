#pragma once

#include <cstdint>

#include "vmcow/measure/model.hpp"
#include "vmcow/measure/workload.hpp"

namespace vmcow::measure {

// The two ways in which `expect_copied` computes the random patterns. Both are exact; the tests hold them against each
// other.

/// Uniform writes that start anywhere, in closed form. Pre: Pattern::uniform, not aligned.
[[nodiscard]] Expectation expect_uniform(const Workload& workload, std::uint64_t block_bytes);

/// Any random pattern, block by block.
[[nodiscard]] Expectation expect_by_block(const Workload& workload, std::uint64_t block_bytes);

/// The probability that n writes all miss what one of them hits with probability `p`.
[[nodiscard]] double all_miss(double p, double n) noexcept;
/// That they do not.
[[nodiscard]] double some_hit(double p, double n) noexcept;
/// The covariance of "all miss A" and "all miss B", hit with probabilities `a` and `b`, and both at once with `both`.
[[nodiscard]] double covariance(double a, double b, double both, double n) noexcept;

}  // namespace vmcow::measure
