#pragma once

#include <cstddef>
#include <vector>

#include "bench/value/rows.hpp"
#include "procrun/pool.hpp"

namespace bench {

/// The steps of a chain. In each step a function changes some pages of the value that the step before has left.
struct ChainSteps {
    static constexpr std::size_t kSteps = 100;
    static constexpr std::size_t kPagesEach = 16;

    explicit ChainSteps(std::size_t value_bytes) : offsets_(scattered_offsets(value_bytes, kSteps * kPagesEach)) {}

    /// The offset at which step `step` writes 8 bytes to its page `page`. Steps share pages if the value has too few.
    [[nodiscard]] std::size_t offset(std::size_t step, std::size_t page) const noexcept {
        return offsets_[(step * kPagesEach + page) % offsets_.size()];
    }
    [[nodiscard]] static std::uint64_t word(std::size_t step) noexcept { return 1000 + step; }
    /// The number of different pages that the steps write to.
    [[nodiscard]] std::size_t changed_pages() const noexcept { return offsets_.size(); }
    void change(std::byte* value, std::size_t step) const noexcept;

private:
    std::vector<std::size_t> offsets_;
};

/// Makes the steps. Function processes of pools made afterwards inherit them, so that a call carries only numbers.
void set_chain_steps(std::size_t value_bytes);
[[nodiscard]] const ChainSteps& chain_steps();

/// Runs the chain through `pool`. `values` begins with the base, and the value of each step is appended.
void run_apply_chain(procrun::Pool& pool, std::vector<Bytes>& values);
/// Throws std::runtime_error if the values of a chain are wrong.
void verify_chain(const std::vector<Bytes>& values);

/// Runs the chain of raw/fork_chain over `heap`, and restores `heap`. Returns the seconds of all steps.
[[nodiscard]] double run_fork_chain(std::vector<std::byte>& heap);

}  // namespace bench
