#pragma once

#include <optional>

namespace vmcow::meter {

/// The number of blocks of a given size that copy-on-write is expected to copy.
struct Expectation {
    double blocks = 0;
    /// The standard deviation of `blocks`. 0 if chance plays no part; nothing if computing it would take too long.
    std::optional<double> sigma;
};

}  // namespace vmcow::meter
