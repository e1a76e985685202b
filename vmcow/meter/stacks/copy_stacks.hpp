#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/meter/stacks/fault_sampler.hpp"
#include "vmcow/meter/stacks/symbols.hpp"

namespace vmcow::meter {

/// Copies made by the instructions of one source line, or of one function if lines are not known.
struct FunctionCopies {
    CodeName name;
    std::uint64_t copied_pages = 0;
    double share = 0;  ///< of all copies whose fault was seen
};

/// Copies by the place in the program that made them, most copies first.
[[nodiscard]] std::vector<FunctionCopies> copies_by_function(const std::map<CallChain, std::uint64_t>& copies,
                                                             Symbols& symbols);

/// Copies as folded stacks: for each chain a line "outermost;…;innermost COUNT", inlined functions included, in
/// ascending order. Each line begins with `program`. A semicolon in a name becomes a colon, a control character '?'.
/// Source: the format that flame graph programs read.
[[nodiscard]] std::string folded_stacks(const std::map<CallChain, std::uint64_t>& copies, Symbols& symbols,
                                        const std::string& program);

/// What a reader must know about these figures, a sentence each: faults that were lost, inferred or not settled.
[[nodiscard]] std::vector<std::string> notes_on(const SampledFaults& faults);

}  // namespace vmcow::meter
