#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pipes/pump/pump_options.hpp"
#include "pipes/pump/pump_report.hpp"
#include "pipes/pump/spill_file.hpp"

namespace pipes {

/// Bytes that one end has not taken while others went on: a queue that begins in memory and goes on in a file.
///
///     front  [ memory: up to memory_bytes ][ file: up to spill_bytes ]  back
///
/// While the file holds bytes, new bytes go to the end of the file.
class Backlog {
public:
    /// `options` outlives the backlog. The notice names end `end` of flow `flow`.
    Backlog(const PumpOptions& options, std::size_t flow, std::size_t end) noexcept
        : options_(&options), flow_(flow), end_(end) {}

    /// Appends bytes. Returns 0, or the errno because of which nothing can be held any more.
    [[nodiscard]] int push(std::span<const std::byte> bytes);
    /// The first bytes, at least one; empty when there are none, and when they cannot be read back, with `error` set.
    [[nodiscard]] std::span<const std::byte> front();
    /// Takes bytes off the front.
    /// Pre: no more than `front` returned.
    void drop(std::size_t bytes) noexcept;
    void clear() noexcept;

    [[nodiscard]] std::uint64_t bytes() const noexcept { return in_memory() + (file_ ? file_->bytes() : 0); }
    [[nodiscard]] bool empty() const noexcept { return bytes() == 0; }
    [[nodiscard]] int error() const noexcept { return error_; }
    /// Writes to the end's report how much was held.
    void report_to(EndReport& report) const noexcept;

private:
    [[nodiscard]] std::size_t in_memory() const noexcept { return memory_.size() - begin_; }
    [[nodiscard]] int push_to_file(std::span<const std::byte> bytes);
    void open_file();

    const PumpOptions* options_;
    std::size_t flow_;
    std::size_t end_;
    std::vector<std::byte> memory_;
    std::size_t begin_ = 0;
    std::optional<SpillFile> file_;
    std::uint64_t most_in_memory_ = 0;
    std::uint64_t spilled_ = 0;
    int error_ = 0;
};

}  // namespace pipes
