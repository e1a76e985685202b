#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/equivalence/engine.hpp"

namespace equivalence {

/// Where an engine sees something else than the reference; empty when both see the same.
[[nodiscard]] std::string mismatch(Engine& reference, Engine& engine, const Program& program);

/// The results of programs on several engines.
struct Comparison {
    struct Tally {
        std::string engine;
        std::uint64_t passed = 0;
        double seconds = 0;
    };
    struct Mismatch {
        std::string engine;
        std::string where;
        Program program;  ///< shrunk to its shortest form
    };

    std::uint64_t programs = 0;
    std::vector<Tally> tallies;  ///< the first is the reference
    std::optional<Mismatch> mismatch;

    /// One line and the program, or an empty text when there is no mismatch.
    [[nodiscard]] std::string describe() const;
};

/// Runs random programs until an engine disagrees with the reference; that program is then shrunk.
[[nodiscard]] Comparison compare(Engine& reference, const Engines& engines, int programs, std::uint64_t seed);

}  // namespace equivalence
