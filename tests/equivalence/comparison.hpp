#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/equivalence/engine.hpp"

namespace equivalence {

/// Where an engine sees something else than the reference does; empty where it does not.
[[nodiscard]] std::string mismatch(Engine& reference, Engine& engine, const Program& program);

/// What came of running programs on several engines.
struct Comparison {
    struct Tally {
        std::string engine;
        std::uint64_t passed = 0;
        double seconds = 0;
    };
    struct Mismatch {
        std::string engine;
        std::string where;
        Program program;  ///< as short as it can be made
    };

    std::uint64_t programs = 0;
    std::vector<Tally> tallies;  ///< the reference is the first
    std::optional<Mismatch> mismatch;

    /// One line, and the program; empty where there is no mismatch.
    [[nodiscard]] std::string describe() const;
};

/// Runs random programs, until one of them is run otherwise than by the reference; that one is then shrunk.
[[nodiscard]] Comparison compare(Engine& reference, const Engines& engines, int programs, std::uint64_t seed);

}  // namespace equivalence
