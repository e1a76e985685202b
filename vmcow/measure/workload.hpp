#pragma once

#include <cstdint>

#include "vmcow/measure/random.hpp"

namespace vmcow::measure {

/// Where the writes of a workload go. "Anywhere" is any byte, or any multiple of the write's length when `aligned`.
enum class Pattern {
    uniform,     ///< anywhere, each place equally likely
    sequential,  ///< one behind the other; from the start again when the next one no longer fits
    stride,      ///< one in each page, page after page; each lap behind the bytes of the lap before
    zipf,        ///< pages by popularity: the r-th most popular with weight r^-0.99, scattered over the image
    hot,         ///< 90 % into the first tenth of the image, the others into the rest
};

/// The name that stands in reports.
[[nodiscard]] const char* name_of(Pattern pattern) noexcept;

/// Writes to an image of `size_bytes`: the same sequence wherever and whenever it runs.
struct Workload {
    std::uint64_t size_bytes = std::uint64_t{256} << 20;
    std::uint64_t writes = 100'000;
    std::uint64_t write_bytes = 8;
    Pattern pattern = Pattern::uniform;
    /// Each write begins at a multiple of `write_bytes`, like the items of an array.
    bool aligned = false;
    std::uint64_t seed = 1;
    /// The share of the writes, 0 … 1, that store what the image held to begin with: they copy pages and change
    /// nothing.
    double rewrite_same = 0;

    /// Throws: std::invalid_argument that says what makes no sense.
    void validate() const;
    [[nodiscard]] std::uint64_t logical_bytes() const noexcept { return writes * write_bytes; }
    bool operator==(const Workload&) const = default;
};

/// The places at which a write may begin: `index * step_bytes` for each index below `count`.
struct Starts {
    explicit Starts(const Workload& workload) noexcept;

    std::uint64_t step_bytes;
    std::uint64_t count;
    /// Pattern::hot: the first of them are hot.
    std::uint64_t hot;
    /// Pattern::zipf: this many together have one popularity: a page of them, as near as whole steps come to it.
    std::uint64_t per_unit;
    std::uint64_t units;

    static constexpr std::uint64_t kHotWritesOfTen = 9;
};

/// Pattern::stride: `slots` of `stride_bytes`, one write in each per lap, `laps` laps until the first comes again.
struct Stride {
    explicit Stride(const Workload& workload) noexcept;

    std::uint64_t stride_bytes;
    std::uint64_t slots;
    std::uint64_t laps;
};

struct Write {
    std::uint64_t offset;
    bool same;  ///< stores what was there
};

/// The writes of a workload, one after the other. Allocates nothing and touches no memory but itself, so that page
/// faults while it runs are not its own. Pre: the workload is valid.
class WriteSequence {
public:
    explicit WriteSequence(const Workload& workload) noexcept;
    [[nodiscard]] Write next() noexcept;

private:
    std::uint64_t next_offset() noexcept;
    std::uint64_t next_index() noexcept;

    Workload workload_;
    Starts starts_;
    Stride stride_;
    ZipfRanks ranks_;
    Scatter scatter_;
    std::uint64_t done_ = 0;
    Engine places_;
    Engine sames_;  // apart, so that the places do not depend on the share
};

}  // namespace vmcow::measure
