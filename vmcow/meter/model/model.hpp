#pragma once

#include <cstdint>
#include <optional>

#include "vmcow/meter/model/expectation.hpp"
#include "vmcow/meter/model/workload.hpp"
#include "vmcow/units.hpp"

namespace vmcow::meter {

/// The number of blocks of `block_bytes` that a workload writes to, each counted once. Only the last block may be cut
/// short by the end of the image. A write that stores what was there copies its blocks like any other write.
///
/// A write of w bytes begins at one of S places. It touches block i, the bytes [ib, ib+b), if it begins in a certain
/// interval of these places. Let p(i) be the probability that a write touches block i, and v(i,j) the probability that
/// it touches both i and j:
///
///     not touched by n writes   q(i)   = (1 - p(i))^n                   E   = sum over i of 1 - q(i)
///     neither of the two        q(i,j) = (1 - p(i) - p(j) + v(i,j))^n   Var = sum over i,j of q(i,j) - q(i) q(j)
///
/// where q(i,i) = q(i). v is 0 for blocks more than D = (b+w-2)/b blocks apart, rounded down. Nothing is left out: the
/// sums include that fewer writes reach the blocks at the ends of the image, that the last block may be short, and that
/// a write that straddles blocks makes neighbours depend on each other. For uniform writes that start anywhere in R
/// bytes, a block in the middle of the image has p = (b+w-1)/(R-w+1). Differences of probabilities are computed with
/// expm1 and log1p, so that neither 10^9 writes nor 10^8 blocks use up the digits of a double.
///
/// The blocks of sequential writes, strides and traces are counted.
///
/// Pre:  the workload is valid; `block_bytes` > 0.
/// Cost: uniform, starting anywhere: O(w/b). Sequential: O(1). Stride: O(slots). Trace: a bit for each block.
///       Otherwise O(R/b (1+w/b)), and the deviation is not computed past 2^24 pairs of neighbours. Zipf needs 8 bytes
///       for each page of the image.
[[nodiscard]] Expectation expect_copied(const Workload& workload, std::uint64_t block_bytes = kPageBytes);

/// How far `blocks` is from the expected number, in standard deviations. If chance plays no part: 0 if `blocks` is the
/// expected number, else nothing.
[[nodiscard]] std::optional<double> residual_sigma(const Expectation& expected, std::uint64_t blocks) noexcept;

}  // namespace vmcow::meter
