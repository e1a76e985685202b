#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vmcow/measure/fault_sampler.hpp"
#include "vmcow/measure/symbols.hpp"

namespace vmcow::measure {

/// Copies that the instructions of one source line made, or of one function where lines are not known.
struct FunctionCopies {
    CodeName name;
    std::uint64_t copied_pages = 0;
    double share = 0;  ///< of all copies whose fault was seen
};

/// Copies by where the program was when it made them, most first.
[[nodiscard]] std::vector<FunctionCopies> copies_by_function(const std::map<CallChain, std::uint64_t>& copies,
                                                             Symbols& symbols);

/// The same as folded stacks: for each chain a line "outermost;…;innermost COUNT", functions that were inlined
/// included, ascending. `program` stands before all. A semicolon in a name becomes a colon, a control character '?'.
/// Source: the format that flame graph programs read.
[[nodiscard]] std::string folded_stacks(const std::map<CallChain, std::uint64_t>& copies, Symbols& symbols,
                                        const std::string& program);

/// What a reader must know of these figures, each a sentence: faults that were lost, inferred or not settled.
[[nodiscard]] std::vector<std::string> notes_on(const SampledFaults& faults);

}  // namespace vmcow::measure
