#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <variant>

#include "vmcow/measure/random.hpp"
#include "vmcow/measure/trace.hpp"

namespace vmcow::measure {

/// No address space that this runs in holds more, and no sum of sizes overflows.
inline constexpr std::uint64_t kLargestImage = std::uint64_t{1} << 46;

/// Where the writes of a workload go. "Anywhere" is any byte, or any multiple of the write's length when `aligned`.
enum class Pattern {
    uniform,     ///< anywhere, each place equally likely
    sequential,  ///< one behind the other; from the start again when the next one no longer fits
    stride,      ///< one in each page, page after page; each lap behind the bytes of the lap before
    zipf,        ///< pages by popularity: the r-th most popular with weight r^-0.99, scattered over the image
    hot,         ///< 90 % into the first tenth of the image, the others into the rest
    trace,       ///< where a trace has them, in its order
};

/// The name that stands in reports.
[[nodiscard]] const char* name_of(Pattern pattern) noexcept;

/// Writes to an image of `size_bytes`: the same sequence wherever and whenever it runs.
struct Workload {
    std::uint64_t size_bytes = std::uint64_t{256} << 20;
    std::uint64_t writes = 100'000;
    std::uint64_t write_bytes = 8;  ///< of each write; 0 for a trace, where each has a length of its own
    Pattern pattern = Pattern::uniform;
    /// Each write begins at a multiple of `write_bytes`, like the items of an array.
    bool aligned = false;
    std::uint64_t seed = 1;
    /// The share of the writes, 0 … 1, that store what the image held to begin with: they copy pages and change
    /// nothing.
    double rewrite_same = 0;
    /// Pattern::trace: what is replayed, its first `writes` writes. Two workloads are the same if it is the same
    /// object.
    std::shared_ptr<const Trace> trace = {};

    /// Throws: std::invalid_argument that says what makes no sense.
    void validate() const;
    /// What all writes write. Cost: of a trace, going through it.
    [[nodiscard]] std::uint64_t logical_bytes() const noexcept;
    bool operator==(const Workload&) const = default;
};

/// All writes of `trace`, to the smallest image in whole pages that holds them.
[[nodiscard]] Workload replay(std::shared_ptr<const Trace> trace);

/// The places at which a write of a random pattern may begin: `index * step_bytes` for each index below `count`.
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

/// Where the next write begins and how long it is; one of these for each way in which writes come about. They allocate
/// nothing.
struct Place {
    std::uint64_t offset;
    std::uint64_t bytes;
};

class SequentialPlaces {
public:
    explicit SequentialPlaces(const Workload& workload) noexcept;
    [[nodiscard]] Place next() noexcept;

private:
    std::uint64_t bytes_;
    std::uint64_t places_;
    std::uint64_t at_ = 0;
};

class StridePlaces {
public:
    explicit StridePlaces(const Workload& workload) noexcept : stride_(workload), bytes_(workload.write_bytes) {}
    [[nodiscard]] Place next() noexcept;

private:
    Stride stride_;
    std::uint64_t bytes_;
    std::uint64_t slot_ = 0;
    std::uint64_t lap_ = 0;
};

/// Pattern::uniform, zipf and hot.
class RandomPlaces {
public:
    explicit RandomPlaces(const Workload& workload) noexcept;
    [[nodiscard]] Place next() noexcept;

private:
    std::uint64_t next_index() noexcept;

    Pattern pattern_;
    std::uint64_t bytes_;
    Starts starts_;
    ZipfRanks ranks_;
    Scatter scatter_;
    Engine engine_;
};

/// From the start again when the trace is over.
class TracePlaces {
public:
    explicit TracePlaces(const Workload& workload) noexcept : trace_(workload.trace) {}
    [[nodiscard]] Place next() noexcept;

private:
    std::shared_ptr<const Trace> trace_;
    std::size_t at_ = 0;
};

struct Write {
    std::uint64_t offset;
    std::uint64_t bytes;
    bool same;  ///< stores what was there
};

/// The writes of a workload, one after the other. Allocates nothing and touches no memory but itself and a trace, so
/// that page faults while it runs are not its own. Pre: the workload is valid.
class WriteSequence {
public:
    explicit WriteSequence(const Workload& workload) noexcept;
    [[nodiscard]] Write next() noexcept;

private:
    using Places = std::variant<SequentialPlaces, StridePlaces, RandomPlaces, TracePlaces>;
    static Places places_of(const Workload& workload) noexcept;
    Place next_place() noexcept;

    Places places_;
    double rewrite_same_;
    Engine sames_;  // apart, so that the places do not depend on the share
};

}  // namespace vmcow::measure
