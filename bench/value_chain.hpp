#pragma once

#include <cstddef>
#include <vector>

#include "bench/value_rows.hpp"
#include "procrun/pool.hpp"

namespace bench {

/// The steps of a chain: in each a function changes some pages of what the step before has left.
struct ChainSteps {
    static constexpr std::size_t kSteps = 100;
    static constexpr std::size_t kPagesEach = 16;

    explicit ChainSteps(std::size_t value_bytes) : offsets_(scattered_offsets(value_bytes, kSteps * kPagesEach)) {}

    /// Where step `step` writes 8 bytes each. A value that has not enough pages is written to again.
    [[nodiscard]] std::size_t offset(std::size_t step, std::size_t page) const noexcept {
        return offsets_[(step * kPagesEach + page) % offsets_.size()];
    }
    [[nodiscard]] static std::uint64_t word(std::size_t step) noexcept { return 1000 + step; }
    /// Different pages that the steps write to.
    [[nodiscard]] std::size_t changed_pages() const noexcept { return offsets_.size(); }
    void change(std::byte* value, std::size_t step) const noexcept;

private:
    std::vector<std::size_t> offsets_;
};

/// Lets the function processes of pools that are made from now on know the steps: only numbers travel with a call.
void set_chain_steps(std::size_t value_bytes);
[[nodiscard]] const ChainSteps& chain_steps();

/// Runs the chain through `pool`: `values` begins with the base, and gets each step's value at its end.
void run_apply_chain(procrun::Pool& pool, std::vector<Bytes>& values);
/// Throws what is wrong with the values of a chain.
void verify_chain(const std::vector<Bytes>& values);

/// raw/fork_chain: seconds for all steps over `heap`, which is as before afterwards.
[[nodiscard]] double run_fork_chain(std::vector<std::byte>& heap);

}  // namespace bench
