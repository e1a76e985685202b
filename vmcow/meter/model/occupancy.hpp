#pragma once

#include <cstdint>

#include "vmcow/meter/model/expectation.hpp"
#include "vmcow/meter/model/workload.hpp"

namespace vmcow::meter {

// `expect_copied` computes random patterns in one of two ways. Both are exact, and the tests compare them.

/// Uniform writes that start anywhere, in closed form. Pre: Pattern::uniform, not aligned.
[[nodiscard]] Expectation expect_uniform(const Workload& workload, std::uint64_t block_bytes);

/// Any random pattern, block by block.
[[nodiscard]] Expectation expect_by_block(const Workload& workload, std::uint64_t block_bytes);

}  // namespace vmcow::meter
