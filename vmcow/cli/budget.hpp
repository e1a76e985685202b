#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmcow::cli {

/// What is held against a budget. What is unknown has no value (I8).
struct BudgetFigures {
    std::optional<std::uint64_t> copied_bytes;
    std::optional<double> amplification;
    std::optional<double> identical_share;  ///< of the copied pages, those that hold the same bytes as before: 0 … 1
};

/// The most that a run may copy, for a check in a build that fails past it.
///
/// Shape: limits with commas between them, each at most once: `copied=200M` (a size, or 0), `amplification=64`,
///        `identical=20%`.
class Budget {
public:
    /// A budget without limits, which everything keeps.
    Budget() = default;
    /// Throws: std::invalid_argument that names the word that is wrong.
    [[nodiscard]] static Budget parse(std::string_view text);

    /// One line that names each limit that was exceeded, and by how much, or whose figure is unknown; nothing when all
    /// were kept.
    [[nodiscard]] std::optional<std::string> complaint(const BudgetFigures& figures) const;
    /// Throws: Failure -- exit 1, with that line. To be called when the figures have been written.
    void require(const BudgetFigures& figures) const;

private:
    void take(std::string_view word);

    BudgetFigures most_;
};

/// Adds `--budget` to a verb.
CLI::Option* add_budget(CLI::App& verb, Budget& budget);

/// The share of the copied pages in which nothing changed; unknown while either is, and 0 where nothing was copied.
[[nodiscard]] std::optional<double> identical_share(std::optional<std::uint64_t> identical_pages,
                                                    std::optional<std::uint64_t> copied_pages);

}  // namespace vmcow::cli
