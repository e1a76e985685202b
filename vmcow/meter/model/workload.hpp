#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <variant>

#include "vmcow/meter/model/random.hpp"
#include "vmcow/meter/model/trace.hpp"

namespace vmcow::meter {

/// Where the writes of a workload go. "Anywhere" is any byte, or any multiple of the write's length when `aligned`.
enum class Pattern {
    uniform,     ///< anywhere, each place equally likely
    sequential,  ///< one behind the other; from the start again when the next write no longer fits
    stride,      ///< one in each page, page after page; each lap writes behind the bytes of the lap before
    zipf,        ///< pages by popularity: the r-th most popular with weight r^-0.99, scattered over the image
    hot,         ///< 90 % into the first tenth of the image, the others into the rest
    trace,       ///< at the places of a trace, in the order of the trace
};

/// The name of a pattern in reports.
[[nodiscard]] const char* name_of(Pattern pattern) noexcept;

/// Writes to an image of `size_bytes`. The sequence is the same on every machine and in every run.
struct Workload {
    std::uint64_t size_bytes = std::uint64_t{256} << 20;
    std::uint64_t writes = 100'000;
    std::uint64_t write_bytes = 8;  ///< length of each write; 0 for a trace, whose writes differ in length
    Pattern pattern = Pattern::uniform;
    /// Each write begins at a multiple of `write_bytes`, like the items of an array.
    bool aligned = false;
    std::uint64_t seed = 1;
    /// The share of the writes, 0 … 1, that store what the image held at first. They copy pages and change nothing.
    double rewrite_same = 0;
    /// Pattern::trace: the trace whose first `writes` writes are replayed. Two workloads are equal only if they hold
    /// the same trace object.
    std::shared_ptr<const Trace> trace = {};

    /// Throws: std::invalid_argument that names an invalid value and says why it is invalid.
    void validate() const;
    /// The bytes that the writes store, each write counted. Cost: for a trace, one pass over the writes.
    [[nodiscard]] std::uint64_t logical_bytes() const noexcept;
    bool operator==(const Workload&) const = default;
};

/// A workload that replays all writes of `trace` on the smallest image of whole pages that holds them.
[[nodiscard]] Workload replay(std::shared_ptr<const Trace> trace);

/// The places at which a write of a random pattern may begin: `index * step_bytes` for each index below `count`.
struct Starts {
    explicit Starts(const Workload& workload) noexcept;

    std::uint64_t step_bytes;
    std::uint64_t count;
    /// Pattern::hot: the number of places, from the first on, that are hot.
    std::uint64_t hot;
    /// Pattern::zipf: this many neighbouring places have the same popularity: a page of them, in whole steps.
    std::uint64_t per_unit;
    std::uint64_t units;

    static constexpr std::uint64_t kHotWritesOfTen = 9;
};

/// Pattern::stride: `slots` slots of `stride_bytes`. A lap writes once in each slot; after `laps` laps the first place
/// comes again.
struct Stride {
    explicit Stride(const Workload& workload) noexcept;

    std::uint64_t stride_bytes;
    std::uint64_t slots;
    std::uint64_t laps;
};

/// Where a write begins and how long it is.
struct Place {
    std::uint64_t offset;
    std::uint64_t bytes;
};

// Each class of places generates those of one or several patterns. None of them allocates.

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
    RandomEngine engine_;
};

/// Pattern::trace. Begins again with the first write after the last one.
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
    bool same;  ///< stores what the image held at first
};

/// The writes of a workload, one after the other. The sequence allocates nothing and touches no memory but its own and
/// the trace's, so that it adds no page faults to those of the writes. Pre: the workload is valid.
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
    RandomEngine sames_;  // a separate engine, so that the places do not depend on the share
};

}  // namespace vmcow::meter
