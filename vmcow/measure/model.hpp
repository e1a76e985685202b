#pragma once

#include <cstdint>
#include <optional>

#include "vmcow/measure/workload.hpp"
#include "vmcow/units.hpp"

namespace vmcow::measure {

/// What copy-on-write in blocks of a given size is to be expected to copy.
struct Expectation {
    double blocks = 0;
    /// The standard deviation; 0 where chance plays no part, nothing where it takes too long to compute.
    std::optional<double> sigma;
};

/// The blocks of `block_bytes` that a workload writes to, each counted once. Only the last block may be cut short by
/// the end of the image. Writes that store what was there copy as any other.
///
/// A write begins at one of S places, and block i is touched from an interval of them: those from which a write of w
/// bytes reaches into [ib, ib+b). With p(i) the probability of a write to begin there, and v(i,j) to begin where it
/// touches i as well as j:
///
///     not touched by n writes   q(i)   = (1 - p(i))^n                   E   = sum over i of 1 - q(i)
///     neither of the two        q(i,j) = (1 - p(i) - p(j) + v(i,j))^n   Var = sum over i,j of q(i,j) - q(i) q(j)
///
/// where q(i,i) = q(i). v is 0 beyond a distance of D = (b+w-2)/b blocks, rounded down. Nothing is left out: blocks at
/// the ends of the image, which fewer writes reach, the last one, which may be short, and writes that straddle blocks
/// and so tie neighbours together all count. In the middle of the image this is, for uniform writes that start anywhere
/// in R bytes, p = (b+w-1)/(R-w+1). Differences of probabilities are taken with expm1 and log1p, so that neither 10^9
/// writes nor 10^8 blocks use up the digits.
///
/// Sequential writes, strides and traces are counted.
///
/// Pre:  the workload is valid; `block_bytes` > 0.
/// Cost: uniform, starting anywhere: O(w/b). Sequential: O(1). Stride: O(slots). Trace: a bit
///       for each block. Otherwise O(R/b (1+w/b)), and the
///       deviation is not computed past 2^24 pairs of neighbours. Zipf needs 8 bytes a page of the image.
[[nodiscard]] Expectation expect_copied(const Workload& workload, std::uint64_t block_bytes = kPageBytes);

/// How far `blocks` is from what was expected, in standard deviations. Where chance plays no part: 0 if it is exactly
/// that, else nothing.
[[nodiscard]] std::optional<double> residual_sigma(const Expectation& expected, std::uint64_t blocks) noexcept;

}  // namespace vmcow::measure
