#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmcow::cli {

/// The figures of a run that a budget can limit. An unknown figure has no value (I8).
struct BudgetFigures {
    std::optional<std::uint64_t> copied_bytes;
    std::optional<double> amplification;
    std::optional<double> identical_share;  ///< the share of the copied pages that hold the same bytes as before: 0 … 1
};

/// Limits on what a run may copy: a build fails when one is exceeded.
///
/// Shape: limits separated by commas, each at most once: `copied=200M` (a size, or 0), `amplification=64`,
///        `identical=20%`.
class Budget {
public:
    /// A budget without limits, which every run keeps.
    Budget() = default;
    /// Throws: std::invalid_argument that names the wrong word.
    [[nodiscard]] static Budget parse(std::string_view text);

    /// One line that names each exceeded limit, with by how much, and each limit whose figure is unknown; nullopt when
    /// all limits were kept.
    [[nodiscard]] std::optional<std::string> complaint(const BudgetFigures& figures) const;
    /// Call it when the figures have been written.
    /// Throws: Failure -- exit 1, with the line of `complaint`.
    void require(const BudgetFigures& figures) const;

private:
    void take(std::string_view word);

    BudgetFigures most_;
};

/// Adds `--budget` to a verb.
CLI::Option* add_budget(CLI::App& verb, Budget& budget);

/// The share of the copied pages in which nothing changed: nullopt if either count is unknown, 0 if no page was copied.
[[nodiscard]] std::optional<double> identical_share(std::optional<std::uint64_t> identical_pages,
                                                    std::optional<std::uint64_t> copied_pages);

}  // namespace vmcow::cli
